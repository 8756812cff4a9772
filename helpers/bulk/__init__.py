"""Many messages at once, on nats-py's public API: batched publishing, and replay by overlapping pulls."""

from .errors import BulkError, NoStream, NotEnabled, Refused, TimedOut, Unsupported
from .publishing import Message, Receipt, publish
from .replaying import Columns, frame, replay

__all__ = [
    "BulkError",
    "Columns",
    "Message",
    "NoStream",
    "NotEnabled",
    "Receipt",
    "Refused",
    "TimedOut",
    "Unsupported",
    "frame",
    "publish",
    "replay",
]
