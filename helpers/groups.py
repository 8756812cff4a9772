"""What experiments on consumer groups need: workers that come, go and die, a paced producer, a race."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from itertools import count
from typing import TypeVar

import pandas as pd
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig
from nats.js.errors import APIError

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


async def paced(items: Iterable[Item], rate: Callable[[float], float]) -> AsyncIterator[Item]:
    """The items, so many a second as `rate` says for the second; one that is late is not left out."""
    start, due = time.perf_counter(), 0.0
    for item in items:
        due += 1 / rate(due)
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        yield item


async def race(
    js: JetStreamContext, stream: str, consumers: list[ConsumerConfig], workers: int = 1, batch: int = 1
) -> dict[str, float]:
    """Lets `workers` a consumer process all of `stream`, and counts what is done out of order.

    Processing takes 1-8 ms, by the sequence. Every tenth message is returned once, with a delay of
    80 ms. A message is out of order when a later one of the same subject was done before it.
    Returns "messages / s" and "out of order". The consumers are made, and deleted afterwards.
    """
    total = (await js.stream_info(stream)).state.messages
    done: list[tuple[str, int]] = []

    async def worker(durable: str) -> None:
        sub = await js.pull_subscribe_bind(durable, stream)
        while len(done) < total:
            try:
                messages = await sub.fetch(batch, timeout=0.15)
            except (TimeoutError, APIError):
                continue
            for msg in messages:
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
    The consumer is made, and deleted afterwards.
    """
    done, first = 0, asyncio.Event()

    async def work(name: str, stop: asyncio.Event) -> None:
        nonlocal done
        sub = await js.pull_subscribe_bind(config.durable_name, stream)
        while not stop.is_set():
            try:
                messages = await sub.fetch(batch, timeout=0.2)
            except (TimeoutError, APIError):
                continue
            for msg in messages:
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
