"""What an operator can watch: events of calls, limiters, callbacks, campaigns and outboxes, as they happen.

```python
counts: Counter[str] = Counter()

def count(event: Event) -> None:
    if isinstance(event, CallEnded):
        counts[event.outcome.value] += 1

async with AsyncMMSClient(observer=count) as mms: ...
```

Ready observers: `LogObserver`, a line of the log for each call,
`mmsclient.observe.prometheus.PrometheusObserver`, and `mmsclient.observe.otel.OpenTelemetryObserver`.
"""

from mmsclient.observe.around_calls import (
    OrdersClaimed,
    OrdersDue,
    OrdersEnded,
    OrdersLost,
    PictureMade,
    SendRepeated,
)
from mmsclient.observe.beginnings import AttemptStarted, EventStarted
from mmsclient.observe.events import (
    AttemptEnded,
    BatchEnded,
    CallbackAnswered,
    CallbackReceived,
    CallEnded,
    CallRetried,
    CallStarted,
    CallThrottled,
    CallWaited,
    CampaignContinued,
    CampaignEnded,
    CampaignPaused,
    CampaignRef,
    CampaignReopened,
    CampaignStarted,
    CampaignStopped,
    CampaignWaiting,
    Event,
    EventOutcome,
    EventSettled,
    LimiterAway,
    LimiterBack,
    Outcome,
    RateChanged,
    SaturationBegan,
    SaturationEnded,
)
from mmsclient.observe.leases import LeasesLost
from mmsclient.observe.logs import LogObserver
from mmsclient.observe.observer import Observer

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "BatchEnded",
    "CallEnded",
    "CallRetried",
    "CallStarted",
    "CallThrottled",
    "CallWaited",
    "CallbackAnswered",
    "CallbackReceived",
    "CampaignContinued",
    "CampaignEnded",
    "CampaignPaused",
    "CampaignRef",
    "CampaignReopened",
    "CampaignStarted",
    "CampaignStopped",
    "CampaignWaiting",
    "Event",
    "EventOutcome",
    "EventSettled",
    "EventStarted",
    "LeasesLost",
    "LimiterAway",
    "LimiterBack",
    "LogObserver",
    "Observer",
    "OrdersClaimed",
    "OrdersDue",
    "OrdersEnded",
    "OrdersLost",
    "Outcome",
    "PictureMade",
    "RateChanged",
    "SaturationBegan",
    "SaturationEnded",
    "SendRepeated",
]
