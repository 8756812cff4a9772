"""A consumer group's throughput by workers, and the price of order: `python benchmarks/consumer_groups.py`.

Each round measures every configuration in turn on one embedded cluster, R3, real orders, 10 ms a payment, so
that what else the machine does falls on all alike. The tables give medians over the rounds and ratios: to
one worker with the default limit, and to four workers that share without keeping any order.
"""

import argparse
import asyncio

import nats
import pandas as pd
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, SubjectTransform

from helpers.cluster import open_cluster
from helpers.groups import race, throughput
from helpers.orders import orders

WORKERS = (1, 2, 4, 8, 16, 32)
LIMITS = ((1000, 5), (20, 1), (20, 5))  # max_ack_pending, messages a fetch
SERVICE = 0.01  # seconds a payment


async def fill(js: JetStreamContext, count: int) -> None:
    """ORDERS with `count` orders, and CUSTOMERS with 120 orders of eight customers in four partitions."""
    await js.add_stream(name="ORDERS", subjects=["orders.*"], num_replicas=3)
    transform = SubjectTransform(src="customers.*", dest="customers.{{partition(4,1)}}.{{wildcard(1)}}")
    await js.add_stream(
        name="CUSTOMERS", subjects=["customers.*"], num_replicas=3, subject_transform=transform
    )
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


async def measure(rounds: int, seconds: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    cluster = await open_cluster("embedded")
    nc = await nats.connect(**cluster.options)
    js = nc.jetstream(domain=cluster.domain)
    scaling, order = [], []
    try:
        await fill(js, int(max(WORKERS) / SERVICE * (seconds + 1)))
        for _ in range(rounds):
            for limit, batch in LIMITS:
                config = ConsumerConfig(durable_name="measured", max_ack_pending=limit)
                for workers in WORKERS:
                    rate = await throughput(js, "ORDERS", config, workers, batch, SERVICE, seconds)
                    scaling.append((workers, f"{limit:,} held, {batch} a fetch", rate))
            for name, (consumers, workers, batch) in designs().items():
                order.append({"design": name} | await race(js, "CUSTOMERS", consumers, workers, batch))
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
    options = parser.parse_args()
    rates, order = asyncio.run(measure(options.rounds, options.seconds))
    pd.set_option("display.width", 140, "display.max_columns", 20)
    print(f"orders paid / s, {SERVICE * 1000:.0f} ms each, median of {options.rounds} rounds")
    print(rates.round(0).astype(int), end="\n\n")
    print("ratio to one worker with 1,000 held")
    print((rates / rates.iloc[0, 0]).round(2), end="\n\n")
    order["ratio"] = (order["messages / s"] / order["messages / s"].iloc[0]).round(2)
    print("the price of order: 120 orders of eight customers, every tenth returned once")
    print(order.round({"messages / s": 0, "out of order": 1}))


if __name__ == "__main__":
    main()
