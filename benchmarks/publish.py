"""Publishing by technique, side by side: `python benchmarks/publish.py`.

Each round publishes 256-byte messages by every technique, R1 and R3, in turn, on one embedded
cluster, so that what else the machine does falls on all alike. The table gives medians and the
ratio to one by one. No client in another language is compared.
"""

import argparse
import asyncio
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable

import nats
from nats.js import JetStreamContext

from helpers import bulk
from helpers.cluster import open_cluster

PAYLOAD = bytes(256)
SUBJECT = "bench.new"
IN_FLIGHT = 512
ATOMIC = 1_000  # the server's limit for one atomic batch


async def one_by_one(nc: nats.NATS, js: JetStreamContext, count: int) -> None:
    for _ in range(count):
        await js.publish(SUBJECT, PAYLOAD)


async def gather(nc: nats.NATS, js: JetStreamContext, count: int) -> None:
    for _ in range(count // 64):
        await asyncio.gather(*(js.publish(SUBJECT, PAYLOAD) for _ in range(64)))


async def publish_async(nc: nats.NATS, js: JetStreamContext, count: int) -> None:
    pipelined = nc.jetstream(publish_async_max_pending=IN_FLIGHT)
    futures = [await pipelined.publish_async(SUBJECT, PAYLOAD) for _ in range(count)]
    await asyncio.gather(*futures)


async def atomic(nc: nats.NATS, js: JetStreamContext, count: int) -> None:
    """Batches of 1,000 that are stored whole or not at all (ADR-50, the first part)."""
    for _ in range(count // ATOMIC):
        batch = {"Nats-Batch-Id": uuid.uuid4().hex}
        for n in range(1, ATOMIC):
            headers = batch | {"Nats-Batch-Sequence": str(n)}
            if n == 1:  # the first is a request: the server says whether it takes the batch
                await nc.request(SUBJECT, PAYLOAD, headers=headers, timeout=5)
            else:
                await nc.publish(SUBJECT, PAYLOAD, headers=headers)
        last = batch | {"Nats-Batch-Sequence": str(ATOMIC), "Nats-Batch-Commit": "1"}
        await js.publish(SUBJECT, PAYLOAD, headers=last, timeout=5)


async def in_bulk(nc: nats.NATS, js: JetStreamContext, count: int) -> None:
    await bulk.publish(nc, ((SUBJECT, PAYLOAD, None) for _ in range(count)))


async def in_bulk_with_ids(nc: nats.NATS, js: JetStreamContext, count: int) -> None:
    await bulk.publish(nc, ((SUBJECT, PAYLOAD, {"Nats-Msg-Id": str(i)}) for i in range(count)))


TECHNIQUES: dict[str, tuple[Callable[..., Awaitable], int]] = {  # and messages a round
    "await js.publish, one by one": (one_by_one, 1_000),
    "gather of 64": (gather, 6_400),
    f"publish_async, {IN_FLIGHT} in flight": (publish_async, 20_000),
    "atomic batches of 1,000": (atomic, 20_000),
    "bulk": (in_bulk, 50_000),
    "bulk with message IDs": (in_bulk_with_ids, 50_000),
}


async def rate(nc: nats.NATS, js: JetStreamContext, replicas: int, technique: Callable, count: int) -> float:
    """Messages a second, and all of them stored."""
    await js.add_stream(
        name="BENCH", subjects=["bench.*"], num_replicas=replicas, allow_batched=True, allow_atomic=True
    )
    try:
        await bulk.publish(nc, [(SUBJECT, b"", None)])  # the stream has a leader from here on
        start = time.perf_counter()
        await technique(nc, js, count)
        seconds = time.perf_counter() - start
        stored = (await js.stream_info("BENCH")).state.messages - 1
        assert stored >= count - count % 64, f"{stored} stored of {count}"
        return stored / seconds
    finally:
        await js.delete_stream("BENCH")


async def main(rounds: int) -> None:
    cluster = await open_cluster("embedded")
    nc = await nats.connect(**cluster.options)
    js = nc.jetstream(timeout=5)
    try:
        rates: dict[tuple[str, int], list[float]] = {}
        for _ in range(rounds):
            for name, (technique, count) in TECHNIQUES.items():
                for replicas in (1, 3):
                    rates.setdefault((name, replicas), []).append(
                        await rate(nc, js, replicas, technique, count)
                    )
    finally:
        await nc.close()
        await cluster.close()
    print(f"{rounds} rounds, {len(PAYLOAD)} B, file storage, medians in messages/s (times one by one)")
    base = {replicas: statistics.median(rates[next(iter(TECHNIQUES)), replicas]) for replicas in (1, 3)}
    for name in TECHNIQUES:
        columns = [statistics.median(rates[name, replicas]) for replicas in (1, 3)]
        print(
            f"{name:32}"
            + "".join(
                f"  R{replicas} {median:8,.0f} ({median / base[replicas]:5.1f})"
                for replicas, median in zip((1, 3), columns, strict=True)
            )
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(parser.parse_args().rounds))
