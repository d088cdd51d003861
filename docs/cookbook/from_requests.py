"""What stands in place of raw `requests` code, piece by piece."""

from mmsclient import AsyncMMSClient, AuthenticationError, MMSError, OutcomeUnknownError


async def send_one(mms: AsyncMMSClient, number: str, text: str, picture: bytes) -> str | None:
    """In place of `requests.post(url + "/send-mms", ...)`: the message's id, None where it was refused.

    No loop of retries around it: what may be repeated is repeated inside, and what raises must not be repeated blindly.
    """
    sent = await mms.send(to=number, text=text, image=picture)
    return sent.messages[0].id if sent.messages else None


async def send_many(mms: AsyncMMSClient, numbers: list[str], text: str, picture: bytes, journal: str) -> list[str]:
    """In place of a loop with `time.sleep(1 / 15)`: those who were refused, or of whom it is not known."""
    campaign = mms.campaign(text=text, image=picture, journal=journal)
    report = await campaign.send_all(numbers)
    missed = [recipient.number async for recipient in report.recipients("refused")]
    return missed + [recipient.number async for recipient in report.recipients("unknown")]


async def read_replies(mms: AsyncMMSClient) -> list[tuple[str, str]]:
    """In place of paging through `get-responses` and posting each id to `inbound-read`."""
    return [(reply.sender, reply.text) async for reply in mms.take_replies()]


async def is_key_good(mms: AsyncMMSClient) -> bool:
    """In place of `response.json()["meta"]["status"] == "SUCCESS"`."""
    try:
        await mms.account()
    except AuthenticationError:
        return False
    return True


async def send_logged(mms: AsyncMMSClient, number: str, text: str, picture: bytes) -> str:
    """In place of `except requests.RequestException`: three ends, not two."""
    try:
        sent = await mms.send(to=number, text=text, image=picture)
    except OutcomeUnknownError:
        return "unknown"  # a timeout or a lost answer: it may have gone out
    except MMSError:
        return "not sent"
    return "sent" if sent.accepted else "refused"
