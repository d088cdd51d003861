"""Places that are none: said as an error of this package, and without the password of a URL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mmsclient import ConfigurationError, InvalidRequestError
from mmsclient._keyed.opening import open_keyed_sends
from mmsclient._store.stores import events_at, outbox_at, store_at, suppression_at
from mmsclient.bulk.options import Options


def ledger_at(place: Any) -> object:
    return open_keyed_sends(place, timedelta(1), "https://example.com", bytes.hex, is_new_key=False)


def campaign_at(place: Any) -> object:
    return Options(text="Hi", image=b"GIF89a", journal=place)


def campaign_without(place: Any) -> object:
    return Options(text="Hi", image=b"GIF89a", suppress=place)


@pytest.mark.parametrize("place", ["", "a\0b.db", Path("a\0b.db"), "postgresql://shop:hidden-word@host/a\0b", b"a.db"])
@pytest.mark.parametrize(
    ("opens", "error"),
    [
        (store_at, InvalidRequestError),
        (outbox_at, InvalidRequestError),
        (suppression_at, InvalidRequestError),
        (campaign_at, InvalidRequestError),
        (campaign_without, InvalidRequestError),
        (events_at, ConfigurationError),
        (ledger_at, ConfigurationError),
    ],
)
def test_what_is_no_place_is_refused(opens: Callable[[Any], object], error: type[Exception], place: Any) -> None:
    with pytest.raises(error, match="the URL of a PostgreSQL database") as raised:
        opens(place)
    assert "hidden-word" not in str(raised.value)
