"""Self-checks of the exercises, a module a notebook, a function an exercise.

Each asks the live cluster and answers one of three ways: not attempted, not yet (with a hint from what
the server says), correct. It never raises for what a learner did: `exercise` around it turns whatever an
answer does into "not yet" with what it did and where, within seconds. It changes nothing.
"""

import asyncio
import functools
import traceback
from collections.abc import Awaitable, Callable

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, StreamInfo
from nats.js.errors import NotFoundError

from ..classroom import report
from ..cluster.interface import callback_errors

LESSONS = ("persistence", "clustering", "request_reply", "consumer_groups", "replay")  # 01 to 05
PATIENCE = 20  # seconds after which an answer that does not come is "not yet"


class Outcome(Exception):
    """What a check found, raised where it ends early; as a cell's last value it reads as one line."""

    def __init__(self, state: str, message: str) -> None:
        self.state, self.message = state, message  # "not attempted", "not yet" or "correct"

    def __repr__(self) -> str:
        return f"{self.state.capitalize()}: {self.message}"


def need(holds: object, hint: str, state: str = "not yet") -> None:
    """Ends the check with `hint` unless it `holds`."""
    if not holds:
        raise Outcome(state, hint)


async def stream_of(js: JetStreamContext, name: str, missing: str = "not attempted") -> StreamInfo:
    """What the server says of a stream, its subjects included; `missing` where there is none."""
    try:
        return await js.stream_info(name, subjects_filter=">")
    except NotFoundError:
        raise Outcome(missing, f"there is no stream {name} yet.") from None


async def consumer_of(js: JetStreamContext, stream: str, name: str) -> ConsumerInfo:
    """What the server says of a consumer of `stream`."""
    try:
        return await js.consumer_info(stream, name)
    except NotFoundError:
        raise Outcome("not yet", f"{stream} has no consumer `{name}`.") from None


def exercise(check: Callable[..., Awaitable[str]]) -> Callable[..., Awaitable[Outcome]]:
    """Around each check, which returns what to say when all is correct, or raises an Outcome."""
    module = check.__module__.rpartition(".")[2]
    lesson = f"{LESSONS.index(module) + 1:02}" if module in LESSONS else module

    @functools.wraps(check)
    async def checked(*args: object) -> Outcome:
        callback_errors.clear()
        task = asyncio.ensure_future(check(*args))
        try:
            await asyncio.wait([task], timeout=PATIENCE)
        finally:
            task.cancel()  # one that waits for ever, also where Stop ended this one; none that is done
        if not task.done():
            outcome = Outcome("not yet", f"no end after {PATIENCE} s: what does your code wait for?")
        elif task.cancelled():
            outcome = Outcome("not yet", "it was cancelled.")
        elif not (error := task.exception()):
            outcome = Outcome("correct", task.result())
        elif isinstance(error, Outcome):
            outcome = error
        else:
            outcome = Outcome("not yet", f"your answer led to {_told(error)}.")
        raised = [error for error in callback_errors if not isinstance(error, OSError | nats.errors.Error)]
        if outcome.state == "not yet" and raised:  # nobody else sees what a callback raises
            outcome.message += f" A callback raised {_told(raised[-1])}."
        await report.tell(lesson, check.__name__, outcome.state)
        return outcome

    return checked


def _told(error: BaseException) -> str:
    """The error's type and message, and the line of the learner's own code where it began."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if "ipykernel" in f.filename or f.filename.startswith("<")]
    said = f"{type(error).__name__}: {error}"
    if theirs:
        said += f" in line {theirs[-1].lineno}"
        said += f", `{theirs[-1].line}`" if theirs[-1].line else ""
    return said
