"""Goes on with a campaign of which only the journal is at hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol, Unpack

from mmsclient._store.models import Message
from mmsclient._store.sqlite_database import translated_errors
from mmsclient._store.stores import JournalStore, store_at
from mmsclient._threads import STORES
from mmsclient.bulk.campaign import Campaign
from mmsclient.bulk.kind_options import options_of
from mmsclient.bulk.options import CampaignOptions
from mmsclient.bulk.own_pictures import CampaignImage, PictureColumn, PictureFunction
from mmsclient.bulk.personal import how_pictures_are_made, texts_of
from mmsclient.bulk.template import MessageText
from mmsclient.errors import InvalidRequestError

__all__ = ["resume"]


class CampaignMaker(Protocol):
    """The part of `AsyncMMSClient` that makes campaigns."""

    def campaign(
        self,
        *,
        text: MessageText,
        image: CampaignImage | None = None,
        subject: MessageText | None = None,
        journal: str | os.PathLike[str] | None = None,
        **options: Unpack[CampaignOptions],
    ) -> Campaign:
        """One message to any number of recipients."""
        ...


async def resume(
    mms: CampaignMaker,
    journal: str | os.PathLike[str],
    *,
    image: PictureFunction | None = None,
    **options: Unpack[CampaignOptions],
) -> Campaign:
    """The campaign of a journal, with the text, subject and image that the journal holds. Sends nothing yet.

    ```python
    campaign = await resume(mms, "spring.db")
    print(await campaign.send_all())  # to those whom it has not come to
    ```

    Args:
        mms: The client, an `AsyncMMSClient`.
        journal: The campaign's file, or the URL of a PostgreSQL database; then `name` is among the
            options. Where its list was not read to its end, `send` needs the list again.
        image: The function of a campaign that makes each recipient's own picture, which no journal holds; left out for
            any other.
        options: As for `AsyncMMSClient.campaign`.

    Raises:
        JournalError: The file is not there, no journal, or damaged.
        InvalidRequestError: An option is wrong, or the function is missing.
    """
    store = store_at(journal, options.get("name"))
    message = await STORES.run(_message_of, store)
    text, subject = texts_of(message)
    if message.kind == "sms":
        given: CampaignOptions = {"kind": "sms", **options_of(message), **options}  # type: ignore[typeddict-item]
        return mms.campaign(text=text, image=image, journal=journal, **given)
    if options.get("opt_out_line") is None and message.opt_out_line:
        options["opt_out_line"] = message.opt_out_line
    made = how_pictures_are_made(message)
    if made is not None:
        options.setdefault("fit", made["fit"])
    picture = _picture_of(message, made, image)
    return mms.campaign(text=text, image=picture, subject=subject, journal=journal, **options)


def _picture_of(message: Message, made: Mapping[str, Any] | None, function: PictureFunction | None) -> CampaignImage:
    if made is None:
        if function is not None:
            raise InvalidRequestError("image", function, "nothing: all get the picture that the journal holds")
        return message.image
    if function is not None:
        return function
    if "column" in made:
        return PictureColumn(made["column"])
    raise InvalidRequestError(
        "image",
        "nothing",
        "the campaign's function again (image=): each recipient has a picture of its own, and a journal holds hashes",
    )


def _message_of(store: JournalStore) -> Message:
    reader = store.open_reader()
    try:
        with translated_errors(store.shown):
            return reader.message()
    finally:
        reader.close()
