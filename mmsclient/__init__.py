"""An async client of an MMS REST API: send, delivery reports, replies."""

from importlib import import_module
from typing import TYPE_CHECKING

from mmsclient._keyed.recorder import SendLedger
from mmsclient._reading.listing import Listing
from mmsclient._version import __version__
from mmsclient.client import AsyncMMSClient
from mmsclient.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    FieldEmptyError,
    FieldInvalidError,
    InsufficientCreditError,
    InvalidRequestError,
    KeyReusedError,
    LedgerUnavailableError,
    LimiterUnavailableError,
    MMSError,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
    RecipientsError,
    SendInProgressError,
    ServerError,
    TransportError,
    UnknownCallError,
)
from mmsclient.limiter import (
    Grant,
    Limiter,
    SharedTokenBucketStats,
    TokenBucket,
    TokenBucketStats,
)
from mmsclient.models import (
    Account,
    CallResult,
    DeliveryReport,
    DeliveryStatus,
    InboundMessage,
    MessageStatus,
    OptOut,
    Page,
    Reply,
    SentBatch,
    SentMessage,
    Stats,
    Template,
)

if TYPE_CHECKING:
    from mmsclient.limiter import SharedTokenBucket
else:

    def __getattr__(name: str) -> object:
        """`SharedTokenBucket` is loaded where somebody imports it: few need Redis."""
        if name != "SharedTokenBucket":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module("mmsclient.limiter").SharedTokenBucket


__all__ = [
    "APIError",
    "Account",
    "AsyncMMSClient",
    "AuthenticationError",
    "CallResult",
    "ConfigurationError",
    "ConflictError",
    "DeliveryReport",
    "DeliveryStatus",
    "FieldEmptyError",
    "FieldInvalidError",
    "Grant",
    "InboundMessage",
    "InsufficientCreditError",
    "InvalidRequestError",
    "KeyReusedError",
    "LedgerUnavailableError",
    "Limiter",
    "LimiterUnavailableError",
    "Listing",
    "MMSError",
    "MessageStatus",
    "NotFoundError",
    "NotSentError",
    "OptOut",
    "OutcomeUnknownError",
    "Page",
    "PermissionDeniedError",
    "RateLimitError",
    "RecipientsError",
    "Reply",
    "SendInProgressError",
    "SendLedger",
    "SentBatch",
    "SentMessage",
    "ServerError",
    "SharedTokenBucket",
    "SharedTokenBucketStats",
    "Stats",
    "Template",
    "TokenBucket",
    "TokenBucketStats",
    "TransportError",
    "UnknownCallError",
    "__version__",
]
