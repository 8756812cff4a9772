"""Replay by technique, side by side: `python benchmarks/replay.py`.

Messages of 256 bytes, without headers and with two, go to a data frame (sequence, time, subject, payload,
headers) or, where the table says memory, to a list: by `bulk`, by loops over nats-py's `fetch`, and by
natsrpy, a client in Rust with a Python face, where it is installed. What would take minutes is left out.
All but `bulk` fill a list first and make the frame of it: one replay, two lines.
Every round runs each once, in turn, in a process of its own, so that its peak memory and its processor
time are its own: CPU is the client's, in microseconds a message, imports left out. The exponent says how
the seconds grow with the messages between the smallest and the largest count (1: in proportion).
Before that: milliseconds to find a position, by number and by time.
"""

import argparse
import asyncio
import importlib.util
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlsplit

import nats
import pandas as pd
from matplotlib import pyplot as plt
from nats.js.api import ConsumerConfig
from nats.js.errors import ServiceUnavailableError

from helpers import bulk, plots
from helpers.cluster import open_cluster

COLUMNS = ["seq", "time", "subject", "data", "headers"]
HEADERS = {"X-Correlation-ID": "31280888055", "X-Source": "order-service"}
BATCH = 1_000  # messages a fetch of the Rust-backed client
MOST = {  # more would take minutes
    "loop over fetch(100)": 10_000, "loop over fetch(1000)": 100_000, "bulk, to memory": 100_000,
}  # fmt: skip


async def by_bulk(urls: list[str], stream: str, count: int) -> pd.DataFrame:
    nc = await nats.connect(urls)
    try:
        return await bulk.frame(nc, stream)
    finally:
        await nc.close()


async def by_bulk_to_memory(urls: list[str], stream: str, count: int) -> list[tuple]:
    nc = await nats.connect(urls)
    try:
        rows = []
        async for part in bulk.replay(nc, stream):
            rows += zip(*(getattr(part, name) for name in COLUMNS), strict=True)
        return rows
    finally:
        await nc.close()


async def by_fetch(urls: list[str], stream: str, count: int, batch: int) -> list[tuple]:
    nc = await nats.connect(urls)
    js = nc.jetstream()
    sub = await js.pull_subscribe("", stream=stream, config=ConsumerConfig(ack_policy="none"))
    rows: list[tuple] = []
    while len(rows) < count:
        try:
            messages = await sub.fetch(min(batch, count - len(rows)), timeout=5)
        except ServiceUnavailableError:  # our node has not heard of the new consumer yet
            continue
        for msg in messages:
            meta = msg.metadata
            rows.append((meta.sequence.stream, meta.timestamp, msg.subject, msg.data, msg.headers))
    await nc.close()
    return rows


async def by_rust(urls: list[str], stream: str, count: int) -> list[tuple]:
    from natsrpy import Nats
    from natsrpy.js import AckPolicy, PullConsumerConfig

    login = urlsplit(urls[0])
    nc = Nats(addrs=urls, user_and_pass=(login.username, login.password))
    await nc.startup()
    js = await nc.jetstream()
    config = PullConsumerConfig(name=f"rust{time.time_ns()}", ack_policy=AckPolicy.NONE)
    consumer = await (await js.streams.get(stream)).consumers.create(config)
    rows: list[tuple] = []
    while len(rows) < count:
        for msg in await consumer.fetch(max_messages=min(BATCH, count - len(rows)), timeout=30):
            rows.append((msg.stream_sequence, msg.published, msg.subject, msg.payload, msg.headers))
    await nc.shutdown()
    return rows


TECHNIQUES: dict[str, Callable[..., Awaitable]] = {
    "bulk": by_bulk,
    "bulk, to memory": by_bulk_to_memory,
    "loop over fetch(100)": partial(by_fetch, batch=100),
    "loop over fetch(1000)": partial(by_fetch, batch=1_000),
    "natsrpy fetch(1000)": by_rust,
}


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def one(technique: str, urls: list[str], stream: str, count: int) -> None:
    """In the child: one replay; prints, a row, seconds, CPU (us a message) and peak memory (MB) as JSON."""
    begin, before = time.perf_counter(), processor()

    def spent() -> dict[str, float]:
        seconds, cpu = time.perf_counter() - begin, (processor() - before) / count * 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"seconds": seconds, "cpu": cpu, "MB": peak}

    found, rows = await TECHNIQUES[technique](urls, stream, count), {}
    if "bulk" not in technique:
        rows[f"{technique}, to memory"] = spent()
        found = pd.DataFrame(found, columns=COLUMNS)
    rows[technique] = spent()
    sequences = found["seq"] if isinstance(found, pd.DataFrame) else [row[0] for row in found]
    assert list(sequences) == list(range(1, count + 1))
    print(json.dumps(rows))


async def positions(js: nats.js.JetStreamContext, counts: list[int], tries: int) -> None:
    print(f"position in the middle, median of {tries}:")
    for count in counts:
        half = await js.get_msg(f"PLAIN{count}", count // 2)
        line = f"{count:>10,} messages"
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


async def main(counts: list[int], rounds: int, picture: str | None) -> None:
    names = [name for name in TECHNIQUES if "natsrpy" not in name or importlib.util.find_spec("natsrpy")]
    cluster = await open_cluster("embedded")
    nc = await nats.connect(**cluster.options)
    js = nc.jetstream(timeout=10)
    medians: dict[str, dict[str, dict[int, float]]] = {"PLAIN": {}, "HEADERS": {}}
    try:
        for kind, headers in {"PLAIN": None, "HEADERS": HEADERS}.items():
            for count in counts:
                name = f"{kind}{count}"
                await js.add_stream(name=name, subjects=[name.lower()], allow_batched=True)
                await cluster.known(name)
                await bulk.publish(nc, ((name.lower(), bytes(256), headers) for _ in range(count)))
        await positions(js, counts, 25)
        # With the password, in the environment.
        login = f"{nc.options['user']}:{nc.options['password']:s}"
        for kind in ("PLAIN", "HEADERS"):
            for count in counts:
                stream = f"{kind}{count}"
                # All techniques at the leader: a route between would be measured too.
                leader = cluster.node((await js.stream_info(stream)).cluster.leader)
                env = os.environ | {"NATS_URL": leader.url.replace("//", f"//{login}@")}
                table = await rounds_of(
                    [name for name in names if count <= MOST.get(name, count)],
                    env,
                    stream,
                    count,
                    rounds,
                )
                print(f"\n{count:,} x 256 B{' with two headers' if kind == 'HEADERS' else ''}, ", end="")
                print(f"medians of {rounds} rounds\n{table.pop('text')}")
                for name, seconds in table.items():
                    medians[kind].setdefault(name, {})[count] = seconds
    finally:
        await nc.close()
        await cluster.close()
    if len(counts) > 1:
        print("\ngrowth, without headers: seconds ~ messages ** exponent")
        for name, seconds in medians["PLAIN"].items():
            few, many = min(seconds), max(seconds)
            if few == many:
                continue
            exponent = math.log(seconds[many] / seconds[few]) / math.log(many / few)
            print(f"{name:34}{exponent:5.2f}  ({few:,} to {many:,})")
    if len(names) < len(TECHNIQUES):
        print("natsrpy is not installed here, so no Rust-backed client was compared")
    if picture:
        draw(medians, picture)


def draw(medians: dict[str, dict[str, dict[int, float]]], picture: str) -> None:
    """Seconds by messages, to a data frame, without headers and with two."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for (kind, found), ax in zip(medians.items(), panels, strict=True):
        frames = {name: seconds for name, seconds in found.items() if "memory" not in name}
        for (name, seconds), colour, marker in zip(
            frames.items(), plots.COLOURS, plots.MARKERS, strict=False
        ):
            ax.loglog(*zip(*sorted(seconds.items()), strict=True), marker=marker, color=colour, label=name)
        ax.set(title="no headers" if kind == "PLAIN" else "two headers", xlabel="messages")
        ax.grid(color="0.9")
    panels[0].set_ylabel("seconds to a data frame")
    panels[0].legend()
    figure.savefig(picture, dpi=100)


async def rounds_of(names: list[str], env: dict, stream: str, count: int, rounds: int) -> dict:
    """Each technique's median seconds, and under "text" the lines of the table."""
    found: dict[str, list[dict]] = {}
    for _ in range(rounds):
        for name in names:
            child = [sys.executable, __file__, "--one", name, "--stream", stream, "--counts", str(count)]
            out = await asyncio.to_thread(subprocess.run, child, capture_output=True, text=True, env=env)
            if out.returncode:
                raise SystemExit(f"{name} failed:\n{out.stderr}")
            for row, numbers in json.loads(out.stdout).items():
                found.setdefault(row, []).append(numbers)
    medians = {name: pd.DataFrame(runs).median() for name, runs in found.items()}
    base = medians["bulk"]["seconds"]
    lines = [
        f"{name:34}{run['seconds']:8.2f} s  {run['seconds'] / base:6.2f} x bulk"
        f"  CPU {run['cpu']:6.1f} us  peak {run['MB']:6,.0f} MB"
        for name, run in medians.items()
    ]
    return {name: run["seconds"] for name, run in medians.items()} | {"text": "\n".join(lines)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--picture", metavar="FILE", help="draw the medians to this PNG")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--stream", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        asyncio.run(one(a.one, [os.environ["NATS_URL"]], a.stream, a.counts[0]))
    else:
        asyncio.run(main(a.counts, a.rounds, a.picture))
