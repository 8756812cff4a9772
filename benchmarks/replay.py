"""Replay by technique, side by side: `python benchmarks/replay.py`.

Messages of 256 bytes (`--count`, a million if not given) go to a data frame (sequence, time, subject,
payload): by `bulk`, by loops over nats-py's `fetch`, and by natsrpy, a client in Rust with a Python face,
where it is installed (in a scratch environment; the project does not need it). Every round runs each once,
in turn, in a process of its own, so that its peak memory is its own. Before that: milliseconds to find a
position, by number and by time.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from urllib.parse import urlsplit

import nats
import pandas as pd
from nats.js.api import ConsumerConfig
from nats.js.errors import ServiceUnavailableError

from helpers import bulk
from helpers.cluster import open_cluster

STREAM = "BENCH"
BATCH = 1_000  # messages a fetch of the Rust-backed client


async def by_bulk(urls: list[str], count: int) -> pd.DataFrame:
    nc = await nats.connect(urls)
    try:
        return await bulk.frame(nc, STREAM)
    finally:
        await nc.close()


async def by_fetch(urls: list[str], count: int, batch: int) -> pd.DataFrame:
    nc = await nats.connect(urls)
    js = nc.jetstream()
    sub = await js.pull_subscribe("", stream=STREAM, config=ConsumerConfig(ack_policy="none"))
    rows: list[dict] = []
    while len(rows) < count:
        try:
            messages = await sub.fetch(min(batch, count - len(rows)), timeout=5)
        except ServiceUnavailableError:  # our node has not heard of the new consumer yet
            continue
        for msg in messages:
            meta = msg.metadata
            rows.append(
                {
                    "seq": meta.sequence.stream,
                    "time": meta.timestamp,
                    "subject": msg.subject,
                    "data": msg.data,
                }
            )
    await nc.close()
    return pd.DataFrame(rows)


async def by_rust(urls: list[str], count: int) -> pd.DataFrame:
    from natsrpy import Nats
    from natsrpy.js import AckPolicy, PullConsumerConfig

    login = urlsplit(urls[0])
    nc = Nats(addrs=urls, user_and_pass=(login.username, login.password))
    await nc.startup()
    js = await nc.jetstream()
    stream = await js.streams.get(STREAM)
    config = PullConsumerConfig(name=f"rust{time.time_ns()}", ack_policy=AckPolicy.NONE)
    consumer = await stream.consumers.create(config)
    seq, stored, subject, data = [], [], [], []
    while len(seq) < count:
        for msg in await consumer.fetch(max_messages=min(BATCH, count - len(seq)), timeout=30):
            seq.append(msg.stream_sequence)
            stored.append(msg.published)
            subject.append(msg.subject)
            data.append(msg.payload)
    await nc.shutdown()
    return pd.DataFrame({"seq": seq, "time": stored, "subject": subject, "data": data})


TECHNIQUES = {
    "bulk": by_bulk,
    "loop over fetch(100)": partial(by_fetch, batch=100),
    "loop over fetch(1000)": partial(by_fetch, batch=1_000),
    "natsrpy fetch(1000)": by_rust,
}


async def one(technique: str, urls: list[str], count: int) -> None:
    """In the child: one replay; prints seconds and peak memory in MB as JSON."""
    begin = time.perf_counter()
    frame = await TECHNIQUES[technique](urls, count)
    seconds = time.perf_counter() - begin
    assert len(frame) == count and frame["seq"].is_monotonic_increasing, len(frame)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "MB": peak}))


async def positions(js: nats.js.JetStreamContext, sizes: list[int], tries: int) -> None:
    print(f"position in the middle, median of {tries}:")
    for size in sizes:
        half = await js.get_msg(f"{STREAM}{size}" if size != sizes[-1] else STREAM, size // 2)
        line = f"{size:>10,} messages"
        for way, start in {
            "sequence": {"opt_start_seq": half.seq},
            "time": {"opt_start_time": half.time},
        }.items():
            spent = []
            for _ in range(tries):
                config = ConsumerConfig(  # the server drops it after 5 s
                    deliver_policy=f"by_start_{way}", ack_policy="none", mem_storage=True,
                    inactive_threshold=5, **start,
                )  # fmt: skip
                begin = time.perf_counter()
                await js.add_consumer(half.subject.upper(), config)
                spent.append(time.perf_counter() - begin)
            line += f"  by {way} {1000 * statistics.median(spent):5.1f} ms"
        print(line)


async def main(count: int, rounds: int) -> None:
    names = [name for name in TECHNIQUES if "natsrpy" not in name or importlib.util.find_spec("natsrpy")]
    cluster = await open_cluster("embedded")
    nc = await nats.connect(**cluster.options)
    js = nc.jetstream(timeout=10)
    try:
        sizes = [size for size in (1_000, 10_000, 100_000) if size < count] + [count]
        for size in sizes:
            name = STREAM if size == count else f"{STREAM}{size}"
            await js.add_stream(name=name, subjects=[name.lower()], num_replicas=1, allow_batched=True)
            await bulk.publish(nc, ((name.lower(), bytes(256), None) for _ in range(size)))
        await positions(js, sizes, 25)
        leader = (await js.stream_info(STREAM)).cluster.leader
        # All techniques there: a route between would be measured too. With the password, in the environment.
        login = f"{nc.options['user']}:{nc.options['password']:s}"
        url = cluster.node(leader).url.replace("//", f"//{login}@")
        found: dict[str, list[dict]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                child = [sys.executable, __file__, "--one", name, "--count", str(count)]
                out = await asyncio.to_thread(
                    subprocess.run, child, capture_output=True, text=True, env=os.environ | {"NATS_URL": url}
                )
                if out.returncode:
                    raise SystemExit(f"{name} failed:\n{out.stderr}")
                found[name].append(json.loads(out.stdout))
    finally:
        await nc.close()
        await cluster.close()
    print(f"{count:,} x 256 B to a data frame, medians of {rounds} rounds:")
    base = statistics.median(run["seconds"] for run in found["bulk"])
    for name, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        peak = statistics.median(run["MB"] for run in runs)
        print(f"{name:24}{seconds:8.2f} s  {seconds / base:6.2f} x bulk  peak {peak:6,.0f} MB")
    if len(names) < len(TECHNIQUES):
        print("natsrpy is not installed here, so no Rust-backed client was compared")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    a = parser.parse_args()
    asyncio.run(one(a.one, [os.environ["NATS_URL"]], a.count) if a.one else main(a.count, a.rounds))
