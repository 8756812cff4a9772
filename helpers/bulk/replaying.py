"""Replay by overlapping pulls, straight to columns.

A client that fetches 1,000 messages and then asks for the next 1,000 waits a round trip each time, and
nats-py's `fetch` makes a task and a timer a message. Here two requests are always outstanding and all
messages arrive in one callback. The protocol is the pull consumer's: ADR-13 and ADR-37 of
github.com/nats-io/nats-architecture-and-design.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import nats
import pandas as pd
from nats.aio.msg import Msg
from nats.errors import OutboundBufferLimitError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy
from nats.js.errors import NotFoundError, ServiceUnavailableError

from .errors import Broken, NoStream, TimedOut

T = TypeVar("T")
PULL = 2_000  # messages a request
HEARTBEAT = 0.5  # seconds between the server's signs of life when it has nothing to send
NO_STREAM = 10059


@dataclass
class Columns:
    """Messages of a stream, one list a column, in the order of their sequence."""

    seq: list[int] = field(default_factory=list)
    time: list[int] = field(default_factory=list)  # when stored, ns since 1970 UTC
    subject: list[str] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str] | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.seq)

    def frame(self) -> pd.DataFrame:
        """A row a message: seq, time (UTC), subject, data (bytes), headers (dict or None)."""
        time = pd.to_datetime(pd.Series(self.time, dtype="int64"), utc=True)
        # Plain objects: pandas would look at every single value to guess a type of its own.
        objects = {
            name: pd.Series(getattr(self, name), dtype=object) for name in ("subject", "data", "headers")
        }
        return pd.DataFrame({"seq": pd.Series(self.seq, dtype="int64"), "time": time} | objects)


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
    if reader.columns:
        yield reader.columns


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
        self.columns = Columns()
        self.seen = 0  # stream sequence of the last message received
        self.target = 0  # of the last one there was to receive when the replay began
        self.name = ""
        self.inbox = ""
        self.delivered = 0  # by this consumer
        self.outstanding = 0  # asked for and not yet delivered
        self.signs = 0  # messages and heartbeats
        self.problem: Broken | None = None
        self.stir = asyncio.Event()
        self.given_up = asyncio.get_running_loop().time() + patience

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
        if asyncio.get_running_loop().time() > self.given_up:
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
        self.delivered = self.outstanding = 0
        self.problem = None
        subscription = await self.nc.subscribe(self.inbox, cb=self.on_message, pending_bytes_limit=0)
        try:
            yield
        except Broken:
            await self.breathe()
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await self.js.delete_consumer(self.stream, self.name)

    async def part(self) -> Columns | None:
        """The next `rows` messages; None at the end, with the rest in `columns`. Raises Broken."""
        while len(self.columns) < self.rows:
            await self.ask()
            self.given_up = asyncio.get_running_loop().time() + self.patience
            if self.seen >= self.target:
                return None
            if self.problem:
                raise self.problem
            signs, delivered = self.signs, self.delivered
            self.stir.clear()
            try:
                async with asyncio.timeout(self.timeout):
                    await self.stir.wait()
            except TimeoutError:
                if self.signs == signs:
                    raise Broken("nothing heard") from None
                if self.delivered == delivered:
                    await self.look()
        part, self.columns = self.columns, Columns()
        return part

    async def look(self) -> None:
        """After heartbeats only: the end may have been deleted; and original speed has long pauses."""
        info = await self.insist(lambda: self.js.consumer_info(self.stream, self.name))
        if info.num_pending == 0:
            self.target = self.seen or -1
        elif self.config.replay_policy != ReplayPolicy.ORIGINAL:
            raise Broken("no message although some are pending")

    async def ask(self) -> None:
        """Keeps two requests outstanding, as long as there is room for what they bring."""
        while self.outstanding <= PULL:
            count = min(PULL, self.rows - len(self.columns) - self.outstanding)
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

    async def on_message(self, msg: Msg) -> None:
        """A message, or a status: heartbeat, end of a request, loss of the consumer."""
        self.signs += 1
        reply = msg.reply
        if not reply.startswith("$JS.ACK."):
            self.on_status(msg)
            return
        # $JS.ACK.[domain.account.]stream.consumer.delivered.stream_seq.consumer_seq.time.pending[.token]
        tokens = reply.split(".")
        at = 5 if len(tokens) == 9 else 7
        seq = int(tokens[at])
        if self.problem or int(tokens[at + 1]) != self.delivered + 1:
            self.fail("a gap")
            return
        self.delivered += 1
        self.outstanding -= 1
        if self.seen < seq <= self.target:
            self.seen = seq
            columns = self.columns
            columns.seq.append(seq)
            columns.time.append(int(tokens[at + 2]))
            columns.subject.append(msg.subject)
            columns.data.append(msg.data)
            columns.headers.append(msg.headers)
            if len(columns) >= self.rows:
                self.stir.set()
        if seq >= self.target:
            self.stir.set()
        elif self.outstanding <= PULL:
            await self.ask()

    def on_status(self, msg: Msg) -> None:
        headers = msg.headers or {}
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
