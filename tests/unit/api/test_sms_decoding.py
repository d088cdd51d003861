"""The calls of SMS as data: what goes out, what is refused here, and whose an answer in an array is."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsclient import (
    APIError,
    FieldInvalidError,
    InsufficientCreditError,
    InvalidRequestError,
    OutcomeUnknownError,
    RateLimitError,
    RecipientsError,
    SentBatch,
    SentMany,
)
from mmsclient._api import sms_calls
from mmsclient._api.sms_fields import Options
from mmsclient._api.types import Call, Response
from mmsclient.sms import SMS, TemplateRecipient
from tests.support.decoding import answer, decode, meta, outcome_of
from tests.support.fuzzing import cases

ZONE = ZoneInfo("Australia/Melbourne")
ONE, TWO, THREE = "+61400000000", "+61400000001", "+61400000002"


def send(to: Any = (ONE, TWO), text: Any = "Hello", **options: Any) -> Call[SentBatch]:
    return sms_calls.send("send-sms", to, text, Options(**options), ZONE)


def message(to: str, text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"message_id": "6952176713", "from": "SHOP", "to": to, "body": text, "date": "2025-08-12 16:29:29", **more}


def accepted(*messages: dict[str, Any]) -> dict[str, Any]:
    data = {"messages": [*messages], "total_numbers": len(messages), "success_number": len(messages), "credits_used": 1}
    return meta(data, "Queued")


def refusal(code: str, msg: str = "no") -> dict[str, Any]:
    return {"meta": {"code": 400, "status": code}, "msg": msg, "data": []}


# What goes out --------------------------------------------------------------------------------------------------------


def test_what_a_send_puts_on_the_wire() -> None:
    at = datetime(2099, 7, 1, 0, 0, 0, 1, tzinfo=UTC)
    call = send(["0400 000 000", TWO, "61400000000"], sender="+61400000009", custom_string="order-17", source="shop")
    assert (call.name, call.method, call.repeatable, call.recipients) == ("send-sms", "POST", False, 2)
    assert call.json == {
        "sms_text": "Hello",
        "numbers": [ONE, TWO],
        "from": "61400000009",
        "custom_string": "order-17",
        "source": "shop",
    }
    assert send(schedule_at=at).json["schedule_time"] == "2099-07-01 10:00:01"  # not earlier
    assert send(delay=90).json["delay"] == 90
    assert sms_calls.send_nz("+6421234567", "Hi", Options(sender="2424"), ZONE).json["from"] == "2424"


def test_what_a_template_puts_on_the_wire() -> None:
    recipients: list[TemplateRecipient | str] = [
        TemplateRecipient(
            number="0400 000 000", first_name="Ann", date_of_birth="1990-01-31", custom_values=["a", "b"]
        ),
        TWO,
        TemplateRecipient(number=ONE, first_name="Ann again"),
    ]
    call = sms_calls.send_template("5f" * 16, recipients, Options(sender="SHOP"), ZONE)
    assert call.json == {
        "template_id": "5f" * 16,
        "numbers": [
            {"number": ONE, "fname": "Ann", "dob": "1990-01-31", "custom_value_1": "a", "custom_value_2": "b"},
            {"number": TWO},
        ],
        "from": "SHOP",
    }
    sent = decode(call, answer(accepted(message(ONE), message(TWO))))
    assert (sent.accepted, sent.duplicates) == (2, (ONE,))


REPEATED = datetime(2099, 4, 4, 15, 30, tzinfo=UTC)  # 02:30 in Melbourne, as an hour later


@pytest.mark.parametrize(
    ("arguments", "argument", "expected"),
    [
        ({"to": []}, "to", "at least one"),
        ({"to": "0400"}, "to", "E.164"),
        ({"text": " "}, "text", "not empty"),
        ({"text": None}, "text", "not empty"),
        ({"text": "x" * 919}, "text", r"at most 918 characters \(6 parts\)"),
        ({"text": "ж" * 403}, "text", "at most 402 .*since 'ж' makes it Unicode"),
        ({"text": "half \ud83d"}, "text", r"surrogates, got 'U\+D83D as character 6'$"),
        ({"sender": ""}, "sender", "16 digits"),
        ({"sender": "1" * 17}, "sender", "16 digits"),
        ({"sender": "twelve chars"}, "sender", "at most 11"),
        ({"sender": "0400 000"}, "sender", "a letter"),
        ({"sender": " SHOP"}, "sender", "letters"),
        ({"sender": "Café"}, "sender", "letters"),
        ({"sender": 61400000000}, "sender", "a number"),
        ({"custom_string": "order 17"}, "custom_string", "dashes"),
        ({"custom_string": ""}, "custom_string", "dashes"),
        ({"source": "two\nlines"}, "source", "one line"),
        ({"delay": 0}, "delay", "from 1 to 1440"),
        ({"delay": 1441}, "delay", "from 1 to 1440"),
        ({"delay": 1.5}, "delay", "whole"),
        ({"delay": 5, "schedule_at": datetime(2099, 1, 1, tzinfo=UTC)}, "delay", "either"),
        ({"schedule_at": datetime(2099, 1, 1)}, "schedule_at", "time zone"),
        ({"schedule_at": datetime(2020, 1, 1, tzinfo=UTC)}, "schedule_at", "to come"),
        ({"schedule_at": datetime.max.replace(tzinfo=UTC)}, "schedule_at", "a year from 1970 to 9998"),
        ({"schedule_at": REPEATED}, "schedule_at", "repeated"),
        ({"schedule_at": REPEATED + timedelta(hours=1)}, "schedule_at", "repeated"),
    ],
)
def test_what_is_refused_before_anything_is_sent(arguments: dict[str, Any], argument: str, expected: str) -> None:
    with pytest.raises(InvalidRequestError, match=expected) as caught:
        send(**arguments)
    assert caught.value.argument == argument


def test_the_edges_of_what_is_taken() -> None:
    for arguments in (
        {"text": "x" * 918},
        {"text": "ж" * 402},
        {"sender": "Elevenchars"},
        {"sender": "A b-1"},
        {"sender": "1" * 16},
        {"delay": 1440},
        {"schedule_at": REPEATED - timedelta(hours=1)},
        {"schedule_at": REPEATED + timedelta(hours=2)},
    ):
        send(**arguments)


@pytest.mark.parametrize("sender", ["", "242", "24242", "SHOP", None])
def test_the_sender_of_new_zealand(sender: Any) -> None:
    with pytest.raises(InvalidRequestError, match="exactly 4 digits"):
        sms_calls.send_nz("+6421234567", "Hi", Options(sender=sender), ZONE)


@pytest.mark.parametrize(
    ("to", "argument"),
    [
        (ONE, "to"),
        (7, "to"),
        ([], "to"),
        ([7], "to"),
        ([TemplateRecipient(number=ONE, custom_values=["1", "2", "3", "4"])], r"to[0].custom_values"),
        ([TemplateRecipient(number=ONE, custom_values="abc")], r"to[0].custom_values"),
        ([TemplateRecipient(number=ONE, first_name="a\nb")], "to[0].fname"),
    ],
)
def test_recipients_of_a_template_that_are_none(to: Any, argument: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        sms_calls.send_template("7", to, Options(), ZONE)
    assert caught.value.argument == argument


@pytest.mark.parametrize("arguments", [("SHOPPING-LIST", "ours"), ("1234", "ours"), ("SHOP", ""), (None, "ours")])
def test_an_id_that_cannot_be_registered(arguments: Any) -> None:
    with pytest.raises(InvalidRequestError):
        sms_calls.register_alpha_id(*arguments)


# What comes back ------------------------------------------------------------------------------------------------------


def test_the_answer_of_a_send_with_numbers_as_numbers_and_without_a_plus() -> None:
    low = "Your account credits are low, you have 29.00 credits remaining, please top-up via the platform"
    items = [message("61400000000", custom_string="order-17"), message("61400000001")]
    sent = decode(send(), answer({**accepted(*items), "low_sms_alert": low}))
    assert (sent.accepted, sent.total, sent.refused, sent.low_sms_alert) == (2, 2, (), low)
    assert sent.credits_used == Decimal(1)
    first = sent.messages[0]
    assert (first.id, first.to, first.sender, first.custom_string) == ("6952176713", ONE, "SHOP", "order-17")


THREE_TEXTS = (SMS(to=ONE, text="one"), SMS(to=[TWO], text="two", sender="SHOP"), SMS(to=[ONE, THREE], text="three"))


def many(*messages: SMS) -> Call[SentMany]:
    return sms_calls.send_many(messages or THREE_TEXTS, ZONE)


def test_what_several_texts_put_on_the_wire() -> None:
    call = many()
    assert call.json == [
        {"sms_text": "one", "numbers": [ONE]},
        {"sms_text": "two", "numbers": [TWO], "from": "SHOP"},
        {"sms_text": "three", "numbers": [ONE, THREE]},
    ]
    assert (call.name, call.recipients, call.repeatable) == ("bulk-send-sms", 4, False)


@pytest.mark.parametrize(
    ("messages", "argument"),
    [
        ([], "messages"),
        (SMS(to=ONE, text="x"), "messages"),
        ([SMS(to=ONE, text="x"), "text"], "messages[1]"),
        ([SMS(to=ONE, text="x"), SMS(to="0400", text="x")], "messages[1].to"),
        ([SMS(to=ONE, text="")], "messages[0].text"),
        ([SMS(to=ONE, text="x", sender="?")], "messages[0].sender"),
        ([SMS(to=[f"+614{n:08}" for n in range(600)], text="x")] * 2, "messages"),
    ],
)
def test_several_texts_of_which_one_is_wrong(messages: Any, argument: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        sms_calls.send_many(messages, ZONE)
    assert caught.value.argument == argument


def told(body: Any, status: int = 200, call: Call[SentMany] | None = None) -> list[Any]:
    """What became of each: how many were accepted, or the class of its error."""
    sent = outcome_of(call or many(), answer(body, status))
    assert isinstance(sent, SentMany), sent
    assert pickle.loads(pickle.dumps(sent)) == sent  # noqa: S301
    return [each.sent.accepted if each.sent else type(each.error) for each in sent]


FIRST, SECOND = accepted(message("61400000000", "one")), accepted(message("61400000001", "two"))
THIRD = accepted(message("61400000000", "three"), message("61400000002", "three"))
UNKNOWN = OutcomeUnknownError


def test_each_text_has_its_own_outcome() -> None:
    assert told([FIRST, SECOND, THIRD]) == [1, 1, 2]
    credit = refusal("FIELD_INVALID", "You do not have enough credit")
    assert told([FIRST, refusal("RECIPIENTS_ERROR"), credit]) == [1, RecipientsError, InsufficientCreditError]
    assert told([refusal("OVER_LIMIT"), SECOND, {"error": {"code": "FIELD_INVALID"}}]) == [
        RateLimitError,
        1,
        FieldInvalidError,
    ]
    sent = decode(many(), answer([FIRST, refusal("RECIPIENTS_ERROR"), THIRD]))
    assert str(sent) == "2 of 3 messages sent, 1 refused, 0 unknown"
    assert (len(sent), sent.accepted, len(sent.messages), sent.unknown) == (3, 3, 3, ())
    none = decode(many(), answer([FIRST, accepted(), refusal("RECIPIENTS_ERROR")]))
    assert str(none) == "1 of 3 messages sent, 2 refused, 0 unknown"
    assert [each.sms for each in sent] == list(THREE_TEXTS)
    assert str(list(sent)[1].error) == "bulk-send-sms: no (RECIPIENTS_ERROR, HTTP 200); no recipient can receive it"


def test_what_the_answer_leaves_out_is_unknown() -> None:
    assert told([]) == [UNKNOWN, UNKNOWN, UNKNOWN]
    assert told([FIRST]) == [1, UNKNOWN, UNKNOWN]
    assert told([SECOND]) == [UNKNOWN, 1, UNKNOWN]
    assert told([THIRD, FIRST]) == [1, UNKNOWN, 2]
    assert told([refusal("RECIPIENTS_ERROR"), SECOND]) == [UNKNOWN, 1, UNKNOWN]  # whose is the refusal?
    assert told([None, "?", 7]) == [UNKNOWN, UNKNOWN, UNKNOWN]
    assert told([FIRST, {"meta": {}}, {}]) == [1, UNKNOWN, UNKNOWN]
    sent = decode(many(), answer([FIRST]))
    assert len(sent.unknown) == 2
    assert "no answer among the 1" in str(sent.unknown[0].error)


def test_answers_in_another_order_are_matched_by_whom_they_speak_of() -> None:
    assert told([SECOND, THIRD, FIRST]) == [1, 1, 2]
    assert told([FIRST, FIRST, SECOND, THIRD]) == [UNKNOWN, 1, 2]
    same = many(SMS(to=ONE, text="one"), SMS(to=ONE, text="two"))
    assert told([accepted(message(ONE, "two"))], call=same) == [UNKNOWN, 1]
    assert told([accepted(message(ONE, "changed"))], call=same) == [UNKNOWN, UNKNOWN]
    assert told([accepted(message(ONE, "changed")), refusal("FAILED")], call=same) == [1, APIError]
    swapped = [refusal("FAILED"), accepted(message(ONE, "one"))]
    assert told(swapped, call=same) == [1, UNKNOWN]


def test_nobody_is_told_refused_of_whom_no_answer_surely_speaks() -> None:
    call = many(SMS(to=[ONE, TWO], text="a"), SMS(to=THREE, text="b"))
    first, second, third = (accepted(message(to, text)) for to, text in ((ONE, "a"), (TWO, "a"), (THREE, "b")))
    assert told([first, second, third], call=call) == [UNKNOWN, 1]  # one for each recipient
    assert told([first, second], call=call) == [UNKNOWN, UNKNOWN]
    assert told([refusal("RECIPIENTS_ERROR"), first, third], call=call) == [UNKNOWN, 1]  # of whom is the refusal?
    assert told([third, first], call=call) == [UNKNOWN, 1]
    assert told([first, third], call=call) == [1, 1]  # in order: the second recipient was refused
    assert decode(call, answer([first, third])).flaws == ()
    flaw = "2 of its 3 answers cannot be matched to a message"
    assert decode(call, answer([refusal("RECIPIENTS_ERROR"), first, third])).flaws == (flaw,)


def test_a_success_that_may_be_none_is_unknown() -> None:
    assert told([FIRST, SECOND, THIRD], 500) == [UNKNOWN] * 3
    assert told([refusal("FAILED"), SECOND, THIRD], 400) == [APIError, UNKNOWN, UNKNOWN]
    assert told([refusal("FAILED"), SECOND, THIRD], 429) == [RateLimitError, UNKNOWN, UNKNOWN]
    listed = {"meta": {"code": 200, "status": "PARTLY"}, "msg": "?", "data": {"messages": [message(ONE, "one")]}}
    assert told([listed, SECOND, THIRD]) == [UNKNOWN, 1, 2]


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (refusal("AUTH_FAILED"), 401, APIError),
        (refusal("FIELD_EMPTY"), 200, APIError),
        (refusal("OVER_LIMIT"), 429, RateLimitError),
        (meta([]), 200, OutcomeUnknownError),
        (FIRST, 200, OutcomeUnknownError),
        (b"[", 200, OutcomeUnknownError),
        (b"", 502, OutcomeUnknownError),
        ([FIRST] * 2001, 200, OutcomeUnknownError),
    ],
)
def test_an_answer_to_the_call_as_a_whole(body: Any, status: int, expected: type[Exception]) -> None:
    assert isinstance(outcome_of(many(), answer(body, status)), expected)


def test_an_array_is_no_answer_to_another_call() -> None:
    reply: Response = answer([accepted(message(ONE))])
    assert isinstance(outcome_of(send(ONE), reply), OutcomeUnknownError)


ANSWERS = {0: FIRST, 1: SECOND, 2: THIRD}


@cases(150)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.booleans()), max_size=5),
    st.sampled_from([200, 200, 400, 429, 500]),
)
def test_whatever_of_the_answers_comes_nothing_is_taken_for_another(came: list[tuple[int, bool]], status: int) -> None:
    """Each that comes is the answer about one text: its success, or a refusal, which names nobody."""
    body = [ANSWERS[place] if is_sent else refusal("FAILED") for place, is_sent in came]
    sent = outcome_of(many(), answer(body, status))
    assert isinstance(sent, SentMany)
    for place, outcome in enumerate(sent):
        if outcome.sent is not None:
            assert (place, True) in came
            assert outcome.sent.raw == ANSWERS[place]
        elif not outcome.is_unknown:
            assert len(came) == len(THREE_TEXTS)  # only then the place of a refusal tells whose it is
