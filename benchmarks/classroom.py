"""Thirty students at once on the class's four nodes, beside one alone: what publish and request then take.

    python benchmarks/classroom.py [--students 30] [--orders 100]

Each student, in an account of their own, does what the core of lessons 1, 3, 4 and 5 does: a stream of three
replicas, `orders` publishes one after the other, as many requests to a responder of their own, a durable that
fetches and acknowledges all, and an ordered replay. First one student alone, then all at once, on the same
servers. Prints p50 and p99 in milliseconds, and every error that came, by its class.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path

import nats
import numpy as np

from helpers.classroom import folder, servers
from helpers.cluster.interface import poll
from helpers.lesson import NO_ANSWER


async def lesson(
    class_: folder.Class, member: folder.Member, orders: int, times: dict, errors: Counter
) -> None:
    """The core of four lessons; a time a call in `times`, an error that is not expected in `errors`."""
    nc = await nats.connect(**servers.options(class_, member.name, member.password))
    js = nc.jetstream(domain="enterprise", timeout=10)

    async def timed(kind: str, call) -> object:
        begin = time.perf_counter()
        try:
            return await call
        except Exception as error:
            errors[f"{kind}: {type(error).__name__}"] += 1
        finally:
            times.setdefault(kind, []).append((time.perf_counter() - begin) * 1e3)

    async def answer(msg) -> None:
        await msg.respond(b"339")

    async def made() -> bool:
        """What the lessons' `known` waits for, on this client's own node."""
        try:
            return bool(await js.publish("orders.probe", b""))
        except NO_ANSWER:
            return False

    async def heard() -> bool:
        try:
            return bool(await js.consumer_info("ORDERS", "payment-processor"))
        except NO_ANSWER:
            return False

    try:
        await js.add_stream(name="ORDERS", subjects=["orders.*"], num_replicas=3)
        await poll(made, 30, f"{member.name} has no stream")
        for _ in range(orders):
            await timed("publish", js.publish("orders.new", bytes(256), timeout=10))
        await nc.subscribe("inventory.check", queue="inventory", cb=answer)
        await nc.flush()
        for _ in range(orders):
            await timed("request", nc.request("inventory.check", b"{}", timeout=10))
        await js.add_consumer("ORDERS", durable_name="payment-processor", ack_policy="explicit")
        await poll(heard, 30, f"{member.name} has no consumer")
        sub = await js.pull_subscribe_bind("payment-processor", "ORDERS")
        left = (await js.stream_info("ORDERS")).state.messages
        total = left
        while left:
            messages = await timed("fetch of 20", sub.fetch(min(20, left), timeout=10)) or []
            for msg in messages:
                await msg.ack_sync(timeout=10)
            left -= len(messages)
        replay = await js.subscribe("orders.*", stream="ORDERS", ordered_consumer=True)
        for _ in range(total):
            await timed("replayed message", replay.next_msg(timeout=10))
        await js.delete_stream("ORDERS")
    finally:
        await nc.close()


async def round_(class_: folder.Class, students: int, orders: int) -> tuple[dict, Counter, float]:
    times: dict[str, list[float]] = {}
    errors: Counter = Counter()
    begin = time.perf_counter()
    members = class_.members[1 : students + 1]
    await asyncio.gather(*(lesson(class_, member, orders, times, errors) for member in members))
    return times, errors, time.perf_counter() - begin


async def main(students: int, orders: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        class_ = folder.make(Path(directory) / "class", students, "127.0.0.1", None, port=14_222)
        await servers.start(class_)
        try:
            for count in (1, students):
                times, errors, seconds = await round_(class_, count, orders)
                print(f"students: {count}, done in {seconds:.1f} s, errors: {dict(errors) or 'none'}")
                for kind, found in times.items():
                    p50, p99 = np.percentile(found, [50, 99])
                    print(
                        f"  {kind:18} {len(found):6,} calls, p50 {p50:7.1f} ms, p99 {p99:7.1f} ms", flush=True
                    )
        finally:
            servers.end(class_.folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--orders", type=int, default=100)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.students, arguments.orders))
