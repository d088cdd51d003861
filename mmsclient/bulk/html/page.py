"""What the report says, part by part."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from importlib import resources

from attrs import frozen

from mmsclient._store.figures import Figures, ReasonCount
from mmsclient._store.models import Message
from mmsclient._version import __version__
from mmsclient._words import counted
from mmsclient.bulk.html.drawings import shares, timeline_drawing
from mmsclient.bulk.html.markup import Content, Markup, bare, element, facts, joined, table
from mmsclient.bulk.html.timeline import timeline_of
from mmsclient.bulk.models import Exclusion, RecipientState
from mmsclient.bulk.personal import how_pictures_are_made, texts_of
from mmsclient.bulk.report import Report
from mmsclient.bulk.template import Template

__all__ = ["Page"]

STATES = {
    RecipientState.ACCEPTED: "The API took it for delivery.",
    RecipientState.REFUSED: "The API refused it. It is not sent again.",
    RecipientState.UNKNOWN: "It may have been sent. It is not sent again unless somebody says so.",
    RecipientState.SENDING: "Its call is under way, or the process died while it was.",
    RecipientState.FAILED: "Surely not sent. It is sent when the campaign is resumed.",
    RecipientState.PENDING: "To be sent.",
    RecipientState.EXCLUDED: "Set aside before sending.",
}
EXCLUSIONS = {
    Exclusion.INVALID: "It is no phone number.",
    Exclusion.DUPLICATE: "The same phone stood in the list before.",
    Exclusion.OPTED_OUT: "The API lists it as unsubscribed.",
    Exclusion.LISTED: "It stands in a list of numbers to leave out.",
    Exclusion.SUPPRESSED: "It stood in the suppression list when its call was about to leave.",
    Exclusion.ARRIVED: "Its MMS arrived after all, or may have, before its SMS left.",
    Exclusion.NO_MESSAGE: "Its own text, subject or picture cannot be made of its row.",
}
FEW_ROWS = 10
"""Of the list that are shown."""
OPEN = (RecipientState.PENDING, RecipientState.FAILED, RecipientState.SENDING)


@frozen(kw_only=True)
class Page:
    """A campaign's report as a page."""

    title: str
    report: Report
    figures: Figures
    message: Message
    zone: tzinfo
    made_at: datetime

    def html(self) -> str:
        """All of it."""
        style = resources.files("mmsclient.bulk.html").joinpath("report.css").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        head = [
            Markup('<meta charset="utf-8">'),
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup('<meta name="referrer" content="no-referrer">'),
            element("title", self.title),
            Markup(f"<style>{style}</style>"),
        ]
        sections = [
            self._outcome(),
            self._course(),
            self._reasons(),
            self._set_aside(),
            self._unknown(),
            self._calls(),
            self._by_sms(),
            self._content(),
            self._rows(),
        ]
        body = [self._header(), element("main", joined(each for each in sections if each is not None)), self._footer()]
        page = element("html", element("head", joined(head)), element("body", joined(body)), lang="en")
        return f"<!DOCTYPE html>\n{page.text}\n"

    # At the top -------------------------------------------------------------------------------------------------------

    def _header(self) -> Markup:
        report, course = self.report, self.figures.course
        times = (
            f"{self._time(course.started)} to {self._time(course.ended)}" if course.started else "Nothing was sent yet"
        )
        counts = report.counts
        delivered = sum(count for status, count in report.deliveries.items() if status.is_delivered)
        cards = {
            "Recipients": report.total,
            "Accepted": counts[RecipientState.ACCEPTED],
            "Delivered": delivered if report.deliveries else "not reported",
            "Refused": counts[RecipientState.REFUSED],
            "Unknown": counts[RecipientState.UNKNOWN],
            "Set aside": counts[RecipientState.EXCLUDED],
            "Credits": f"{report.credits_used:,}",
        }
        return element(
            "header", element("h1", self.title), element("p", times), facts(cards, "cards"), joined(self._warnings())
        )

    def _warnings(self) -> Iterable[Markup]:
        left = sum(self.report.counts[state] for state in OPEN)
        if left:
            yield element("p", f"The campaign is not over: {counted(left, 'recipient')} left.", class_="warning")
        if not self.report.list_read:
            yield element("p", "The list was not read to its end, so there may be more recipients.", class_="warning")

    def _outcome(self) -> Markup:
        counts = {state: self.report.counts[state] for state in STATES if self.report.counts[state]}
        rows: list[tuple[Content, ...]] = [
            (_key(state, state.capitalize()), count, self._share(count), STATES[state])
            for state, count in counts.items()
        ]
        rows.append(("All", self.report.total, self._share(self.report.total), ""))
        bar = shares({str(state): count for state, count in counts.items()}, "Recipients by state")
        return _section("Recipients", bar, table("", ("State", "Recipients", "Share", "Meaning"), rows, last="sum"))

    # In time ----------------------------------------------------------------------------------------------------------

    def _course(self) -> Markup | None:
        timeline = timeline_of(self.figures, self.zone)
        if timeline is None:
            return None
        length = _duration(timeline.seconds)
        keys = [_key("accepted", "accepted by the API")]
        if timeline.has_reports:
            keys += [_key("delivered", "reported as delivered"), _key("undelivered", "reported as not delivered")]
        drawn = timeline_drawing(timeline, "Deliveries over time", "The same figures stand in the table at the end.")
        notes = [f"Each bar stands for {length}; times are {self._zone_name()}."]
        if not timeline.has_reports:
            notes.append("No delivery report was recorded, so only what the API accepted is shown.")
        if timeline.later:
            notes.append(f"The last bar holds {counted(timeline.later, 'report')} more that came later.")
        if self.report.delivery_seconds is not None:
            notes.append(f"Half of the deliveries were reported within {_duration(self.report.delivery_seconds)}.")
        figure = element("figure", drawn, element("figcaption", element("span", joined(keys)), " ", " ".join(notes)))
        statuses = [(str(status), count) for status, count in self.report.deliveries.items()]
        reported: list[tuple[Content, ...]] = [*statuses, ("Nothing final", self.report.open)]
        last = table("", ("Last report", "Recipients"), reported) if statuses else Markup("")
        return _section("Deliveries over time", figure, last)

    def _rows(self) -> Markup | None:
        timeline = timeline_of(self.figures, self.zone)
        if timeline is None:
            return None
        rows: list[tuple[Content, ...]] = [
            (f"{bar.start:%Y-%m-%d %H:%M:%S}", bar.accepted, bar.delivered, bar.undelivered)
            for bar in timeline.bars
            if bar.accepted or bar.delivered or bar.undelivered
        ]
        heads = (f"From ({self._zone_name()})", "Accepted", "Delivered", "Not delivered")
        caption = f"Each row stands for {_duration(timeline.seconds)}; rows without any are left out."
        return _section("The figures of the chart", table(caption, heads, rows))

    # Who did not get it -----------------------------------------------------------------------------------------------

    def _reasons(self) -> Markup | None:
        found = [each for each in self.figures.reasons if each.state is not RecipientState.EXCLUDED]
        states = (RecipientState.REFUSED, RecipientState.FAILED, RecipientState.UNKNOWN)
        total = sum(self.report.counts[state] for state in states)
        if not total:
            return None
        rows: list[tuple[Content, ...]] = [(each.state.capitalize(), each.count, _reason(each)) for each in found]
        if more := total - sum(each.count for each in found):
            rows.append(("Other reasons", more, ""))
        return _section("Refused, failed and unknown, by reason", table("", ("State", "Recipients", "Reason"), rows))

    def _set_aside(self) -> Markup | None:
        found = {why: count for why, count in self.report.exclusions.items() if count}
        if not found:
            return None
        rows: list[tuple[Content, ...]] = [(why.capitalize(), count, EXCLUSIONS[why]) for why, count in found.items()]
        parts = [table("", ("Why", "Rows", "Meaning"), rows)]
        if self.figures.rejected:
            lines: list[tuple[Content, ...]] = [
                (str(each.line), str(each.exclusion), bare(each.reason or ""))
                for each in self.figures.rejected[:FEW_ROWS]
            ]
            parts.append(table("The first rows with a flaw of their own", ("Line", "Why", "Reason"), lines))
        return _section("Set aside", *parts)

    def _unknown(self) -> Markup | None:
        unknown = self.report.unknown
        if not (self.figures.unknown or unknown.count or unknown.proven):
            return None
        told: dict[str, Content] = {"Unknown": unknown.count}
        if unknown.since is not None:
            told["Since"] = self._time(unknown.since.timestamp())
        told["Accepted by evidence"] = unknown.proven
        told["Heard of since, which proves nothing"] = unknown.heard_of
        if unknown.reported_share is not None:
            told["Reports of their runs"] = f"{unknown.reported_share:.1%}"
        if unknown.unaccounted_credits is not None:
            told["Credits that no answer names"] = str(unknown.unaccounted_credits)
        rows: list[tuple[Content, ...]] = [
            (str(each.batch), each.count, self._time(each.started), str(each.state), bare(each.error or "no answer"))
            for each in self.figures.unknown
        ]
        calls = table("Their calls", ("Call", "Recipients", "Began", "State", "What is known"), rows)
        return _section("Unknown", facts(told, "facts"), calls if rows else Markup(""))

    # What it took -----------------------------------------------------------------------------------------------------

    def _calls(self) -> Markup:
        report, course = self.report, self.figures.course
        told: dict[str, Content] = {
            "Calls": report.calls,
            "Of these failed": course.failed_calls,
            "Throttled": course.throttled,
            "Runs": course.runs,
            "Credits used": f"{report.credits_used:,}",
        }
        if accepted := report.counts[RecipientState.ACCEPTED]:
            told["Credits a recipient"] = f"{report.credits_used / accepted:.4g}"
        if course.started is not None and course.ended is not None:
            told["From first to last"] = _duration(course.ended - course.started)
            told["Time of sending"] = _duration(course.sending_seconds)
        if course.sending_seconds >= 1:
            done = sum(self.report.counts[state] for state in (RecipientState.ACCEPTED, RecipientState.REFUSED))
            told["Rate"] = (
                f"{report.calls / course.sending_seconds:.1f} calls and"
                f" {done / course.sending_seconds:,.0f} recipients a second"
            )
        note = element("p", "Time of sending leaves out breaks of more than a minute.", class_="note")
        return _section("Calls and credits", facts(told, "facts"), note)

    def _by_sms(self) -> Markup | None:
        if (beside := self.report.fallback) is None:
            return None
        told: dict[str, Content] = {"Recipients by SMS": beside.total}
        told |= {f"SMS {state}": count for state, count in beside.counts.items() if count}
        told |= {f"SMS reported {status}": count for status, count in beside.deliveries.items()}
        told |= {"Calls for SMS": beside.calls, "Credits for SMS": f"{beside.credits_used:,}"}
        note = "Those whose MMS did not arrive. These credits come on top of the ones above."
        return _section("By SMS", facts(told, "facts"), element("p", note, class_="note"))

    def _content(self) -> Markup:
        message = self.message
        told: dict[str, Content] = {"Text": element("pre", message.text.replace("\r\n", "\n"))}
        if message.subject:
            told["Subject"] = message.subject
        if any(isinstance(each, Template) for each in texts_of(message)):
            told["Made for each recipient"] = "yes: names in braces are filled in"
        own_pictures = how_pictures_are_made(message) is not None
        if message.kind == "sms":
            told["Sent as"] = "SMS"
        else:
            told["Picture"] = "each recipient has one of their own" if own_pictures else f"{len(message.image):,} bytes"
        return _section("The message", facts(told, "facts"))

    def _footer(self) -> Markup:
        made = self._time(self.made_at.timestamp())
        return element(
            "footer", f"Made {made} by mmsclient {__version__}. It holds no phone numbers but those in the message."
        )

    # Words ------------------------------------------------------------------------------------------------------------

    def _share(self, count: int) -> Markup:
        total = self.report.total
        return element("span", f"{count / total:.1%}" if total else "", class_="share")

    def _time(self, seconds: float | None) -> str:
        if seconds is None:
            return "now"
        return datetime.fromtimestamp(seconds, UTC).astimezone(self.zone).isoformat(" ", "seconds")

    def _zone_name(self) -> str:
        return str(self.zone)


def _section(title: str, *contents: Markup) -> Markup:
    return element("section", element("h2", title), joined(contents))


def _key(class_: str, name: str) -> Markup:
    mark = element(
        "svg", Markup('<rect width="10" height="10"/>'), viewBox="0 0 10 10", class_=f"key {class_}", aria_hidden="true"
    )
    return element("span", mark, name, class_="keyed")


def _reason(found: ReasonCount) -> str:
    if found.reason is None:
        return "The API took the call, and not this recipient"
    return bare(found.reason)


def _duration(seconds: float) -> str:
    """Such as `1 h 2 min`, `10 s`."""
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f} s"
    left, parts = round(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"
