"""Replay by overlapping pulls, straight to columns.

A client that fetches 1,000 messages and then asks for the next 1,000 waits a round trip each time, and
nats-py's `fetch` makes a task and a timer a message. Here two requests are always outstanding, all
messages arrive in one callback (`taps`), and what their reply subjects tell is read for thousands at
once. The protocol is the pull consumer's: ADR-13 and ADR-37 of
github.com/nats-io/nats-architecture-and-design.
"""

import asyncio
import contextlib
import csv
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import compress
from typing import TypeVar

import nats
import numpy as np
import pandas as pd
from nats.aio.msg import Msg
from nats.errors import OutboundBufferLimitError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy
from nats.js.errors import NotFoundError, ServiceUnavailableError

from .errors import Broken, NoStream, TimedOut
from .taps import tap, untap

T = TypeVar("T")
PULL = 5_000  # messages a request
HEARTBEAT = 0.5  # seconds between the server's signs of life when it has nothing to send
NO_STREAM = 10059


def _numbers() -> np.ndarray:
    return np.empty(0, dtype="int64")


@dataclass
class Columns:
    """Messages of a stream in the order of their sequence: a column each, of one length."""

    seq: np.ndarray = field(default_factory=_numbers)  # int64
    time: np.ndarray = field(default_factory=_numbers)  # when stored, int64 ns since 1970 UTC
    subject: list[str] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str] | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.seq)

    def __add__(self, other: "Columns") -> "Columns":
        return Columns(
            np.concatenate([self.seq, other.seq]),
            np.concatenate([self.time, other.time]),
            self.subject + other.subject,
            self.data + other.data,
            self.headers + other.headers,
        )

    def frame(self) -> pd.DataFrame:
        """A row a message: seq, time (UTC), subject, data (bytes), headers (dict or None)."""
        # Plain objects: pandas would look at every single value to guess a type of its own.
        objects = {
            name: pd.Series(getattr(self, name), dtype=object) for name in ("subject", "data", "headers")
        }
        return pd.DataFrame({"seq": self.seq, "time": pd.to_datetime(self.time, utc=True)} | objects)


async def replay(
    nc: nats.NATS,
    stream: str,
    *,
    config: ConsumerConfig | None = None,
    rows: int = 50_000,
    timeout: float = 2.0,
    patience: float = 30.0,
) -> AsyncIterator[Columns]:
    """Yields what `stream` holds now, `rows` messages at a time (the last time fewer), in order.

    `config` says where to start and what to filter, as for any consumer: `deliver_policy`,
    `opt_start_seq`, `opt_start_time`, `filter_subject(s)`, `replay_policy`. Nothing is acknowledged,
    and the consumer goes with the replay. At most `2 * rows` messages are in memory.

    When the consumer is lost with its node, or nothing is heard for `timeout` seconds, another goes on
    behind the last message received: every message comes once, in order. Raises NoStream, ValueError
    for a policy that does not look back, and TimedOut after `patience` seconds without a message.
    Leaving the loop early, use `contextlib.aclosing` to end the subscription at once.
    """
    config = config or ConsumerConfig()
    if config.deliver_policy == DeliverPolicy.NEW or rows < 1:
        raise ValueError("a replay looks back: deliver_policy must not be NEW, and rows not below 1")
    reader = _Reader(nc, stream, config, rows, timeout, patience)
    while await reader.left():
        async with reader.consumer():
            while part := await reader.part():
                yield part
    if rest := reader.digest():
        yield rest


async def frame(nc: nats.NATS, stream: str, *, config: ConsumerConfig | None = None) -> pd.DataFrame:
    """The whole replay as one data frame: seq, time (UTC), subject, data (bytes), headers."""
    parts = [part.frame() async for part in replay(nc, stream, config=config)]
    return pd.concat(parts, ignore_index=True) if parts else Columns().frame()


class _Reader:
    """One replay: where it stands, and the consumer that feeds it at the moment."""

    def __init__(
        self, nc: nats.NATS, stream: str, config: ConsumerConfig, rows: int, timeout: float, patience: float
    ) -> None:
        self.nc, self.stream, self.config, self.rows = nc, stream, config, rows
        self.timeout, self.patience = timeout, patience
        self.js: JetStreamContext = nc.jetstream(timeout=min(timeout, 1.0))
        self.loop = asyncio.get_running_loop()
        self.columns = Columns()  # read, and not yet given out
        self.told = 0  # the highest sequence read so far
        self.raw: tuple[list, list, list, list] = ([], [], [], [])  # reply, subject, data, headers
        self.sure = 0  # so many of them, from the first, without a gap
        self.seen = 0  # the highest sequence among them, or before
        self.target = 0  # the last sequence there was to receive when the replay began
        self.name = ""
        self.inbox = ""
        self.sid = 0  # the subscription's number, as the first message has told it
        self.delivered = 0  # by this consumer
        self.outstanding = 0  # asked for and not yet delivered
        self.signs = 0  # messages and heartbeats
        self.problem: Broken | None = None
        self.soon = False  # whether a look at what has come is due
        self.stir = asyncio.Event()
        self.given_up = self.loop.time() + patience

    # -- where it ends ------------------------------------------------------------------------

    async def left(self) -> bool:
        """Whether a message is left to receive; at first, finds out which is the last."""
        if not self.target:
            self.target = await self.last()
        return self.seen < self.target

    async def last(self) -> int:
        """The sequence of the last message that this replay can reach, 0 for none."""
        config, reachable = self.config, 0
        for subject in config.filter_subjects or [config.filter_subject or ">"]:
            try:
                found = await self.insist(lambda s=subject: self.js.get_last_msg(self.stream, s))
            except NotFoundError as error:
                if error.err_code == NO_STREAM:
                    raise NoStream(f"no stream {self.stream!r}: see `nats stream ls`") from None
                if subject == ">":  # the last message was deleted: `look` finds the end
                    info = await self.insist(lambda: self.js.stream_info(self.stream))
                    reachable = info.state.last_seq if info.state.messages else 0
                continue
            late = config.opt_start_time
            if late is not None and late.timestamp() - 1e-6 > found.time.timestamp():
                continue
            reachable = max(reachable, found.seq)
        return reachable if reachable >= (config.opt_start_seq or 0) else 0

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, although the API may be without a leader for a while."""
        while True:
            try:
                return await ask()
            except (TimeoutError, ServiceUnavailableError, nats.errors.NoRespondersError):
                await self.breathe()

    async def breathe(self) -> None:
        if self.loop.time() > self.given_up:
            raise TimedOut(
                f"no message of {self.stream} for {self.patience:.0f} s: look at `cluster.states()` and "
                "the stream's leader"
            )
        await asyncio.sleep(0.05)

    # -- a consumer ---------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def consumer(self) -> AsyncIterator[None]:
        """A consumer that goes on behind `seen`; ends quietly when it breaks."""
        changes = {
            "name": None,
            "durable_name": None,
            "deliver_subject": None,
            "ack_policy": AckPolicy.NONE,
            "mem_storage": True,
            "inactive_threshold": 30.0,
        }
        if self.seen and self.config.deliver_policy != DeliverPolicy.LAST_PER_SUBJECT:
            changes |= {
                "deliver_policy": DeliverPolicy.BY_START_SEQUENCE,
                "opt_start_seq": self.seen + 1,
                "opt_start_time": None,
            }
        config = self.config.evolve(**changes)
        self.name = (await self.insist(lambda: self.js.add_consumer(self.stream, config))).name
        self.inbox = self.nc.new_inbox()
        self.cut()
        self.delivered = self.outstanding = self.sid = 0
        self.problem = None
        subscription = await self.nc.subscribe(self.inbox, cb=self.on_message, pending_bytes_limit=0)
        try:
            yield
        except Broken:
            await self.breathe()
        finally:
            try:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()
            finally:
                untap(self.nc, self.sid)
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await self.js.delete_consumer(self.stream, self.name)

    async def part(self) -> Columns | None:
        """The next `rows` messages; None at the end, with the rest still to `digest`. Raises Broken."""
        while True:
            self.stir.clear()
            self.look_over()
            await self.ask()
            self.given_up = self.loop.time() + self.patience
            if self.seen >= self.target:
                return None
            if self.room() <= 0:
                if len(self.digest()) < self.rows:  # some came a second time
                    continue
                part, self.columns = self.columns, Columns()
                return part
            if self.problem:
                raise self.problem
            signs, delivered = self.signs, self.delivered
            try:
                async with asyncio.timeout(self.timeout):
                    await self.stir.wait()
            except TimeoutError:
                if self.signs == signs:
                    raise Broken("nothing heard") from None
                if self.delivered == delivered:
                    await self.look()

    async def look(self) -> None:
        """After heartbeats only: the end may have been deleted; and original speed has long pauses."""
        info = await self.insist(lambda: self.js.consumer_info(self.stream, self.name))
        if info.num_pending == 0:
            self.target = self.seen or -1
        elif self.config.replay_policy != ReplayPolicy.ORIGINAL:
            raise Broken("no message although some are pending")

    def room(self) -> int:
        """So many messages are missing to `rows`."""
        return self.rows - len(self.columns) - self.sure

    async def ask(self) -> None:
        """Keeps two requests outstanding, as long as there is room for what they bring.

        The first one is for one message: it tells the subscription's number, then the tap is set.
        """
        while self.outstanding <= (PULL if self.sid else 0):
            count = min(PULL if self.sid else 1, self.room() - self.outstanding)
            if count <= 0:
                return
            self.outstanding += count
            request = {"batch": count, "expires": int(30e9), "idle_heartbeat": int(HEARTBEAT * 1e9)}
            try:
                await self.nc.publish(
                    f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.name}",
                    json.dumps(request).encode(),
                    reply=self.inbox,
                )
            except OutboundBufferLimitError:
                self.fail("disconnected")
                return

    # -- what comes ---------------------------------------------------------------------------

    async def on_message(self, msg: Msg) -> None:
        """The first of a subscription; the others go straight to `take`."""
        self.sid = msg.sid
        tap(self.nc, msg.sid, self.take)
        self.take(msg.subject, msg.reply, msg.data, msg.headers)

    def take(self, subject: str, reply: str, data: bytes, headers: dict[str, str] | None) -> None:
        """A message, or a status. For a message no more than must be: all else waits for a burst's end."""
        if not reply.startswith("$JS.ACK."):
            self.look_over()
            self.on_status(headers or {})
            return
        replies, subjects, payloads, heads = self.raw
        replies.append(reply)
        subjects.append(subject)
        payloads.append(data)
        heads.append(headers)
        if not self.soon:
            self.soon = True
            self.loop.call_soon(self.look_over)

    def look_over(self) -> None:
        """What has come since: the last one's numbers tell whether all before it is there."""
        self.soon = False
        replies = self.raw[0]
        fresh = len(replies) - self.sure
        if not fresh:
            return
        self.signs += 1
        tokens = replies[-1].split(".")
        at = _at(tokens)
        if self.problem or int(tokens[at + 1]) != self.delivered + fresh:
            self.fail("a gap")
            self.cut()
            return
        self.delivered += fresh
        self.outstanding -= fresh
        self.sure += fresh
        self.seen = max(self.seen, int(tokens[at]))
        if self.outstanding <= PULL or self.seen >= self.target:
            self.stir.set()

    def cut(self) -> None:
        """Away with what is not sure: the next consumer brings it again."""
        for column in self.raw:
            del column[self.sure :]

    def digest(self) -> Columns:
        """`columns`, with all that is sure: each message once, none behind the end."""
        self.cut()
        replies, *objects = self.raw
        if replies:
            self.raw, self.sure = ([], [], [], []), 0
            seq, time = _read(replies)
            before = np.maximum.accumulate(np.concatenate([[self.told], seq]))
            keep = (seq > before[:-1]) & (seq <= self.target)
            if not keep.all():
                seq, time = seq[keep], time[keep]
                objects = [list(compress(column, keep)) for column in objects]
            self.told = int(before[-1])
            fresh = Columns(seq, time, *objects)
            self.columns = self.columns + fresh if self.columns else fresh
        return self.columns

    def on_status(self, headers: dict[str, str]) -> None:
        self.signs += 1
        match headers.get("Status"):
            case "100":  # a heartbeat, and nothing is lost: the next message would show a gap
                pass
            case "408":  # a request expired with so many of its messages undelivered
                self.outstanding -= int(headers.get("Nats-Pending-Messages", 0))
                self.stir.set()
            case _:  # 503 no responders, 409 consumer deleted, server shutdown, leadership change
                self.fail(headers.get("Description", "the consumer is gone"))

    def fail(self, why: str) -> None:
        self.problem = self.problem or Broken(why)
        self.stir.set()


def _at(tokens: list[str]) -> int:
    """Where a reply subject's numbers begin: stream sequence, consumer sequence, time, pending.

    $JS.ACK.[domain.account.]stream.consumer.delivered.stream_seq.consumer_seq.time.pending[.token]
    """
    return 5 if len(tokens) == 9 else 7


def _read(replies: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Stream sequence and time of each."""
    at = _at(replies[0].split("."))
    numbers = pd.read_csv(
        io.StringIO("\n".join(replies)),
        sep=".",
        header=None,
        usecols=[at, at + 2],
        dtype="int64",
        quoting=csv.QUOTE_NONE,  # a stream's name may have a quotation mark
    )
    return numbers[at].to_numpy(), numbers[at + 2].to_numpy()
