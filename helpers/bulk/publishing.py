"""Batched publishing with flow acknowledgements.

The protocol is the server's "fast ingest" (2.14 and later, streams with `allow_batched`): ADR-50 of
github.com/nats-io/nats-architecture-and-design, section "Fast-ingest Batch Publishing".
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import nats
from nats.aio.msg import Msg
from nats.errors import MaxPayloadError, OutboundBufferLimitError
from nats.js.errors import NotFoundError

Message = tuple[str, bytes, dict[str, str] | None]  # subject, payload, headers

PAUSE = 0.05  # seconds between two attempts
START, APPEND, COMMIT, END = range(4)  # the protocol's operations
FLOW = 200  # messages an acknowledgement at most; more are not faster
WINDOWS = 2  # flow windows in flight: the server works on one while the next arrives
# https://github.com/nats-io/nats-server/blob/main/server/errors.json: no leader, not the leader, ID in
# process, batch unknown, too many batches. The same message may be accepted a little later.
PASSING = {10008, 10009, 10158, 10208, 10211}
NEVER = str(1 << 53)  # a sequence that no stream reaches
REPAIR = {10205: ": allow them with `js.update_stream(config, allow_batched=True)`"}


class BulkError(RuntimeError):
    """Refused, by the server or the client. `acked`: so many messages, from the first, are surely stored."""

    acked = 0


class TimedOut(BulkError):
    """Nothing came although it was begun again: what was not acknowledged may be stored or not."""


class Broken(Exception):
    """Inside only: this batch or consumer is over, another may go on. No leader, a gap, no answer."""


@dataclass(frozen=True)
class Receipt:
    count: int  # messages acknowledged: stored, or dropped by the server as duplicates of stored ones
    last_seq: int | None  # stream sequence of the last message stored; None when all were duplicates
    resumed: int  # how many times a batch broke, and what was in flight was sent again


async def publish(
    nc: nats.NATS,
    messages: Iterable[Message],
    *,
    timeout: float = 2.0,
    patience: float = 30.0,
    domain: str | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> Receipt:
    """Publishes (subject, payload, headers or None) in order, to one stream with `allow_batched=True`.

    At most about 400 messages are in flight; an acknowledgement means stored, by a quorum where the
    stream has replicas. `on_progress` is called with the number newly acknowledged, as
    `tqdm(...).update` takes it. `domain` is the JetStream domain, where it is not the server's own.

    A batch that breaks (the leader dies, nothing is heard for `timeout` seconds) is followed by another,
    until `patience` seconds pass without an acknowledgement. What was in flight is sent again first,
    with the same headers. So with a `Nats-Msg-Id` in every message each is stored once and in order, as
    long as the stream's `duplicate_window` exceeds the outage; without them nothing acknowledged is
    lost, but what was in flight may be stored twice. An ID that comes a second time is not stored.

    Raises ValueError for no messages, TimedOut, and else BulkError: no batches allowed, no stream, a
    message or a limit exceeded, a server before 2.14. Cancelled, it ends at once; what was in flight may
    or may not be stored.
    """
    publisher = _Publisher(nc, iter(messages), timeout, patience, domain, on_progress)
    subscription = await nc.subscribe(f"{publisher.inbox}.>", cb=publisher.on_reply)
    try:
        await publisher.send_all()
    except BulkError as error:
        error.acked = publisher.acked
        raise
    finally:
        with contextlib.suppress(nats.errors.Error):  # a closed connection has forgotten it already
            await subscription.unsubscribe()
    if not publisher.acked:
        raise ValueError("no messages: the iterable is empty")
    return Receipt(publisher.acked, publisher.last_seq or None, publisher.resumed)


@dataclass
class _Publisher:
    """One call of `publish`: what is in flight and acknowledged, and the batch of the moment."""

    nc: nats.NATS
    source: Iterator[Message]
    timeout: float
    patience: float
    domain: str | None
    on_progress: Callable[[int], object] | None
    in_flight: deque[Message] = field(default_factory=deque)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    acked: int = 0
    last_seq: int = 0
    resumed: int = 0

    def __post_init__(self) -> None:
        self.inbox = self.nc.new_inbox()

    async def send_all(self) -> None:
        clock, acked = asyncio.get_running_loop().time, 0
        given_up = clock() + self.patience
        while True:
            try:
                if self.in_flight:
                    await self.repeat()
                return await self.batch(self.source, fresh=True)
            except (Broken, OutboundBufferLimitError) as broken:
                self.resumed += self.fresh
                if self.problem and self.in_flight:  # the server speaks, so it may know why
                    await self.must_be_captured(self.in_flight[0][0])
                if self.acked > acked:
                    acked, given_up = self.acked, clock() + self.patience
                if clock() > given_up:
                    raise TimedOut(
                        f"no acknowledgement for {self.patience:.0f} s ({broken}): see `nats stream info` "
                        "for the stream's leader, then publish again with the same message IDs"
                    ) from None
                await asyncio.sleep(PAUSE)

    def begin(self, fresh: bool) -> None:
        """A batch, `fresh` with messages never sent before, and with an ID of its own.

        A new leader goes on with the batches it has heard of, so under the old ID it would take the
        first messages of this one for those that it has.
        """
        self.fresh = fresh
        self.id = self.nc.new_inbox().rpartition(".")[2]
        self.sent = self.stored = self.settled = 0  # sequences in the batch
        self.window = 0  # messages an acknowledgement; 0 before the first one
        self.problem: Exception | None = None
        self.over = False  # its end is answered

    async def batch(self, messages: Iterable[Message], fresh: bool) -> None:
        """Sends `messages` as one batch; returns when its end is acknowledged. Raises Broken or BulkError."""
        self.begin(fresh)
        for message in messages:
            if fresh:
                self.in_flight.append(message)
            try:
                await self.put(APPEND if self.sent else START, *message)
            except MaxPayloadError:
                limit = (
                    f"{len(message[1]):,} bytes, and the server takes {self.nc.max_payload:,} (`max_payload`)"
                )
                self.problem = self.refusal(self.sent + 1, f"{limit}: split it, or use an object store")
                break
            self.sent += 1
            # The first one waits for the server's own window, in its answer.
            while not self.problem and self.sent - self.stored > WINDOWS * self.window:
                await self.hear()
            if self.problem:
                break
        if self.window and not self.over:  # also where it broke: what is stored need not be sent again
            await self.put(END, self.subject)
            while not self.over:
                await self.hear()
        self.settle()
        if self.problem:
            raise self.problem

    async def repeat(self) -> None:
        """Sends what was in flight once more, as a batch, and settles it.

        A batch counts a message whose ID its leader knows, even one that a leader without quorum only
        holds (2.14.6, `processJetStreamFastBatchMsg` in the server's stream.go). So the last ID is asked
        for as a batch of one, which is answered like a single publish: stored, in process, or, since it
        demands the impossible, refused. All that was sent before it stands before it in the leader's log.
        """
        await self.batch(tuple(self.in_flight), fresh=False)
        named = [m for m in self.in_flight if m[2] and "Nats-Msg-Id" in m[2]]
        if named:
            self.begin(fresh=False)
            subject, _, headers = named[-1]
            await self.put(COMMIT, subject, b"", headers | {"Nats-Expected-Last-Sequence": NEVER})
            while not self.over:
                await self.hear()
            if self.problem:
                raise Broken(f"the leader does not hold, or not yet, what it has counted: {self.problem}")
        self.fresh, self.stored, self.settled = True, len(self.in_flight), 0
        self.settle()

    async def put(self, operation: int, subject: str, payload=b"", headers=None) -> None:
        """Publishes the next message of the batch."""
        if operation == START:
            self.subject = subject  # one the stream captures, once the batch has begun
        reply = f"{self.inbox}.{self.id}.{FLOW}.fail.{self.sent + 1}.{operation}.$FI"
        await self.nc.publish(subject, payload, reply, headers)

    async def hear(self) -> None:
        """Waits for the server's next word, at most `timeout` seconds."""
        self.heard.clear()
        try:
            async with asyncio.timeout(self.timeout):
                await self.heard.wait()
        except TimeoutError:
            raise Broken(f"nothing heard for {self.timeout} s") from None
        self.settle()

    def settle(self) -> None:
        """What is newly known to be stored is in flight no more."""
        new = self.stored - self.settled if self.fresh else 0
        for _ in range(new):
            self.in_flight.popleft()
        self.settled += new
        self.acked += new
        if new and self.on_progress:
            self.on_progress(new)

    async def must_be_captured(self, subject: str) -> None:
        """Raises BulkError when the server says that no stream captures `subject`."""
        js = self.nc.jetstream(domain=self.domain, timeout=min(self.timeout, 0.5))
        try:
            await js.find_stream_name_by_subject(subject)
        except NotFoundError:
            raise BulkError(
                f"no stream captures {subject!r}: add one with "
                f"`js.add_stream(name=..., subjects=[{subject!r}], allow_batched=True)`"
            ) from None
        except (nats.errors.Error, TimeoutError):
            pass  # the API has no leader either; the next attempt asks again

    async def on_reply(self, msg: Msg) -> None:
        """An acknowledgement, a gap, an error, or the publish acknowledgement that ends the batch."""
        *_, batch, _flow, _gap, seq, operation, _suffix = msg.subject.split(".")
        if batch != self.id:
            return  # a late word on a batch that broke
        problem, reply = None, json.loads(msg.data or b"{}")
        match reply:
            case {"type": "ack"}:
                self.stored = max(self.stored, reply["seq"])
                self.window = max(1, reply["msgs"])
            case {"error": {"err_code": code, "description": what}}:
                refusal = self.refusal(int(seq), f"{what} ({code}){REPAIR.get(code, '')}")
                problem = Broken(what) if code in PASSING else refusal
            case {"batch": _, "seq": last, "count": count}:
                self.stored, self.last_seq = max(self.stored, count), max(self.last_seq, last)
                problem = Broken("ended by the server") if count < self.sent else None
            case {"stream": _}:  # an older leader stored this one message and knows nothing of a batch
                problem = BulkError("the stream's leader is older than nats-server 2.14: upgrade every node")
            case _:
                problem = Broken(reply.get("type", "no leader"))
        self.problem = self.problem or problem
        self.over = self.over or "batch" in reply or ("type" not in reply and int(operation) >= COMMIT)
        self.heard.set()

    def refusal(self, seq: int, why: str) -> BulkError:
        return BulkError(f"message {self.acked - self.settled + seq}: {why}")
