"""Goes on with a campaign of which only the journal is at hand."""

from __future__ import annotations

import os
from typing import Protocol, Unpack

import anyio.to_thread

from mmsclient._reading.image_file import ImageSource
from mmsclient._store.models import Message
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.stores import JournalStore, store_at
from mmsclient.bulk.campaign import Campaign
from mmsclient.bulk.options import CampaignOptions
from mmsclient.bulk.personal import texts_of
from mmsclient.bulk.template import MessageText

__all__ = ["resume"]


class CampaignMaker(Protocol):
    """The part of `AsyncMMSClient` that makes campaigns."""

    def campaign(
        self,
        *,
        text: MessageText,
        image: ImageSource,
        subject: MessageText | None = None,
        journal: str | os.PathLike[str] | None = None,
        **options: Unpack[CampaignOptions],
    ) -> Campaign:
        """One message to any number of recipients."""
        ...


async def resume(mms: CampaignMaker, journal: str | os.PathLike[str], **options: Unpack[CampaignOptions]) -> Campaign:
    """The campaign of a journal, with the text, subject and image that the journal holds. Sends nothing yet.

    ```python
    campaign = await resume(mms, "spring.db")
    print(await campaign.send_all())  # to those whom it has not come to
    ```

    Args:
        mms: The client, an `AsyncMMSClient`.
        journal: The campaign's file, or the URL of a PostgreSQL database; then `name` is among the
            options. Where its list was not read to its end, `send` needs the list again.
        options: As for `AsyncMMSClient.campaign`.

    Raises:
        JournalError: The file is not there, no journal, or damaged.
        InvalidRequestError: An option is wrong.
    """
    store = store_at(journal, options.get("name"))
    message = await anyio.to_thread.run_sync(_message_of, store)
    text, subject = texts_of(message)
    return mms.campaign(text=text, image=message.image, subject=subject, journal=journal, **options)


def _message_of(store: JournalStore) -> Message:
    reader = store.open_reader()
    try:
        with translated_errors(store.shown):
            return reader.message()
    finally:
        reader.close()
