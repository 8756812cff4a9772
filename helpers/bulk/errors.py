"""What batched publishing and replay raise, each with the cause and the repair."""


class BulkError(RuntimeError):
    """What went wrong, why, and the repair. `acked`: so many messages, from the first, are stored."""

    acked = 0


class NotEnabled(BulkError):
    """The stream does not allow batches."""


class NoStream(BulkError):
    """No stream of that name, or none that captures the subject."""


class Refused(BulkError):
    """The server or the client refused one message: too large, a limit reached, a wrong expectation."""


class Unsupported(BulkError):
    """The server is older than 2.14."""


class TimedOut(BulkError):
    """Nothing came although it was begun again."""


class Broken(Exception):
    """Inside only: this batch or consumer is over, another may go on. No leader, a gap, no answer."""
