"""Callbacks: delivery reports and inbound messages as the API posts them (api-notes.md section 4).

```python
receiver = CallbackReceiver(token=os.environ["MMSCLIENT_CALLBACK_TOKEN"])  # a token of `new_token()`
app.mount("/mms", receiver)  # FastAPI, Starlette, Litestar, Quart; or serve it alone

@receiver.on_delivery_report
async def note(report: DeliveryReport) -> None: ...
```

Then the address for the provider is `https://your.host/mms/<token>`. For any other framework there is the parser alone,
`parse_callbacks`.
"""

from __future__ import annotations

from mmsclient.webhooks.auth import new_token
from mmsclient.webhooks.parse import Event, UnreadableCallback, parse_callbacks
from mmsclient.webhooks.receiver import CallbackReceiver
from mmsclient.webhooks.watching import ReceiverStats

__all__ = [
    "CallbackReceiver",
    "Event",
    "ReceiverStats",
    "UnreadableCallback",
    "new_token",
    "parse_callbacks",
]
