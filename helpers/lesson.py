"""What only a notebook needs: an error as an output, and a second try where servers die."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from nats.errors import ConnectionClosedError, Error, NoRespondersError
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

Answer = TypeVar("Answer")
NO_ANSWER = (
    TimeoutError,  # asyncio's, of which nats-py's is a kind
    NoRespondersError,
    NoStreamResponseError,
    ServiceUnavailableError,
    ConnectionClosedError,
)


@contextmanager
def refused(what: str | None = None) -> Iterator[None]:
    """Runs a block that must fail, and prints how: the error's class; a server's `err_code: description`.

    `refused("no answer")` is for faults, under which the same loss comes as a time-out, a 503 or "no
    responders", as the moment will have it: those print "no answer", and nothing else passes. A block that
    raises nothing ends in an AssertionError; a mistake of Python's, as a NameError, goes on its way.
    """
    if what not in (None, "no answer"):
        raise ValueError(f'refused() or refused("no answer"), not refused({what!r})')
    expected = NO_ANSWER if what else (TimeoutError, OSError, Error)
    try:
        yield
    except expected as error:
        print(what or _told(error))
    else:
        raise AssertionError("nothing was refused here; this cell says that something is")


def _told(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, APIError) and error.err_code:
        return f"{name} {error.err_code}: {error.description}"
    return name


async def retry(action: Callable[[], Awaitable[Answer]], seconds: float = 20) -> Answer:
    """What `action()` returns, asked again while nobody answers; after `seconds` it raises what came last."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await action()
        except NO_ANSWER:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)  # the pause between two tries


async def end(*tasks: asyncio.Task) -> None:
    """Cancels tasks, waits until they have ended, and raises what one of them raised.

    More than once where needed: before Python 3.12 `asyncio.wait_for`, and with it a fetch or a request of
    nats-py, may swallow a cancellation.
    """
    for task in tasks:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.1)
    for task in tasks:
        if not task.cancelled():
            task.result()
