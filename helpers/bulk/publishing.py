"""Batched publishing with flow acknowledgements.

The protocol is the server's "fast ingest" (2.14 and later, streams with `allow_batched`): ADR-50 of
github.com/nats-io/nats-architecture-and-design, section "Fast-ingest Batch Publishing".
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import nats
from nats.aio.msg import Msg
from nats.errors import MaxPayloadError, OutboundBufferLimitError
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from .errors import Broken, BulkError, NoStream, NotEnabled, Refused, TimedOut, Unsupported

Message = tuple[str, bytes, dict[str, str] | None]  # subject, payload, headers

# Operations of the protocol, the token before the last of a message's reply subject.
START, APPEND, END = 0, 1, 3
# The server's error codes: https://github.com/nats-io/nats-server/blob/main/server/errors.json
NOT_ENABLED = 10205
PASSING = {  # the same message may be accepted a little later
    10008,  # JetStream system temporarily unavailable
    10009,  # not the leader
    10158,  # duplicate message id is in process
    10208,  # batch publish ID unknown
    10211,  # too many batches in flight
}
WINDOWS = 2  # flow windows in flight: the server works on one while the next arrives


@dataclass(frozen=True)
class Receipt:
    """What `publish` did.

    count     messages acknowledged: stored, or dropped by the server as duplicates of stored ones
    last_seq  stream sequence of the last message stored; None when all were duplicates
    resumed   how many times a batch broke and another went on from its last acknowledgement
    """

    count: int
    last_seq: int | None
    resumed: int


async def publish(
    nc: nats.NATS,
    messages: Iterable[Message],
    *,
    flow: int = 200,
    timeout: float = 2.0,
    patience: float = 30.0,
    on_progress: Callable[[int], object] | None = None,
) -> Receipt:
    """Publishes (subject, payload, headers or None) in order, to one stream with `allow_batched=True`.

    The server acknowledges every `flow` messages, or more often when it is busy; no more than two such
    windows are in flight. An acknowledgement means stored, by a quorum where the stream has replicas.
    `on_progress` is called with the number newly acknowledged, as `tqdm(...).update` takes it.

    A batch that breaks (the leader dies, nothing is heard for `timeout` seconds) is followed by another,
    until `patience` seconds pass without an acknowledgement. What was in flight is sent again first,
    with the same headers. So with a `Nats-Msg-Id` in every message each is stored once and in order, as
    long as the stream's `duplicate_window` exceeds the outage; without them nothing acknowledged is
    lost, but up to two windows of messages may be stored twice. An ID that comes a second time is
    counted and not stored.

    Raises ValueError for no messages, else a BulkError: NotEnabled, NoStream, Refused, Unsupported,
    TimedOut. Cancelled, it ends at once; what was in flight may or may not be stored.
    """
    source = iter(messages)
    in_flight: deque[Message] = deque()
    try:
        in_flight.append(next(source))
    except StopIteration:
        raise ValueError("no messages: the iterable is empty") from None
    version = nc.connected_server_version
    if (version.major, version.minor) < (2, 14):
        raise Unsupported(f"batches with flow acks need nats-server 2.14, this is {version}: upgrade it")
    run = _Run(nc, source, in_flight, flow, timeout, patience, on_progress)
    try:
        return await run()
    except BulkError as error:
        error.acked = run.acked
        raise


class _Run:
    """One call of `publish`: the messages to come, those in flight, and what is acknowledged."""

    def __init__(
        self,
        nc: nats.NATS,
        source: Iterator[Message],
        in_flight: deque[Message],
        flow: int,
        timeout: float,
        patience: float,
        on_progress: Callable[[int], object] | None,
    ) -> None:
        self.nc, self.source, self.in_flight = nc, source, in_flight
        self.flow, self.timeout, self.patience = flow, timeout, patience
        self.on_progress = on_progress
        self.acked, self.last_seq, self.resumed = 0, 0, 0

    async def __call__(self) -> Receipt:
        while True:
            try:
                await _Batch(self).send()
                break
            except Broken:
                self.resumed += 1
                await self.repeat()
                if not self.more():
                    break
        return Receipt(self.acked, self.last_seq or None, self.resumed)

    def more(self) -> bool:
        """Whether a message is left; it then waits in `in_flight`."""
        for message in self.source:
            self.in_flight.append(message)
            return True
        return False

    def settle(self, count: int) -> None:
        """The first `count` messages in flight are stored."""
        for _ in range(count):
            self.in_flight.popleft()
        self.acked += count
        if count and self.on_progress:
            self.on_progress(count)

    async def repeat(self) -> None:
        """Sends what was in flight once more, one message at a time.

        Not in a new batch: it would count a duplicate of a message that a leader without quorum only
        holds as stored (seen with 2.14.6), while to a publish the server says "duplicate in process"
        until the message truly is.
        """
        js = self.nc.jetstream(timeout=min(self.timeout, 0.5))
        patient_until = asyncio.get_running_loop().time() + self.patience
        while self.in_flight:
            subject, payload, headers = self.in_flight[0]
            try:
                ack = await js.publish(subject, payload, headers=headers)
            except APIError as error:
                if error.err_code not in PASSING:
                    raise _refusal(subject, error.err_code, error.description) from None
            except NoStreamResponseError:
                await self.must_be_captured(subject)  # or it has no leader yet
            except (TimeoutError, OutboundBufferLimitError):
                pass
            else:
                self.last_seq = max(self.last_seq, 0 if ack.duplicate else ack.seq)
                self.settle(1)
                patient_until = asyncio.get_running_loop().time() + self.patience
                continue
            if asyncio.get_running_loop().time() > patient_until:
                raise TimedOut(
                    f"no acknowledgement for {self.patience:.0f} s: look at `cluster.states()` and the "
                    "stream's leader, then publish again with the same message IDs"
                )
            await asyncio.sleep(0.05)

    async def must_be_captured(self, subject: str) -> None:
        """Raises NoStream when the server says that no stream captures `subject`."""
        try:
            await self.nc.jetstream(timeout=1).find_stream_name_by_subject(subject)
        except NotFoundError:
            raise NoStream(
                f"no stream captures {subject!r}: add one with "
                f"`js.add_stream(name=..., subjects=[{subject!r}], allow_batched=True)`"
            ) from None
        except (nats.errors.Error, TimeoutError):
            pass  # the API has no leader either; the next attempt asks again


class _Batch:
    """One batch: its inbox, and what the server said there."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.inbox = f"{run.nc.new_inbox()}.{run.nc.new_inbox().rpartition('.')[2]}"
        self.subject = run.in_flight[0][0]  # one the stream captures, once the batch has begun
        self.sent = 0
        self.stored = 0  # batch sequence up to which everything is stored
        self.settled = 0  # of these, handed on to the run
        self.window = 0  # messages an acknowledgement; 0 before the first one
        self.problem: Exception | None = None
        self.commit: Mapping | None = None
        self.heard = asyncio.Event()

    async def send(self) -> None:
        """Sends everything there is, or raises Broken or BulkError; settles what is stored either way."""
        subscription = await self.run.nc.subscribe(f"{self.inbox}.>", cb=self.on_reply)
        try:
            await self.send_all()
        except (Broken, BulkError):
            await self.last_word()
            raise
        finally:
            with contextlib.suppress(nats.errors.Error):  # a closed connection has forgotten it already
                await subscription.unsubscribe()

    async def send_all(self) -> None:
        run = self.run
        await self.put(START)
        await self.until(lambda: self.window)
        while run.more():
            await self.put(APPEND)
            if self.sent - self.stored > WINDOWS * self.window:
                await self.until(lambda: self.sent - self.stored <= WINDOWS * self.window)
            if self.problem:
                raise self.problem
        await self.end()
        await self.until(lambda: self.commit)
        if run.in_flight:
            raise Broken("committed before its end")

    def reply(self, operation: int, seq: int) -> str:
        return f"{self.inbox}.{self.run.flow}.fail.{seq}.{operation}.$FI"

    async def end(self) -> None:
        await self.run.nc.publish(self.subject, reply=self.reply(END, self.sent + 1))

    async def put(self, operation: int) -> None:
        """Publishes the last message of `in_flight` as the next of the batch."""
        subject, payload, headers = self.run.in_flight[-1]
        try:
            await self.run.nc.publish(subject, payload, self.reply(operation, self.sent + 1), headers)
        except MaxPayloadError:
            raise Refused(
                f"message {self.run.acked + len(self.run.in_flight)} ({subject}, {len(payload):,} bytes): "
                f"the server takes {self.run.nc.max_payload:,} at most (`max_payload`): split it, or store "
                "it as an object"
            ) from None
        except OutboundBufferLimitError:
            raise Broken("disconnected") from None
        self.sent += 1

    async def until(self, done: Callable[[], object]) -> None:
        """Waits until `done`, at most `timeout` seconds from the last thing heard."""
        while not done():
            if self.problem:
                raise self.problem
            self.heard.clear()
            try:
                async with asyncio.timeout(self.run.timeout):
                    await self.heard.wait()
            except TimeoutError:
                raise Broken(f"nothing heard for {self.run.timeout} s") from None
            self.settle()

    def settle(self) -> None:
        """Hands what is newly stored on to the run."""
        self.run.settle(self.stored - self.settled)
        self.settled = self.stored

    async def last_word(self) -> None:
        """After a problem: ends the batch, and learns from its last reply how much of it is stored."""
        if self.window and self.sent and not self.commit:
            try:
                await self.end()
                async with asyncio.timeout(0.2):
                    while not self.commit:
                        self.heard.clear()
                        await self.heard.wait()
            except (TimeoutError, OutboundBufferLimitError):
                pass  # then only what is known is settled
        self.settle()

    async def on_reply(self, msg: Msg) -> None:
        """An acknowledgement, a gap, an error, or the publish acknowledgement that ends the batch."""
        seq = int(msg.subject.rsplit(".", 3)[1])  # of the message this answers
        if not msg.data:  # nobody took it: no such stream, or no leader
            if not self.problem:
                try:
                    await self.run.must_be_captured(self.subject_of(seq))
                    self.fail(Broken("no leader"))
                except NoStream as problem:
                    self.fail(problem)
            return
        reply = json.loads(msg.data)
        error = reply.get("error")
        match reply.get("type"):
            case "ack":
                self.stored = max(self.stored, reply["seq"])
                self.window = max(1, reply["msgs"])
            case "gap":
                self.fail(Broken(f"gap before message {reply['seq']}"))
            case _ if error:
                self.fail(
                    Broken(error["description"])
                    if error["err_code"] in PASSING
                    else _refusal(self.subject_of(seq), error["err_code"], error["description"])
                )
            case _ if "batch" in reply:
                self.commit = reply
                self.stored = max(self.stored, reply["count"])
                self.run.last_seq = max(self.run.last_seq, reply["seq"])
            case _:  # an older leader stored this one message and knows nothing of a batch
                self.fail(
                    Unsupported("the stream's leader is older than nats-server 2.14: upgrade every node")
                )
        self.heard.set()

    def fail(self, problem: Exception) -> None:
        # The first problem is the cause; but a gap may be heard before the error that made it.
        if self.problem is None or isinstance(self.problem, Broken):
            self.problem = problem
        self.heard.set()

    def subject_of(self, seq: int) -> str:
        """The subject of a message of this batch, which is still in flight since it failed."""
        return self.run.in_flight[seq - 1 - self.settled][0]


def _refusal(subject: str, err_code: int, description: str) -> BulkError:
    if err_code == NOT_ENABLED:
        return NotEnabled(
            f"the stream of {subject!r} does not take batches ({err_code}): allow them with "
            "`js.update_stream(config, allow_batched=True)` or `nats stream edit NAME --allow-fast`"
        )
    return Refused(f"{subject}: {description} ({err_code})")
