"""Self-checks of the exercises, a module a notebook, a function an exercise.

Each asks the live cluster and answers one of three ways: not attempted, not yet (with a hint from what
the server says), correct. It never raises for what a learner did: `exercise` around it turns whatever an
answer does into "not yet" with what it did and where, within seconds. It changes nothing.
"""

import asyncio
import functools
import linecache
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, StreamInfo
from nats.js.errors import NotFoundError

from ..classroom import report
from ..cluster.interface import callback_errors

LESSONS = {
    "persistence": "01",
    "clustering": "02",
    "request_reply": "03",
    "consumer_groups": "04",
    "replay": "05",
}
PATIENCE = 20  # seconds after which an answer that does not come is "not yet"


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


def exercise(check: Callable[..., Awaitable[Outcome]]) -> Callable[..., Awaitable[Outcome]]:
    """Around each check: an answer that raises, in a callback too, or never returns is "not yet"."""

    module = check.__module__.rpartition(".")[2]
    lesson, name = LESSONS.get(module, module), check.__name__

    @functools.wraps(check)
    async def reported(*args: object, **more: object) -> Outcome:
        outcome = await guarded(*args, **more)
        await report.tell(lesson, name, outcome.state)  # only where CLASS_URL is set
        return outcome

    async def guarded(*args: object, **more: object) -> Outcome:
        callback_errors.clear()
        task = asyncio.ensure_future(check(*args, **more))
        await asyncio.wait([task], timeout=PATIENCE)
        if not task.done():
            task.cancel()
            return not_yet(f"no end after {PATIENCE} s: what does your code wait for?{_heard()}")
        if task.cancelled():
            return not_yet(f"it was cancelled.{_heard()}")
        if error := task.exception():
            return not_yet(f"your answer led to {_told(error)}.{_heard()}")
        outcome = task.result()
        return outcome if outcome.state != "not yet" else not_yet(outcome.message + _heard())

    return reported


def _told(error: BaseException) -> str:
    """The error's type and message, and the line of the learner's own code where it began."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if "ipykernel" in f.filename or f.filename.startswith("<")]
    where = ""
    if theirs:
        line = (linecache.getline(theirs[-1].filename, theirs[-1].lineno or 0)).strip()
        where = f" in line {theirs[-1].lineno}" + (f", `{line}`" if line else "")
    return f"{type(error).__name__}: {error}{where}"


def _heard() -> str:
    """What callbacks of this connection raised meanwhile; nobody else sees it."""
    raised = [error for error in callback_errors if not isinstance(error, OSError | nats.errors.Error)]
    return f" A callback raised {_told(raised[-1])}." if raised else ""


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
