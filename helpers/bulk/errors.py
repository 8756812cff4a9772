"""What batched publishing and replay raise, each with the cause and the repair."""

PAUSE = 0.05  # seconds between two attempts


class BulkError(RuntimeError):
    """Refused, by the server or the client. `acked`: so many messages, from the first, are surely stored."""

    acked = 0


class TimedOut(BulkError):
    """Nothing came although it was begun again: what was not acknowledged may be stored or not."""


class Broken(Exception):
    """Inside only: this batch or consumer is over, another may go on. No leader, a gap, no answer."""
