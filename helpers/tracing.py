"""Correlation IDs: a context variable, the header that carries it, a log filter, and spans as a data frame.

The header is the mission's `X-Correlation-ID`. Beside it stands `traceparent` of W3C Trace Context
(https://www.w3.org/TR/trace-context/), whose trace-id is the correlation ID's own 32 hexadecimal digits.
"""

import asyncio
import logging
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from logging.handlers import BufferingHandler

import pandas as pd
from nats.aio.msg import Msg

HEADER = "X-Correlation-ID"
NONE = "-"  # what a log line shows where no correlation ID was set

correlation_id: ContextVar[str] = ContextVar("correlation_id", default=NONE)


def traceparent(id_: str) -> str:
    """`version-traceid-parentid-flags` of W3C Trace Context, sampled, with a new parent ID."""
    try:
        trace = uuid.UUID(id_)
    except ValueError:
        trace = uuid.uuid5(uuid.NAMESPACE_OID, id_)
    return f"00-{trace.hex}-{secrets.token_hex(8)}-01"


def headers() -> dict[str, str]:
    """The headers that carry the current correlation ID with a message; none where none was set."""
    id_ = correlation_id.get()
    return {} if id_ == NONE else {HEADER: id_, "traceparent": traceparent(id_)}


@contextmanager
def correlated(id_or_headers: str | Mapping[str, str] | None) -> Iterator[str]:
    """Everything inside the block belongs to this correlation ID, or to the one in these headers.

    The value before is put back at the end: nats-py runs all callbacks of a subscription in one task, so an
    ID that stayed set would leak into the next message.
    """
    id_ = id_or_headers if isinstance(id_or_headers, str) else (id_or_headers or {}).get(HEADER, NONE)
    token = correlation_id.set(id_)
    try:
        yield id_
    finally:
        correlation_id.reset(token)


def in_tasks(handler: Callable[[Msg], Awaitable[None]]) -> Callable[[Msg], Awaitable[None]]:
    """A callback for `subscribe` that handles each message in a task, under the message's correlation ID.

    nats-py runs the callbacks of a subscription one after the other: one that waits holds up the next.
    """
    tasks: set[asyncio.Task] = set()  # a task without a reference may vanish before it is done

    async def receive(msg: Msg) -> None:
        with correlated(msg.headers):
            task = asyncio.create_task(handler(msg))  # a task starts with a copy of the context
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return receive


def _with_id(record: logging.LogRecord) -> bool:
    """Writes the current correlation ID into a log record, for `%(correlation_id)s`."""
    record.correlation_id = correlation_id.get()
    return True


def logger(name: str) -> tuple[logging.Logger, list[logging.LogRecord]]:
    """A logger that prints nothing, and the list of its records, each with a `correlation_id`."""
    collect = BufferingHandler(capacity=1_000_000)  # records; it is emptied when it is full
    collect.addFilter(_with_id)
    log = logging.getLogger(name)
    log.handlers, log.propagate = [collect], False
    log.setLevel(logging.INFO)
    return log, collect.buffer


class Spans:
    """What was done when and for whom, in this process: one clock, so spans of several services compare."""

    def __init__(self) -> None:
        self._rows: list[tuple] = []

    @contextmanager
    def span(self, service: str, operation: str) -> Iterator[None]:
        """Times the block under the current correlation ID."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self._rows.append((correlation_id.get(), service, operation, start, seconds))

    @property
    def frame(self) -> pd.DataFrame:
        """A row a span, by its start: correlation_id, service, operation, start and seconds (s)."""
        columns = ["correlation_id", "service", "operation", "start", "seconds"]
        return pd.DataFrame(self._rows, columns=columns).sort_values("start", ignore_index=True)
