"""Replay by overlapping pulls, straight to columns.

A client that fetches 1,000 messages and then asks for the next 1,000 waits a round trip each time, and
nats-py's `fetch` makes a task and a timer a message. Here two requests are always outstanding, messages
are taken as the client parses them, and what their reply subjects tell is read for thousands at once.
The protocol is the pull consumer's: ADR-13 and ADR-37 of github.com/nats-io/nats-architecture-and-design.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import nats
import numpy as np
import pandas as pd
from nats.aio.msg import Msg
from nats.errors import NoRespondersError, OutboundBufferLimitError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy
from nats.js.errors import NotFoundError, ServiceUnavailableError

from .publishing import PAUSE, Broken, TimedOut

PULL = 5_000  # messages a request
REQUEST = {"expires": 30_000_000_000, "idle_heartbeat": 500_000_000}  # ns; the server's signs of life


@dataclass
class Columns:
    """Messages of a stream in the order of their sequence: a column each, of one length."""

    seq: np.ndarray  # int64
    time: np.ndarray  # when stored, int64 ns since 1970 UTC
    subject: list[str]
    data: list[bytes]
    headers: list[dict[str, str] | None]

    def __len__(self) -> int:
        return len(self.seq)

    def frame(self) -> pd.DataFrame:
        """A row a message: seq, time (UTC), subject, data (bytes), headers (dict or None)."""
        # Plain objects: pandas would look at every single value to guess a type of its own.
        objects = {n: pd.Series(getattr(self, n), dtype=object) for n in ("subject", "data", "headers")}
        return pd.DataFrame({"seq": self.seq, "time": pd.to_datetime(self.time, utc=True)} | objects)


async def replay(
    nc: nats.NATS,
    stream: str,
    *,
    config: ConsumerConfig | None = None,
    rows: int = 50_000,
    timeout: float = 2.0,
    patience: float = 30.0,
    domain: str | None = None,
) -> AsyncIterator[Columns]:
    """Yields what `stream` holds now, `rows` messages at a time (the last time fewer), in order.

    `config` says where to start and what to filter, as for any consumer: `deliver_policy`,
    `opt_start_seq`, `opt_start_time`, `filter_subject(s)`, `replay_policy`. Nothing is acknowledged,
    and the consumer goes with the replay. At most `2 * rows` messages are in memory. `domain` is the
    JetStream domain, where it is not the server's own.

    When the consumer is lost with its node, or nothing comes for `timeout` seconds, another goes on
    behind the last message received: every message comes once, in order. It ends when the stream's last
    message is there, or the stream itself has none left. Raises nats-py's NotFoundError for no stream,
    ValueError for a policy that does not look back, and TimedOut after `patience` seconds without a
    message. Leaving the loop early, use `contextlib.aclosing` to end the subscription at once.
    """
    config = config or ConsumerConfig()
    if config.deliver_policy == DeliverPolicy.NEW or rows < 1:
        raise ValueError("a replay looks back: deliver_policy must not be NEW, and rows not below 1")
    reader = _Reader(nc, stream, config, rows, timeout, patience, domain)
    reader.target = await reader.end()
    while reader.seen < reader.target:
        async with reader.consumer():
            while part := await reader.part():
                yield part
                reader.since = reader.latest = reader.clock()
    if (rest := reader.digest()) is not None and len(rest):
        yield rest


async def frame(
    nc: nats.NATS, stream: str, *, config: ConsumerConfig | None = None, domain: str | None = None
) -> pd.DataFrame:
    """The whole replay as one data frame: seq, time (UTC), subject, data (bytes), headers."""
    parts = [part.frame() async for part in replay(nc, stream, config=config, domain=domain)]
    nothing = Columns(*np.empty((2, 0), dtype="int64"), [], [], [])
    return pd.concat(parts or [nothing.frame()], ignore_index=True)


@dataclass
class _Reader:
    """One replay: where it stands, and the consumer that feeds it at the moment."""

    nc: nats.NATS
    stream: str
    config: ConsumerConfig
    rows: int
    timeout: float
    patience: float
    domain: str | None
    # Reply, subject, data, headers, not given out yet; no tuples, at which the garbage collector would look.
    raw: list[list] = field(default_factory=lambda: [[], [], [], []])
    sure: int = 0  # so many of them, from the first, without a gap
    seen: int = 0  # the highest sequence received
    given: int = 0  # the highest sequence given out
    target: int = 0  # the stream's last sequence when the replay began
    stir: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.js = self.nc.jetstream(domain=self.domain, timeout=min(self.timeout, 1.0))
        self.api = f"$JS.{self.domain}.API" if self.domain else "$JS.API"
        self.clock = asyncio.get_running_loop().time
        self.latest = self.clock()  # when messages came, or the caller came back for more

    async def end(self) -> int:
        return (await self.insist(self.js.stream_info, self.stream)).state.last_seq

    async def left(self) -> bool:
        """Whether the stream itself has one more: a consumer knows its own replica, which may lag."""
        for subject in self.config.filter_subjects or [self.config.filter_subject or ">"]:
            with contextlib.suppress(NotFoundError):
                found = await self.insist(self.js.get_msg, self.stream, self.seen + 1, subject, next=True)
                if found.seq <= self.target:
                    return True
        return await self.end() < self.target  # then who has answered lags, too

    async def insist(self, ask: Callable[..., Awaitable], *args: object, **options: object) -> Any:
        """The answer, although the API may be without a leader for a while."""
        while True:
            try:
                return await ask(*args, **options)
            except (TimeoutError, ServiceUnavailableError, NoRespondersError):
                await self.breathe()

    async def breathe(self) -> None:
        if self.clock() > self.latest + self.patience:
            raise TimedOut(
                f"no message of {self.stream} for {self.patience:.0f} s: see `nats stream info` for its "
                "leader and for replicas that lag"
            )
        await asyncio.sleep(PAUSE)

    @contextlib.asynccontextmanager
    async def consumer(self) -> AsyncIterator[None]:
        """A consumer that goes on behind `seen`; ends quietly when it breaks."""
        config = self.config.evolve(ack_policy=AckPolicy.NONE, mem_storage=True, inactive_threshold=30.0)
        if self.seen and config.deliver_policy != DeliverPolicy.LAST_PER_SUBJECT:  # that can only begin anew
            behind = {"opt_start_seq": self.seen + 1, "opt_start_time": None}
            config = config.evolve(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, **behind)
        info = await self.insist(self.js.add_consumer, self.stream, config)
        self.name, self.pending, self.inbox = info.name, info.num_pending, self.nc.new_inbox()
        self.seen = max(self.seen, info.delivered.stream_seq)  # it begins behind that
        self.delivered = self.outstanding = 0  # by this consumer; asked for and not yet delivered
        self.sid = 0  # the subscription's number, as the first message has told it
        self.problem: Broken | None = None
        self.since = self.clock()  # when it began, or messages came
        self.cut()
        subscription = await self.nc.subscribe(self.inbox, cb=self.on_first)
        try:
            yield
        except Broken:
            await self.breathe()
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
            if isinstance(taps := self.nc.msg_class, _Taps):
                taps.pop(self.sid, None)
                self.nc.msg_class = taps or taps.plain
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await self.js.delete_consumer(self.stream, self.name)

    async def part(self) -> Columns | None:
        """The next `rows` messages; None at the end, with the rest still to `digest`. Raises Broken."""
        while True:
            self.stir.clear()
            self.count()
            if self.seen >= self.target:
                return None
            if self.sure >= self.rows and len(part := self.digest()) == self.rows:
                self.raw, self.sure, self.given = [[], [], [], []], 0, int(part.seq[-1])
                return part
            if self.problem:
                raise self.problem
            silent = self.clock() > self.since + self.timeout
            if (silent or not self.pending) and not await self.left():
                self.target = self.seen
                return None
            if silent and not (self.pending and self.config.replay_policy == ReplayPolicy.ORIGINAL):
                raise Broken("nothing comes although something is left")
            await self.ask()
            try:
                async with asyncio.timeout(self.timeout):
                    await self.stir.wait()
            except TimeoutError:
                raise Broken("nothing heard") from None

    async def ask(self) -> None:
        """Keeps two requests outstanding, as long as there is room for what they bring.

        The first one is for one message: it tells the subscription's number, then the tap is set.
        """
        while self.outstanding <= (PULL if self.sid else 0):
            size = min(PULL if self.sid else 1, self.rows - len(self.raw[0]) - self.outstanding)
            if size <= 0:
                return
            self.outstanding += size
            subject = f"{self.api}.CONSUMER.MSG.NEXT.{self.stream}.{self.name}"
            try:
                await self.nc.publish(subject, json.dumps(REQUEST | {"batch": size}).encode(), self.inbox)
            except OutboundBufferLimitError:
                raise Broken("disconnected") from None

    async def on_first(self, msg: Msg) -> None:
        """The first message of a subscription; the others go straight to `take`."""
        if not isinstance(self.nc.msg_class, _Taps):
            self.nc.msg_class = _Taps(self.nc.msg_class)
        self.sid = msg.sid
        self.nc.msg_class[self.sid] = self.take
        self.take(msg.subject, msg.reply, msg.data, msg.headers)

    def take(self, subject: str, reply: str, data: bytes, headers: dict[str, str] | None) -> None:
        """A message, or a status. For a message no more than must be: `count` looks at many at once."""
        self.stir.set()
        if reply.startswith("$JS.ACK."):
            replies, subjects, payloads, heads = self.raw
            replies.append(reply)
            subjects.append(subject)
            payloads.append(data)
            heads.append(headers)
        elif (status := (headers or {}).get("Status")) == "408":  # expired, so many not delivered
            self.outstanding -= int(headers.get("Nats-Pending-Messages", 0))
        elif status != "100":  # not a heartbeat: no responders, consumer deleted, server shutdown
            self.problem = self.problem or Broken("the consumer is gone")

    def count(self) -> None:
        """What has come since: the last one's numbers tell whether all before it is there.

        $JS.ACK.[domain.account.]stream.consumer.delivered.stream_seq.consumer_seq.time.pending[.token]
        """
        if fresh := len(self.raw[0]) - self.sure:
            numbers = self.raw[0][-1].split(".")[_at(self.raw[0][-1]) :]
            if int(numbers[1]) != self.delivered + fresh:
                self.problem = self.problem or Broken("a gap")
                return self.cut()
            self.delivered += fresh
            self.outstanding -= fresh
            self.sure += fresh
            self.seen, self.pending = max(self.seen, int(numbers[0])), int(numbers[3])
            self.since = self.latest = self.clock()

    def cut(self) -> None:
        """Away with what is not sure: the next consumer brings it again."""
        for column in self.raw:
            del column[self.sure :]

    def digest(self) -> Columns | None:
        """All that is sure as columns: each message once, none behind the end."""
        if not self.sure:
            return None
        seq, time = _read(self.raw[0])
        before = np.maximum.accumulate(np.concatenate([[self.given], seq]))[:-1]
        keep = (seq > before) & (seq <= self.target)
        if not keep.all():
            seq, time = seq[keep], time[keep]
            self.raw, self.sure = [list(compress(column, keep)) for column in self.raw], len(seq)
        return Columns(seq, time, *self.raw[1:])


def _at(reply: str) -> int:
    """Where a reply subject's numbers begin."""
    return 5 if reply.count(".") == 8 else 7


def _read(replies: list[str]) -> np.ndarray:
    """Stream sequence and time of each."""
    at = _at(replies[0])
    # As text that is split at dots, for which NumPy's parser is the fastest there is.
    return np.loadtxt(replies, "int64", None, ".", usecols=(at, at + 2), unpack=True, ndmin=2)


class _Taps(dict[int, Callable]):
    """The message class of a connection: a subscription's number, and what takes its messages.

    nats-py makes a `Msg` of what it has parsed, puts it into a queue and wakes a task that calls the
    callback: of a small message's cost, a large part. The client's `msg_class` is there to be replaced
    (github.com/nats-io/nats.py, pull request 18), and where it returns None the message goes no further.
    It is called in the client's read loop, so what takes a message must neither raise nor take long.
    """

    def __init__(self, plain: Callable[..., Msg]) -> None:
        super().__init__()
        self.plain = plain

    def __call__(self, subject, reply, data, headers, _client, _sid) -> Msg | None:
        if _sid in self:
            return self[_sid](subject, reply, data, headers)
        return self.plain(
            _client=_client, subject=subject, reply=reply, data=data, headers=headers, _sid=_sid
        )
