"""The fixture `mms_sandbox`, for any project that installs the extra `sandbox`.

The sandbox runs in a thread of its own, so it serves synchronous code and any event loop. In a plain test, which needs
no plugin of pytest:

    def test_send(mms_sandbox):
        async def main():
            async with mms_sandbox.client() as mms:
                return await mms.send(to="+61400000000", text="Hello", image="hello.png")

        assert asyncio.run(main()).accepted == 1
        assert mms_sandbox.carried_out("+61400000000") == 1

pytest runs an `async def` test only with the help of a plugin. anyio, which is installed with this package, brings one:

    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    @pytest.mark.anyio
    async def test_send_from_async(mms_sandbox):
        async with mms_sandbox.client() as mms:
            await mms.send(to="+61400000000", text="Hello", image="hello.png")

With `asyncio_mode` or `anyio_mode` set to `auto` the mark is not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mmsclient.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmsclient.sandbox import Sandbox


@pytest.fixture
def mms_sandbox() -> Iterator[Sandbox]:
    """The MMS API, local, over TLS, fresh for each test. A defect of the sandbox itself fails the test.

    `mms_sandbox.client()` is a client of it: for `asyncio.run` in a plain test, or for an `async def` test marked with
    `@pytest.mark.anyio`, beside a fixture `anyio_backend` that returns "asyncio".
    """
    try:
        from mmsclient.sandbox import Sandbox  # noqa: PLC0415 -- a test run that does not ask for it pays nothing
    except ConfigurationError as error:
        pytest.fail(f"mms_sandbox: {error}", pytrace=False)
    with Sandbox(tls=True) as sandbox:
        yield sandbox
    if sandbox.errors:
        raise ExceptionGroup("the sandbox met unexpected errors", sandbox.errors)
