"""What experiments on consumer groups need: workers that come, go and die, a paced producer, a race.

And two raw requests for what nats-py has no call for: a pull and a consumer with every option of the server.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from itertools import count
from typing import TypeVar

import nats
import pandas as pd
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig
from nats.js.errors import APIError

from .cluster.interface import poll

Item = TypeVar("Item")
Work = Callable[[str, asyncio.Event], Coroutine]


class Pool:
    """Runs `work(name, stop)` once a worker; names are w1, w2, ... in the order of their start.

    `work` returns soon after `stop` is set. What a worker raises is raised again where it is
    removed or the pool is closed; a pool in an `async with` block is closed at its end.
    """

    def __init__(self, work: Work, size: int = 0) -> None:
        self._work, self._numbers = work, count(1)
        self._running: dict[str, tuple[asyncio.Task, asyncio.Event]] = {}
        for _ in range(size):
            self.add()

    def __len__(self) -> int:
        return len(self._running)

    def add(self) -> str:
        """Starts one more worker and returns its name."""
        name, stop = f"w{next(self._numbers)}", asyncio.Event()
        self._running[name] = (asyncio.create_task(self._work(name, stop)), stop)
        return name

    async def remove(self) -> None:
        """Asks the youngest worker to finish what it holds, and waits for it."""
        _, (task, stop) = self._running.popitem()
        stop.set()
        await task

    async def kill(self) -> None:
        """Cancels the oldest worker where it stands: what it holds is neither acked nor returned."""
        task, _ = self._running.pop(next(iter(self._running)))
        while not task.done():  # before Python 3.12 wait_for may swallow a cancellation
            task.cancel()
            await asyncio.wait([task], timeout=0.1)

    async def resize(self, size: int) -> None:
        """Adds or removes workers until there are `size`."""
        while len(self) < size:
            self.add()
        while len(self) > size:
            await self.remove()

    async def close(self) -> None:
        """Stops all of them at once, and waits."""
        tasks = [task for task, _ in self._running.values()]
        for _, stop in self._running.values():
            stop.set()
        self._running.clear()
        await asyncio.gather(*tasks)

    async def __aenter__(self) -> "Pool":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def paced(items: Iterable[Item], rate: Callable[[float], float] | None = None) -> AsyncIterator[Item]:
    """The items, so many a second as `rate` says for the second; one that is late is not left out.

    Without a rate they come as fast as they are taken.
    """
    start, due = time.perf_counter(), 0.0
    for item in items:
        if rate:
            due += 1 / rate(due)
            await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        yield item


async def until_ready(
    nc: nats.NATS, js: JetStreamContext, stream: str, durable: str, pending: int | None = None
) -> None:
    """Waits until a fetch finds a new consumer, and until the consumer says that `pending` messages wait.

    Every node has to hear of it, and its leader's replica may be behind what the stream acknowledged.
    """

    async def heard() -> bool:
        try:  # half a request: refused by whoever leads the consumer, so it takes no message
            return bool(
                await nc.request(f"{js._prefix}.CONSUMER.MSG.NEXT.{stream}.{durable}", b"{", timeout=1)
            )
        except nats.errors.Error:
            return False

    async def sees() -> bool:
        info = await js.consumer_info(stream, durable, timeout=2)
        return pending in (None, info.num_pending)

    await poll(heard, 10, f"the consumer {durable} is not heard of")
    await poll(sees, 10, f"the consumer {durable} does not see {pending} messages")


async def until_settled(js: JetStreamContext, stream: str, durable: str, seconds: float = 40) -> None:
    """Waits until all of the stream was delivered, and acknowledged or given up; also through an outage."""

    async def settled() -> bool:
        try:
            last = (await js.stream_info(stream)).state.last_seq
            info = await js.consumer_info(stream, durable, timeout=2)
        except (TimeoutError, APIError):
            return False  # no leader yet
        return info.delivered.stream_seq == last and not info.num_pending and not info.num_ack_pending

    await poll(settled, seconds, f"not everything in {stream} was delivered and settled by {durable}")


async def holds(js: JetStreamContext, stream: str, count: int) -> bool:
    """Whether the stream holds at least `count` messages."""
    return (await js.stream_info(stream)).state.messages >= count


async def pull(
    nc: nats.NATS, js: JetStreamContext, stream: str, durable: str, **options: object
) -> Subscription:
    """Sends a raw pull request; what comes back, messages or a status, comes into the inbox it returns.

    Options as the server reads them: batch (1), expires (ns), no_wait, group, min_pending, ...
    Source: https://docs.nats.io/reference/reference-protocols/nats_api_reference
    """
    inbox = await nc.subscribe(nc.new_inbox())
    request = json.dumps({"batch": 1} | options).encode()
    await nc.publish(f"{js._prefix}.CONSUMER.MSG.NEXT.{stream}.{durable}", request, inbox.subject)
    return inbox


async def answer(inbox: Subscription) -> str:
    """What comes into the inbox of `pull`: "a message", or a status, code and text. Closes the inbox."""
    msg = await inbox.next_msg(5)
    await inbox.unsubscribe()
    return "a message" if msg.reply else f"{msg.headers['Status']} {msg.headers['Description']}"


async def add_consumer(
    nc: nats.NATS, js: JetStreamContext, stream: str, durable: str, **config: object
) -> dict:
    """Makes a consumer by a raw request, also with settings that nats-py does not know.

    Names and units are those of the server's API, durations in nanoseconds. Returns the settings that the
    server has stored; RuntimeError with the server's own words where it refuses.
    """
    config |= {"durable_name": durable, "ack_policy": "explicit"}
    request = json.dumps({"stream_name": stream, "config": config}).encode()
    reply = await nc.request(f"{js._prefix}.CONSUMER.CREATE.{stream}.{durable}", request, timeout=5)
    found = json.loads(reply.data)
    if "error" in found:
        raise RuntimeError(found["error"]["description"])
    await until_ready(nc, js, stream, durable)
    return found["config"]


async def _fetch(sub: JetStreamContext.PullSubscription, batch: int, timeout: float) -> list[Msg]:
    try:
        return await sub.fetch(batch, timeout=timeout)
    except (TimeoutError, APIError):
        return []


async def timelines(
    js: JetStreamContext, stream: str, ways: dict[str, Callable[[Msg], Awaitable]], **config: object
) -> dict[str, list[float]]:
    """When a consumer of its own delivers what each of the `ways` to fail never acknowledges.

    In seconds since the consumer was made; returns when the server has given up everywhere. `config` as in
    ConsumerConfig, with a `max_deliver`. The consumers stay.
    """

    async def timeline(durable: str, fail: Callable[[Msg], Awaitable]) -> list[float]:
        moments: list[float] = []

        async def work(name: str, stop: asyncio.Event) -> None:
            sub = await js.pull_subscribe_bind(durable, stream)
            while not stop.is_set():
                for msg in await _fetch(sub, 1, 0.2):
                    moments.append(time.perf_counter() - begin)
                    await fail(msg)
            await sub.unsubscribe()

        await js.add_consumer(stream, ConsumerConfig(durable_name=durable, **config))
        begin = time.perf_counter()  # before any delivery: no busy moment shortens a wait
        async with Pool(work, 1):
            await until_settled(js, stream, durable)
        return moments

    found = await asyncio.gather(*(timeline(f"way-{n}", fail) for n, fail in enumerate(ways.values(), 1)))
    return dict(zip(ways, found, strict=True))


async def race(
    js: JetStreamContext, stream: str, consumers: list[ConsumerConfig], workers: int = 1, batch: int = 1
) -> dict[str, float]:
    """Lets `workers` a consumer process all of `stream`, and counts what is done out of order.

    Processing takes 1-8 ms, by the sequence. Every tenth message is returned once, with a delay of
    80 ms. A message is out of order when a later one of the same subject was done before it.
    Returns "messages / s" and "out of order". The consumers are made, named where they have no name, and
    deleted afterwards.
    """
    consumers = [
        config.evolve(durable_name=config.durable_name or f"racer-{n}") for n, config in enumerate(consumers)
    ]
    total = (await js.stream_info(stream)).state.messages
    done: list[tuple[str, int]] = []

    async def worker(durable: str) -> None:
        sub = await js.pull_subscribe_bind(durable, stream)
        while len(done) < total:
            for msg in await _fetch(sub, batch, 0.15):
                seq = msg.metadata.sequence.stream
                await asyncio.sleep((1 + seq * 7 % 8) / 1000)
                if seq % 10 == 0 and msg.metadata.num_delivered == 1:
                    await msg.nak(delay=0.08)
                else:
                    await msg.ack()
                    done.append((msg.subject, seq))
        await sub.unsubscribe()

    for config in consumers:
        await js.add_consumer(stream, config)
    begin = time.perf_counter()
    await asyncio.gather(*(worker(config.durable_name) for config in consumers for _ in range(workers)))
    seconds = time.perf_counter() - begin
    for config in consumers:
        await js.delete_consumer(stream, config.durable_name)
    frame = pd.DataFrame(done, columns=["subject", "seq"])
    late = frame["seq"] < frame.groupby("subject")["seq"].cummax()
    return {"messages / s": len(done) / seconds, "out of order": int(late.sum())}


async def throughput(
    js: JetStreamContext,
    stream: str,
    config: ConsumerConfig,
    workers: int,
    batch: int,
    service: float,
    seconds: float = 0.2,
) -> float:
    """Messages/s that `workers` of a new consumer acknowledge, each `service` seconds a message.

    Counted for `seconds` from the first acknowledgement on; `stream` must hold enough of them.
    The consumer is made, named where it has no name, and deleted afterwards.
    """
    config = config.evolve(durable_name=config.durable_name or "measured")
    done, first = 0, asyncio.Event()

    async def work(name: str, stop: asyncio.Event) -> None:
        nonlocal done
        sub = await js.pull_subscribe_bind(config.durable_name, stream)
        while not stop.is_set():
            for msg in await _fetch(sub, batch, 0.2):
                await asyncio.sleep(service)
                await msg.ack()
                done += 1
                first.set()
        await sub.unsubscribe()

    await js.add_consumer(stream, config)
    async with Pool(work, workers):
        await asyncio.wait_for(first.wait(), 5)
        before, begin = done, time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (done - before) / (time.perf_counter() - begin)
    await js.delete_consumer(stream, config.durable_name)
    return rate
