"""Publishing by technique and by client, side by side: `python benchmarks/publish.py`.

Each round publishes by every technique, to a stream of one replica and of three, in turn, on one
embedded cluster, so that what else the machine does falls on all alike. `nats bench` is the Go client;
the C client is a program of ours, `publish.c`, built here with `cc` where Debian's `libnats-dev` is
installed. What is missing is named. The table gives medians in messages a second, with the smallest and
largest of the rounds, and the ratio to `bulk`.
"""

import argparse
import asyncio
import csv
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import nats
from matplotlib import pyplot as plt
from nats.js import JetStreamContext

from helpers import bulk, plots
from helpers.cluster import Cluster, open_cluster

SUBJECT = "bench.new"
IN_FLIGHT = 512
ATOMIC = 1_000  # the server's limit for one atomic batch
MOST = 128 * 1024 * 1024  # bytes of payload a round

# Returns seconds where another process takes the time, so that its start is not counted.
Technique = Callable[[nats.NATS, JetStreamContext, bytes, int], Awaitable[float | None]]


async def one_by_one(nc: nats.NATS, js: JetStreamContext, payload: bytes, count: int) -> None:
    for _ in range(count):
        await js.publish(SUBJECT, payload)


async def gather(nc: nats.NATS, js: JetStreamContext, payload: bytes, count: int) -> None:
    for _ in range(count // 64):
        await asyncio.gather(*(js.publish(SUBJECT, payload) for _ in range(64)))


async def publish_async(nc: nats.NATS, js: JetStreamContext, payload: bytes, count: int) -> None:
    pipelined = nc.jetstream(publish_async_max_pending=IN_FLIGHT)
    futures = [await pipelined.publish_async(SUBJECT, payload) for _ in range(count)]
    await asyncio.gather(*futures)


async def atomic(nc: nats.NATS, js: JetStreamContext, payload: bytes, count: int) -> None:
    """Batches of 1,000 that are stored whole or not at all (ADR-50, the first part)."""
    for _ in range(count // ATOMIC):
        batch = {"Nats-Batch-Id": uuid.uuid4().hex}
        for n in range(1, ATOMIC):
            headers = batch | {"Nats-Batch-Sequence": str(n)}
            if n == 1:  # the first is a request: the server says whether it takes the batch
                await nc.request(SUBJECT, payload, headers=headers, timeout=5)
            else:
                await nc.publish(SUBJECT, payload, headers=headers)
        last = batch | {"Nats-Batch-Sequence": str(ATOMIC), "Nats-Batch-Commit": "1"}
        await js.publish(SUBJECT, payload, headers=last, timeout=5)


async def in_bulk(nc: nats.NATS, js: JetStreamContext, payload: bytes, count: int) -> None:
    await bulk.publish(nc, ((SUBJECT, payload, None) for _ in range(count)))


async def in_bulk_with_ids(nc: nats.NATS, js: JetStreamContext, payload: bytes, count: int) -> None:
    await bulk.publish(nc, ((SUBJECT, payload, {"Nats-Msg-Id": str(i)}) for i in range(count)))


async def nats_bench(kind: str, nc: nats.NATS, js: JetStreamContext, payload: bytes, count: int) -> float:
    with tempfile.NamedTemporaryFile("r", suffix=".csv") as table:
        await run(
            nc, "nats", "bench", "js", "pub", kind, SUBJECT, "--stream", "BENCH", "--no-progress",
            "--no-context", "--msgs", str(count), "--size", str(len(payload)), "--csv", table.name,
        )  # fmt: skip
        [row] = csv.DictReader(table)
        return float(row["DurationSecs"])


async def c_client(program: str, nc: nats.NATS, js: JetStreamContext, payload: bytes, count: int) -> float:
    return float(await run(nc, program, SUBJECT, str(count), str(len(payload)), str(IN_FLIGHT)))


async def run(nc: nats.NATS, *command: str) -> str:
    """What a program prints that finds our node, and the password, in its environment."""
    login = f"{nc.options['user']}:{nc.options['password']:s}"
    environment = os.environ | {"NATS_URL": f"nats://{login}@{nc.connected_url.netloc}"}
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, env=environment)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{ran.stdout}{ran.stderr}")
    return ran.stdout


TECHNIQUES: dict[str, tuple[Technique, int]] = {  # and messages a round
    "bulk": (in_bulk, 20_000),
    "bulk with message IDs": (in_bulk_with_ids, 20_000),
    "await js.publish, one by one": (one_by_one, 1_000),
    "gather of 64": (gather, 6_400),
    f"publish_async, {IN_FLIGHT} in flight": (publish_async, 10_000),
    "atomic batches of 1,000": (atomic, 10_000),
}


def others(folder: str) -> tuple[dict[str, tuple[Technique, int]], list[str]]:
    """Clients in other languages that are here, and what is missing."""
    found: dict[str, tuple[Technique, int]] = {}
    missing = []
    if shutil.which("nats"):
        for kind in ("async", "atomic", "fast"):
            found[f"Go client, {kind}"] = (partial(nats_bench, kind), 20_000)
    else:
        missing.append("the Go client: go install github.com/nats-io/natscli/nats@v0.5.1")
    program = str(Path(folder, "publish"))
    source = Path(__file__).with_name("publish.c")
    compiler = shutil.which("cc")
    built = compiler and subprocess.run(
        [compiler, "-O2", "-o", program, source, "-lnats"], capture_output=True, text=True
    )
    if built and not built.returncode:
        found[f"C client, {IN_FLIGHT} in flight"] = (partial(c_client, program), 20_000)
    else:
        missing.append("the C client: a compiler `cc` and Debian's libnats-dev")
    return found, missing


async def seconds_a_message(
    cluster: Cluster, nc: nats.NATS, replicas: int, technique: Technique, payload: bytes, count: int
) -> float:
    """With all of them stored."""
    js = nc.jetstream(timeout=5)
    await js.add_stream(
        name="BENCH", subjects=["bench.*"], num_replicas=replicas, allow_batched=True, allow_atomic=True
    )
    try:
        await cluster.known("BENCH")
        start = time.perf_counter()
        taken = await technique(nc, js, payload, count)
        seconds = time.perf_counter() - start if taken is None else taken
        stored = (await js.stream_info("BENCH")).state.messages
        assert stored >= count - count % 64, f"{stored} stored of {count}"
        return seconds / stored
    finally:
        await js.delete_stream("BENCH")


async def main(rounds: int, sizes: list[int], picture: str | None) -> None:
    cluster = await open_cluster("embedded")
    nc = await nats.connect(**cluster.options)
    with tempfile.TemporaryDirectory() as folder:
        found, missing = others(folder)
        every: dict[int, dict[tuple[str, int], list[float]]] = {}
        try:
            for size in sizes:
                rates = every[size] = {}
                for _ in range(rounds):
                    for name, (technique, most) in (TECHNIQUES | found).items():
                        count = max(ATOMIC, min(most, MOST // size) // ATOMIC * ATOMIC)
                        for replicas in (1, 3):
                            spent = await seconds_a_message(
                                cluster, nc, replicas, technique, bytes(size), count
                            )
                            rates.setdefault((name, replicas), []).append(1 / spent)
                show(rates, size, rounds)
        finally:
            await nc.close()
            await cluster.close()
    for what in missing:
        print(f"missing: {what}")
    if picture:
        draw(every, picture)


def show(rates: dict[tuple[str, int], list[float]], size: int, rounds: int) -> None:
    print(f"{rounds} rounds, {size:,} B, file storage, medians in messages/s")
    print(f"{'':32}{'R1':>9}{'(of rounds)':>19}{'× bulk':>8}{'R3':>10}{'(of rounds)':>19}{'× bulk':>8}")
    for name in dict.fromkeys(name for name, _ in rates):
        line = f"{name:32}"
        for replicas in (1, 3):
            of = rates[name, replicas]
            ratio = statistics.median(of) / statistics.median(rates["bulk", replicas])
            spread = f"({min(of):,.0f}–{max(of):,.0f})"
            line += f"{statistics.median(of):9,.0f}{spread:>19}{ratio:8.2f} "
        print(line, flush=True)


def draw(every: dict[int, dict[tuple[str, int], list[float]]], picture: str) -> None:
    """Medians of each size, one panel for a stream of one replica and one for three."""
    names = list(dict.fromkeys(name for name, _ in next(iter(every.values()))))[::-1]
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.5), sharey=True, layout="constrained")
    for replicas, ax in zip((1, 3), panels, strict=True):
        for (size, rates), colour, marker in zip(every.items(), plots.COLOURS, plots.MARKERS, strict=False):
            medians = [statistics.median(rates[name, replicas]) for name in names]
            ax.plot(medians, names, marker, color=colour, label=f"{size:,} B")
        ax.set(title=f"{replicas} replica{'s' if replicas > 1 else ''}", xscale="log", xlabel="messages / s")
        ax.grid(axis="x", color="0.9")
    panels[0].legend(title="payload")
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256], metavar="BYTES")
    parser.add_argument("--picture", metavar="FILE", help="draw the medians to this PNG")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.rounds, arguments.sizes, arguments.picture))
