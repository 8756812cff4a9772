"""A consumer group's throughput by workers, and the price of order: `python benchmarks/consumer_groups.py`.

Each round measures every configuration in turn on one embedded cluster, R3, real orders, 10 ms a payment, so
that what else the machine does falls on all alike. The tables give medians over the rounds and ratios: to
one worker with the default limit, and to four workers that share without keeping any order.
"""

import argparse
import asyncio
import time

import nats
import pandas as pd
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, SubjectTransform
from nats.js.errors import APIError

from helpers import plots
from helpers.cluster import Cluster, open_cluster
from helpers.lesson import end
from helpers.orders import orders

WORKERS = (1, 2, 4, 8, 16, 32)
LIMITS = ((1000, 5), (20, 1), (20, 5))  # max_ack_pending, messages a fetch
SERVICE = 0.01  # seconds a payment


async def fill(cluster: Cluster, js: JetStreamContext, count: int) -> None:
    """ORDERS with `count` orders, and CUSTOMERS with 120 orders of eight customers in four partitions."""
    await js.add_stream(name="ORDERS", subjects=["orders.*"], num_replicas=3)
    transform = SubjectTransform(src="customers.*", dest="customers.{{partition(4,1)}}.{{wildcard(1)}}")
    await js.add_stream(
        name="CUSTOMERS", subjects=["customers.*"], num_replicas=3, subject_transform=transform
    )
    for stream in ("ORDERS", "CUSTOMERS"):
        await cluster.known(stream)
    year = orders(20_000)
    regulars = pd.Series([order.customer for order in year]).value_counts().index[:8]
    for order in year[:count]:
        await js.publish("orders.payment", order.payload(), timeout=10)
    for order in [order for order in year if order.customer in regulars][:120]:
        await js.publish(f"customers.{order.customer}", order.payload(), timeout=10)


def designs() -> dict[str, tuple[list[ConsumerConfig], int, int]]:
    """What keeps the order and what does not: consumers, workers for each, messages a fetch."""

    def lane(name: str, subject: str, in_flight: int) -> ConsumerConfig:
        return ConsumerConfig(durable_name=name, filter_subject=subject, max_ack_pending=in_flight)

    everyone, one = lane("all", "customers.>", 1000), lane("one", "customers.>", 1)
    lanes = [lane(f"lane-{n}", f"customers.{n}.*", 1) for n in range(4)]
    return {
        "four workers, five a fetch": ([everyone], 4, 5),
        "one worker, five a fetch": ([everyone], 1, 5),
        "one in flight": ([one], 1, 1),
        "four partitions, one in flight each": (lanes, 1, 1),
    }


async def fetched(js: JetStreamContext, stream: str, durable: str, batch: int):
    """Messages as a worker of `durable` gets them, for ever; an empty fetch is asked again."""
    sub = await js.pull_subscribe_bind(durable, stream)
    while True:
        try:
            messages = await sub.fetch(batch, timeout=0.2)
        except (TimeoutError, APIError):
            continue
        for msg in messages:
            yield msg


async def throughput(
    js: JetStreamContext, config: ConsumerConfig, workers: int, batch: int, seconds: float
) -> float:
    """Messages/s that `workers` acknowledge, each `SERVICE` s a message, from the first one on."""
    done, first = 0, asyncio.Event()

    async def work() -> None:
        nonlocal done
        async for msg in fetched(js, "ORDERS", config.durable_name, batch):
            await asyncio.sleep(SERVICE)
            await msg.ack()
            done += 1
            first.set()

    await js.add_consumer("ORDERS", config)
    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    await asyncio.wait_for(first.wait(), 5)
    before, begin = done, time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (done - before) / (time.perf_counter() - begin)
    await end(*tasks)
    await js.delete_consumer("ORDERS", config.durable_name)
    return rate


async def race(
    js: JetStreamContext, consumers: list[ConsumerConfig], workers: int, batch: int
) -> dict[str, float]:
    """All of CUSTOMERS through `workers` a consumer: messages/s, and how many were done out of order.

    1-8 ms each, by the sequence; every tenth is returned once, with a delay of 80 ms. Out of order is a
    message when a later one of the same subject was done before it.
    """
    total, done, finished = (await js.stream_info("CUSTOMERS")).state.messages, [], asyncio.Event()

    async def work(durable: str) -> None:
        async for msg in fetched(js, "CUSTOMERS", durable, batch):
            seq = msg.metadata.sequence.stream
            await asyncio.sleep((1 + seq * 7 % 8) / 1000)
            if seq % 10 == 0 and msg.metadata.num_delivered == 1:
                await msg.nak(delay=0.08)
                continue
            await msg.ack()
            done.append((msg.subject, seq))
            if len(done) == total:
                finished.set()

    for config in consumers:
        await js.add_consumer("CUSTOMERS", config)
    begin = time.perf_counter()
    tasks = [asyncio.create_task(work(c.durable_name)) for c in consumers for _ in range(workers)]
    await asyncio.wait_for(finished.wait(), 60)
    seconds = time.perf_counter() - begin
    await end(*tasks)
    for config in consumers:
        await js.delete_consumer("CUSTOMERS", config.durable_name)
    frame = pd.DataFrame(done, columns=["subject", "seq"])
    late = frame["seq"] < frame.groupby("subject")["seq"].cummax()
    return {"messages / s": total / seconds, "out of order": int(late.sum())}


async def measure(rounds: int, seconds: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    cluster = await open_cluster("embedded")
    nc = await nats.connect(**cluster.options)
    js = nc.jetstream(domain=cluster.domain, timeout=10)
    scaling, order = [], []
    try:
        await fill(cluster, js, int(max(WORKERS) / SERVICE * (seconds + 1)))
        for _ in range(rounds):
            for limit, batch in LIMITS:
                config = ConsumerConfig(durable_name="measured", max_ack_pending=limit)
                for workers in WORKERS:
                    rate = await throughput(js, config, workers, batch, seconds)
                    scaling.append((workers, f"{limit:,} held, {batch} a fetch", rate))
            for name, (consumers, workers, batch) in designs().items():
                order.append({"design": name} | await race(js, consumers, workers, batch))
    finally:
        await nc.close()
        await cluster.close()
    rates = pd.DataFrame(scaling, columns=["workers", "group", "rate"])
    rates = rates.groupby(["workers", "group"], sort=False)["rate"].median().unstack(sort=False)
    return rates, pd.DataFrame(order).groupby("design", sort=False).median()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="window of one throughput measurement")
    parser.add_argument("--picture", metavar="FILE", help="draw the scaling to this PNG")
    options = parser.parse_args()
    rates, order = asyncio.run(measure(options.rounds, options.seconds))
    pd.set_option("display.width", 140, "display.max_columns", 20)
    print(f"orders paid / s, {SERVICE * 1000:.0f} ms each, median of {options.rounds} rounds")
    print(rates.round(0).astype(int), end="\n\n")
    if options.picture:
        ax = rates.plot(style=["o-", "s--", "^:"], color=plots.COLOURS, loglog=True, figsize=(8, 3.6))
        ax.set(ylabel="orders paid / s", xticks=rates.index, xticklabels=rates.index)
        ax.minorticks_off()
        ax.figure.tight_layout()
        ax.figure.savefig(options.picture, dpi=100)
    print("ratio to one worker with 1,000 held")
    print((rates / rates.iloc[0, 0]).round(2), end="\n\n")
    order["ratio"] = (order["messages / s"] / order["messages / s"].iloc[0]).round(2)
    print("the price of order: 120 orders of eight customers, every tenth returned once")
    print(order.round({"messages / s": 0, "out of order": 1}))


if __name__ == "__main__":
    main()
