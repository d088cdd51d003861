"""Events as metrics of Prometheus, read as Prometheus reads them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mmsclient import OutcomeUnknownError, TokenBucket
from mmsclient.observe import (
    CampaignContinued,
    CampaignEnded,
    CampaignPaused,
    CampaignRef,
    CampaignReopened,
    CampaignStarted,
    CampaignWaiting,
    Event,
    LeasesLost,
    LimiterAway,
    LimiterBack,
    SaturationBegan,
    SaturationEnded,
)
from mmsclient.observe.prometheus import PrometheusObserver
from mmsclient.sandbox import Sandbox
from mmsclient.sandbox.faults import CutConnection, Respond, SlowBody
from mmsclient.webhooks import CallbackReceiver
from tests.conftest import PNG, Connect
from tests.support.callbacks import TOKEN, status
from tests.support.campaigns import TEXT, finished, numbers

DOCS = Path(__file__).parent.parent.parent.parent / "docs"


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """The scraped samples: `name{label="value"}` and the value."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_calls_are_counted_by_outcome(connect: Connect, sandbox: Sandbox, impatient: None) -> None:
    registry = CollectorRegistry()
    mms = connect(limiter=TokenBucket(1000), observer=PrometheusObserver(registry))
    sandbox.faults.add(Respond(429, headers={"retry-after": "0"}), times=1)
    await mms.send(to=numbers(3), text=TEXT, image=PNG)
    with sandbox.faults.add(CutConnection()), pytest.raises(OutcomeUnknownError):
        await mms.send(to=numbers(2), text=TEXT, image=PNG)
    found = samples(registry)
    assert found["mmsclient_call_duration_seconds_count{name=send-mms,outcome=accepted}"] == 1
    assert found["mmsclient_call_duration_seconds_count{name=send-mms,outcome=unknown}"] == 1
    assert found["mmsclient_messages_total{kind=mms,outcome=accepted}"] == 3
    assert found["mmsclient_messages_total{kind=mms,outcome=unknown}"] == 2
    assert found["mmsclient_messages_total{kind=sms,outcome=accepted}"] == 0
    assert found["mmsclient_throttled_total"] == found["mmsclient_attempts_total{status=429}"] == 1
    assert found["mmsclient_retries_total{error=RateLimitError}"] == 1
    assert {found[f"mmsclient_wait_seconds_count{{for={name}}}"] for name in ("queue", "connection", "token")} == {3}
    assert 0 < found["mmsclient_rate_share"] <= 1


async def test_an_answer_that_does_not_end_in_time_counts_as_none(connect: Connect, sandbox: Sandbox) -> None:
    registry = CollectorRegistry()
    mms = connect(observer=PrometheusObserver(registry), timeout=0.5)
    with sandbox.faults.add(SlowBody(delay=60)), pytest.raises(OutcomeUnknownError):
        await mms.send(to=numbers(1), text=TEXT, image=PNG)
    assert samples(registry)["mmsclient_attempts_total{status=timeout}"] == 1
    sandbox.stop()


async def test_callbacks_and_limiters_are_counted() -> None:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    receiver = CallbackReceiver(token=TOKEN, observer=observer)
    receiver.on_delivery_report(lambda report: None)
    for _ in range(2):
        assert await status(receiver, [{"message_id": "A1", "status": "Delivered"}, 7]) == 200
    await receiver.aclose()
    found = samples(registry)
    assert found["mmsclient_callback_duration_seconds_count{reason=,status=200}"] == 2
    assert found["mmsclient_callback_events_total{kind=delivery_report,outcome=handled}"] == 1
    assert found["mmsclient_callback_events_total{kind=delivery_report,outcome=duplicate}"] == 1
    assert found["mmsclient_callback_events_total{kind=unreadable,outcome=unreadable}"] == 2
    told: list[tuple[Event, str, int]] = [
        (LimiterAway(error="TimeoutError", shares=True), "mmsclient_limiter_away", 1),
        (LimiterBack(seconds=1.0), "mmsclient_limiter_away", 0),
        (SaturationBegan(kind="unreadable"), "mmsclient_receiver_saturated{kind=unreadable}", 1),
        (SaturationEnded(kind="unreadable", seconds=1.0), "mmsclient_receiver_saturated{kind=unreadable}", 0),
    ]
    for event, name, value in told:
        observer(event)
        assert samples(registry)[name] == value


async def test_events_under_way_and_leases_are_counted() -> None:
    registry, found = CollectorRegistry(), list[float]()
    observer = PrometheusObserver(registry)
    under_way = "mmsclient_callback_events_under_way{kind=delivery_report}"
    receiver = CallbackReceiver(token=TOKEN, observer=observer)
    receiver.on_delivery_report(lambda report: found.append(samples(registry)[under_way]))
    assert await status(receiver, [{"message_id": "A1", "status": "Delivered"}]) == 200
    await receiver.aclose()
    assert (found, samples(registry)[under_way]) == ([1], 0)
    observer(LeasesLost(events=2))
    assert samples(registry)["mmsclient_receiver_leases_lost_total"] == 2


def test_campaigns_that_are_held_are_counted() -> None:
    registry, of = CollectorRegistry(), CampaignRef("1a2b3c4d", "spring.db")
    observer = PrometheusObserver(registry)
    paused = CampaignPaused(campaign=of, seconds=None, error=None, from_outside=True)
    throttled = CampaignPaused(campaign=of, seconds=1.0, error="RateLimitError")
    waiting = CampaignWaiting(campaign=of, until=datetime(2026, 3, 2, 9, tzinfo=UTC))
    ended = CampaignEnded(campaign=of, counts={}, calls=0, seconds=1.0, error=None)
    told: list[tuple[Event, int, int]] = [
        (CampaignStarted(campaign=of), 0, 0),
        (throttled, 0, 0),
        (paused, 1, 0),
        (waiting, 1, 1),
        (CampaignContinued(campaign=of, seconds=1.0), 0, 1),
        (CampaignReopened(campaign=of), 0, 0),
        (paused, 1, 0),
        (waiting, 1, 1),
        (ended, 0, 0),
    ]
    for event, by_others, outside_hours in told:
        observer(event)
        found = samples(registry)
        assert found["mmsclient_campaigns_held{reason=paused}"] == by_others
        assert found["mmsclient_campaigns_held{reason=hours}"] == outside_hours


async def test_campaigns_are_counted(api: Sandbox, path: Path) -> None:
    registry = CollectorRegistry()
    async with api.client(rate=None, observer=PrometheusObserver(registry)) as mms:
        await finished(mms, path, numbers(60))
    found = samples(registry)
    assert found["mmsclient_campaign_recipients_total{campaign=spring.db,state=accepted}"] == 60
    assert (found["mmsclient_campaigns_running"], found["mmsclient_campaign_runs_total{error=}"]) == (0, 1)
    assert not [each for each in numbers(60) if each[1:] in generate_latest(registry).decode()]


def test_every_metric_stands_in_the_documentation() -> None:
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    page = (DOCS / "observing.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(mmsclient_\w+)", page, re.MULTILINE))
    families = {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}
    assert named == families
