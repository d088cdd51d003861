"""Callbacks: delivery reports and inbound messages as the API posts them (wire.md section 4).

```python
receiver = CallbackReceiver(token=os.environ["CALLBACK_TOKEN"])  # a token of `new_token()`
app.mount("/mms", receiver)  # FastAPI, Starlette, Litestar, Quart; or serve it alone

@receiver.on_delivery_report
async def note(report: DeliveryReport) -> None: ...
```

Then the address for the provider is `https://your.host/mms/<token>`. For any other framework there is the parser alone,
`parse_callbacks`.
"""

from __future__ import annotations

from mmsclient.webhooks.door import new_token
from mmsclient.webhooks.parser import Event, UnreadableCallback, parse_callbacks
from mmsclient.webhooks.receiver import CallbackReceiver

__all__ = ["CallbackReceiver", "Event", "UnreadableCallback", "new_token", "parse_callbacks"]
