"""Self-checks of the exercises, a module a notebook, a function an exercise.

Each asks the live cluster and answers one of three ways: not attempted, not yet (with a hint from what
the server says), correct. It never raises for what a learner did, and changes nothing.
"""

from dataclasses import dataclass

from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, StreamInfo
from nats.js.errors import NotFoundError


@dataclass(frozen=True)
class Outcome:
    """What a check found; as a cell's last value it reads as one line."""

    state: str  # "not attempted", "not yet" or "correct"
    message: str

    def __repr__(self) -> str:
        return f"{self.state.capitalize()}: {self.message}"


def not_attempted(message: str) -> Outcome:
    return Outcome("not attempted", message)


def not_yet(hint: str) -> Outcome:
    return Outcome("not yet", hint)


def correct(message: str) -> Outcome:
    return Outcome("correct", message)


async def stream_of(js: JetStreamContext, name: str) -> StreamInfo | None:
    """What the server says of a stream, its subjects included; None where there is none."""
    try:
        return await js.stream_info(name, subjects_filter=">")
    except NotFoundError:
        return None


async def consumer_of(js: JetStreamContext, stream: str, name: str) -> ConsumerInfo | None:
    """What the server says of the consumer `name` of `stream`; None where there is none."""
    try:
        return await js.consumer_info(stream, name)
    except NotFoundError:
        return None
