"""Publishers and workers while nodes are killed, paused, cut off and stepped down at random; then the ledger.

    python tests/faults/soak.py [--seed 1] [--faults 12] [--backend embedded]

One fault at a time, drawn from the seed: who, how, and for how long. Meanwhile two careful publishers (one
order after the other, a message ID each), one pipelined publisher and three workers go on. Afterwards all
nodes run, and every acknowledged order is looked for in ORDERS with each replica as its leader, and every
order's payment in PAYMENTS. Prints one line; AssertionError with the ledger where it does not hold.
"""

import argparse
import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import nats
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig

from helpers import bulk
from helpers.cluster import Cluster
from helpers.cluster.embedded import Embedded
from helpers.cluster.interface import poll
from helpers.ledger import Ledger
from helpers.lesson import NO_ANSWER, retry
from helpers.services import publish_with_retry

KINDS = ("kill", "pause", "isolate", "step_down")
STREAMS = {"ORDERS": "orders.*", "PAYMENTS": "payments.*", "BULK": "bulk"}
WINDOW = 300  # seconds: the duplicate window must exceed every outage


@dataclass
class Result:
    seed: int
    faults: list[str] = field(default_factory=list)
    acked: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    paid: int = 0

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(self.faults).items()))
        return (
            f"seed {self.seed}: {len(self.faults)} faults ({kinds}), {self.acked:,} acknowledged, "
            f"lost {self.lost}, duplicated {self.duplicated}, reordered {self.reordered}, "
            f"{self.paid:,} paid once"
        )


async def careful(js: JetStreamContext, name: str, ledger: Ledger, over: asyncio.Event) -> None:
    """One order after the other, each until it is acknowledged."""
    while not over.is_set():
        id_ = f"{name}-{len(ledger.sent)}"
        ledger.sent.append(id_)
        await publish_with_retry(js, f"orders.{name}", b"", id_)
        ledger.acked.add(id_)


async def pipelined(nc: nats.NATS, ledger: Ledger, over: asyncio.Event) -> None:
    """Two thousand a call, through `bulk`, on a stream of its own."""
    while not over.is_set():
        ids = [f"bulk-{len(ledger.sent) + n}" for n in range(2_000)]
        ledger.sent += ids
        receipt = await bulk.publish(nc, [("bulk", b"", {"Nats-Msg-Id": id_}) for id_ in ids], patience=60)
        assert receipt.count == len(ids), receipt
        ledger.acked.update(ids)


async def worker(js: JetStreamContext, over: asyncio.Event) -> None:
    """Pays what it is given: the payment has the order's name, so a second delivery changes nothing."""
    sub = await retry(lambda: js.pull_subscribe_bind("payment-processor", "ORDERS"))
    while not over.is_set():
        try:
            messages = await sub.fetch(20, timeout=0.3)
        except NO_ANSWER:
            await asyncio.sleep(0.02)  # an error comes at once
            continue
        for msg in messages:
            id_ = msg.headers["Nats-Msg-Id"]
            await publish_with_retry(js, "payments.done", b"", f"payment-{id_}")
            await msg.ack()


def plan(seed: int, count: int) -> list[tuple[str, int, float]]:
    """What is done, to which (a node's or, for a step-down, a stream's number), and for how many seconds."""
    draw = random.Random(seed)
    return [(draw.choice(KINDS), draw.randrange(12), draw.uniform(0.2, 3)) for _ in range(count)]


async def faults(cluster: Cluster, seed: int, count: int, done: list[str]) -> None:
    for kind, number, seconds in plan(seed, count):
        if kind == "step_down":
            await cluster.step_down(list(STREAMS)[number % 3])
        else:
            await getattr(cluster, kind)(cluster.nodes[number % 4].name)
        done.append(kind)
        await asyncio.sleep(seconds)  # how long it lasts, drawn
        await cluster.restore_all(60)


async def stored(nc: nats.NATS, stream: str) -> list[str]:
    """The message IDs in the order of their sequence."""
    found: list[str] = []
    async for part in bulk.replay(nc, stream):
        found += [headers["Nats-Msg-Id"] for headers in part.headers]
    return found


async def soak(cluster: Cluster, seed: int, count: int) -> Result:
    """`count` faults drawn from `seed`; the result, which holds what `main` and the tests assert."""
    result, over = Result(seed), asyncio.Event()
    clients = [await nats.connect(**cluster.options) for _ in range(6)]
    contexts = [nc.jetstream(domain=cluster.domain, timeout=2) for nc in clients]
    js = contexts[0]
    try:
        await cluster.delete_streams(js, *STREAMS)
        making = clients[0].jetstream(domain=cluster.domain, timeout=10)  # an election takes up to 9 s
        for name, subjects in STREAMS.items():
            await making.add_stream(name=name, subjects=[subjects], num_replicas=3, duplicate_window=WINDOW,
                                    allow_batched=name == "BULK")  # fmt: skip
            await cluster.known(name)
        config = ConsumerConfig(durable_name="payment-processor", ack_policy="explicit", ack_wait=3)
        await making.add_consumer("ORDERS", config)
        await cluster.known("ORDERS", "payment-processor")

        ledgers = {name: Ledger() for name in ("a", "b", "bulk")}
        async with asyncio.TaskGroup() as group:
            publishers = [
                group.create_task(careful(contexts[1], "a", ledgers["a"], over)),
                group.create_task(careful(contexts[2], "b", ledgers["b"], over)),
                group.create_task(pipelined(clients[3], ledgers["bulk"], over)),
            ]
            settled = asyncio.Event()
            for context in contexts[3:]:
                group.create_task(worker(context, settled))
            await faults(cluster, seed, count, result.faults)
            over.set()
            await asyncio.wait(publishers)
            await poll(lambda: paid_all(js), 120, "not every order was paid")
            settled.set()

        await cluster.restore_all(60)
        await cluster.caught_up(timeout=60)
        for stream, names in {"ORDERS": ("a", "b"), "BULK": ("bulk",)}.items():
            info = await retry(lambda stream=stream: js.stream_info(stream))
            for leader in [info.cluster.leader, *(peer.name for peer in info.cluster.replicas)]:
                await cluster.step_down(stream, to=leader)
                found = await stored(clients[0], stream)
                for name in names:
                    verdict = ledgers[name].compare(id_ for id_ in found if id_.startswith(f"{name}-"))
                    result.lost += verdict.lost
                    result.duplicated += verdict.duplicated
                    result.reordered += verdict.reordered
        payments = Counter(await stored(clients[0], "PAYMENTS"))
        orders = [f"payment-{id_}" for name in ("a", "b") for id_ in ledgers[name].acked]
        result.acked = sum(len(ledger.acked) for ledger in ledgers.values())
        result.paid = sum(payments[id_] == 1 for id_ in orders)
        assert result.paid == len(orders), f"{len(orders)} orders, {result.paid} paid once"
        assert (result.lost, result.duplicated, result.reordered) == (0, 0, 0), result
        return result
    finally:
        await asyncio.gather(*(nc.close() for nc in clients))


async def paid_all(js: JetStreamContext) -> bool:
    try:
        info = await js.consumer_info("ORDERS", "payment-processor", timeout=1)
    except NO_ANSWER:
        return False
    return not info.num_pending and not info.num_ack_pending


async def main(seed: int, count: int, backend: str) -> None:
    if backend == "embedded":
        cluster = await Embedded(links=True).start()
    else:
        from helpers.cluster import open_cluster

        cluster = await open_cluster(backend)
    begin = time.monotonic()
    try:
        print(f"{await soak(cluster, seed, count)}, {backend}, {time.monotonic() - begin:.0f} s", flush=True)
    finally:
        await cluster.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--faults", type=int, default=12)
    parser.add_argument("--backend", choices=("embedded", "compose"), default="embedded")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.seed, arguments.faults, arguments.backend))
