"""Many messages at once, on nats-py's public API: batched publishing, and replay by overlapping pulls."""

from .publishing import BulkError, Message, Receipt, TimedOut, publish
from .replaying import Columns, frame, replay

__all__ = ["BulkError", "Columns", "Message", "Receipt", "TimedOut", "frame", "publish", "replay"]
