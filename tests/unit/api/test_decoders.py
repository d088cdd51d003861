"""Every decoder of an answer, given answers that are nearly right, wholly wrong, cut, compressed, mangled and huge.

Whatever comes, the outcome is a model or an `MMSError`, and either can be shown, pickled and written as JSON. The work
that it takes and the size that it has are in proportion to the answer.
"""

from __future__ import annotations

import inspect

import pytest
from hypothesis import example, given

from mmsclient import MMSError
from mmsclient._api import calls, envelope, sms_calls
from mmsclient._api.items import MOST_ITEMS
from tests.support.decoding import outcome_of
from tests.support.fuzzed_answers import (
    CALLS,
    ECHO,
    EMOJI,
    MESSAGE,
    SAMPLES,
    THOUSAND,
    TO,
    ZONE,
    Exchange,
    Work,
    check_truth,
    check_usable,
    exchanges,
    said,
    send,
    size_of,
)
from tests.support.fuzzing import cases

LISTED = {"messages": [MESSAGE], "success_number": "1"}
NUMBERS = '{"responses":[' + "1," * 3_900_000 + "1]}"
OBJECTS = '{"responses":[' + '{"number":"614"},' * 80_000 + "{}]}"


@cases(250)
@example(Exchange(send(), said(LISTED, code="OK")))  # messages, and no success
@example(Exchange(send(), said({"success_number": "1"}, code="QUEUED")))
@example(Exchange(send(), said(LISTED, status=400, content_encoding="GZIP")))  # which it is not
@example(Exchange(send(), said(LISTED, status=429, code="")))
@example(Exchange(send(), said('{"messages":[{"message_id":"A1"}],"x":-Infinity}', status=400)))
@example(Exchange(send(*THOUSAND, text=EMOJI), said(ECHO)))  # an echo that is larger than other answers may be
@example(Exchange(send(), said({**LISTED, "messages": [{**MESSAGE, "message_id": "A\ud800"}]})))
@example(Exchange(send(), said({**LISTED, "success_number": 2**63})))  # what contradicts the call
@example(Exchange(send(), said({"messages": [MESSAGE] * 5, "success_number": 3, "credits_used": -2})))
@example(Exchange(send(), said({**LISTED, "messages": [{**MESSAGE, "to": "61499999999"}]})))
@example(Exchange(send(TO[0]), said({**LISTED, "messages": [MESSAGE, None]})))
@example(Exchange(calls.replies(1, "mms", ZONE), said(NUMBERS, content_encoding="gzip")))  # bombs
@example(Exchange(calls.opt_outs(1, None, None, ZONE), said(OBJECTS)))
@example(Exchange(send(), said('{"success_number":2,"x":' + "[" * 900 + "]" * 900 + "}")))
@example(Exchange(send(), said('{"success_number":2,"x":' + "[" * 500_000 + "]" * 500_000 + "}")))
@example(Exchange(calls.message("A1", ZONE), said(7)))  # scalars where objects should be
@example(Exchange(calls.account(), said("true")))
@example(Exchange(send(), said('"text"')))
@given(exchanges())
def test_any_answer_gives_a_model_or_an_error_that_is_true_and_can_be_kept(exchange: Exchange) -> None:
    call, reply = exchange.call, exchange.reply
    with Work() as work:
        outcome = outcome_of(call, reply)
    size = size_of(reply)
    items = min(size, MOST_ITEMS)
    assert work.calls < 4 * (size + sum(map(len, reply.headers.values()))) + 150 * items + 4_000
    assert len(check_usable(outcome)) < 20 * size + 5_000
    check_truth(call, reply, outcome)
    envelope.is_throttled(reply, outcome if isinstance(outcome, MMSError) else None)
    envelope.retry_after(reply)


def test_every_call_is_tried() -> None:
    functions = [
        f"{prefix}{name}"
        for prefix, module in (("", calls), ("sms_", sms_calls))
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
        if not name.startswith("_") and value.__annotations__["return"].startswith("Call[")
    ]
    assert sorted(functions) == sorted(CALLS) == sorted(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_sample_of_each_call_is_read(name: str) -> None:
    for call in CALLS[name]:
        outcome = outcome_of(call, said(SAMPLES[name]))
        assert isinstance(outcome, MMSError) == call.reads_array  # an object where an array should be
