"""The fixture `mms_sandbox`, for any project that installs `mmsclient[sandbox]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmsclient.sandbox import Sandbox


@pytest.fixture
def mms_sandbox() -> Iterator[Sandbox]:
    """The MMS API, local, over TLS, fresh for each test. A defect of the sandbox itself fails the test."""
    try:
        from mmsclient.sandbox import Sandbox  # noqa: PLC0415 -- a test run that does not ask for it pays nothing
    except ModuleNotFoundError as error:
        pytest.fail(f"mms_sandbox: {error}", pytrace=False)
    with Sandbox(tls=True) as sandbox:
        yield sandbox
    if sandbox.errors:
        raise ExceptionGroup("the sandbox met unexpected errors", sandbox.errors)
