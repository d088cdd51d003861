"""An async client of an MMS REST API: send, delivery reports, replies."""

from importlib import import_module
from typing import TYPE_CHECKING

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
    SentMany,
    SentMessage,
    SMSOutcome,
    Stats,
    Template,
)

if TYPE_CHECKING:
    from mmsclient._keyed.recorder import SendLedger
    from mmsclient.limiter import SharedTokenBucket
else:

    def __getattr__(name: str) -> object:
        """These are loaded where somebody imports them: few need Redis, or a ledger."""
        if (module := _LOADED_LATER.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(module), name)

    _LOADED_LATER = {"SendLedger": "mmsclient._keyed.recorder", "SharedTokenBucket": "mmsclient.limiter"}


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
    "SMSOutcome",
    "SendInProgressError",
    "SendLedger",
    "SentBatch",
    "SentMany",
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
