"""Request-reply by client, side by side: `python benchmarks/request_reply.py`.

On one embedded cluster, in turn, round after round: nats-py, the Go client (through `nats bench`, where the
`nats` CLI is installed) and a Rust-backed Python client (where `natsrpy` is installed) ask the same
responder, a process on the caller's node or on another. The table gives medians over the rounds. With 16
under way the responder, in Python too, is what saturates. What is not installed is named as missing.

    python benchmarks/request_reply.py --drains 60

counts instead the requests that are lost while members of a queue group drain under load, with nats-py's
default `pending_size` and with 1.
"""

import argparse
import asyncio
import csv
import importlib.util
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import nats
from nats.errors import NoRespondersError

from helpers import responders
from helpers.cluster import Cluster, open_cluster

ASK = json.dumps({"productId": "1082185", "quantity": 5}).encode()
NAMES = ["inventory-1", "inventory-2"]  # on the caller's node, and on another
LOADS = {1: 1_500, 16: 6_000}  # requests under way at a time, and requests a round

# p50 and p99 in milliseconds, requests a second
Figures = tuple[float, float, float]


async def timed(request: Callable[[], Awaitable], at_once: int, count: int) -> Figures:
    """Of `count` requests by `at_once` askers on one connection."""
    times: list[float] = []

    async def asker() -> None:
        for _ in range(count // at_once):
            began = time.perf_counter()
            await request()
            times.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(at_once)))
    seconds = time.perf_counter() - began
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98], len(times) / seconds


async def nats_py(url: str, subject: str, at_once: int, count: int) -> Figures:
    nc = await nats.connect(url)
    try:
        await nc.request(subject, ASK, timeout=5)  # the inbox is subscribed from here on
        return await timed(lambda: nc.request(subject, ASK, timeout=30), at_once, count)
    finally:
        await nc.close()


async def rust_backed(url: str, subject: str, at_once: int, count: int) -> Figures:
    from natsrpy import Nats

    nc = Nats([url])
    await nc.startup()
    try:
        await nc.request(subject, ASK, timeout=5)
        return await timed(lambda: nc.request(subject, ASK, timeout=30), at_once, count)
    finally:
        await nc.shutdown()


def nats_bench(cli: str, url: str, subject: str, at_once: int, count: int) -> Figures:
    """The Go client, a connection for each asker; the percentiles are medians over the askers."""
    with tempfile.TemporaryDirectory() as folder:
        payload, table = Path(folder, "ask.json"), Path(folder, "result.csv")
        payload.write_bytes(ASK)
        command = [cli, "bench", "service", "request", subject, "--server", url, "--no-progress"]
        command += ["--no-context", "--clients", str(at_once), "--msgs", str(count)]
        command += ["--payload", str(payload), "--csv", str(table)]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode or not table.exists():
            raise RuntimeError(f"{' '.join(command)}\n{ran.stdout}{ran.stderr}")
        rows = list(csv.DictReader(table.read_text().splitlines()))
    p50, p99 = (
        statistics.median(float(row[f"{name}LatencyMicroSecs"]) for row in rows) / 1000
        for name in ("P50", "P99")
    )
    return p50, p99, count / max(float(row["DurationSecs"]) for row in rows)


def clients(cli: str | None) -> tuple[dict[str, Callable[..., Awaitable[Figures]]], list[str]]:
    """The clients that are here by name, and what is missing, with the way to get it."""
    found: dict[str, Callable[..., Awaitable[Figures]]] = {"nats-py": nats_py}
    missing = []
    if cli:
        found["Go client"] = partial(asyncio.to_thread, nats_bench, cli)
    else:
        missing.append("the Go client: go install github.com/nats-io/natscli/nats@latest, or --nats PATH")
    if importlib.util.find_spec("natsrpy"):
        found["natsrpy (Rust)"] = rust_backed
    else:
        missing.append("a Rust-backed Python client: pip install natsrpy")
    return found, missing


async def compare(cluster: Cluster, rounds: int, cli: str | None) -> None:
    found, missing = clients(cli)
    here = cluster.urls[0]
    team = await responders.start(cluster, *NAMES)
    figures: dict[tuple[str, str, int], list[Figures]] = {}
    try:
        for _ in range(rounds):
            for where, name in zip(("same node", "other node"), NAMES, strict=True):
                for at_once, count in LOADS.items():
                    for client, ask in found.items():
                        result = await ask(here, f"inventory.check.{name}", at_once, count)
                        figures.setdefault((where, client, at_once), []).append(result)
    finally:
        team.close()
    print(f"{rounds} rounds, one nats-py responder that does no work, medians")
    print(f"{'responder on':14}{'client':16}{'at once':>8}{'p50 ms':>9}{'p99 ms':>9}{'requests/s':>12}")
    for (where, client, at_once), results in sorted(figures.items(), key=lambda item: item[0][::2]):
        p50, p99, rate = (statistics.median(column) for column in zip(*results, strict=True))
        print(f"{where:14}{client:16}{at_once:8}{p50:9.2f}{p99:9.2f}{rate:12,.0f}")
    for what in missing:
        print(f"missing: {what}")


async def drains(cluster: Cluster, count: int) -> None:
    """Thirty callers ask without pause while `count` members join and drain, one after the other."""
    nc = await nats.connect(**cluster.options | {"servers": cluster.urls[:1]})

    async def member(node: int, name: str, size: int) -> nats.NATS:
        client = await nats.connect(
            **cluster.options | {"servers": [cluster.urls[node]], "pending_size": size}
        )

        async def answer(msg: nats.aio.msg.Msg) -> None:
            await msg.respond(b"")

        await client.subscribe("drains", queue="q", cb=answer)
        await client.subscribe(f"drains.{name}", cb=answer)
        while True:  # until its interest has reached the caller's node
            try:
                await nc.request(f"drains.{name}", timeout=1)
                return client
            except (NoRespondersError, TimeoutError):
                await asyncio.sleep(0.01)

    for size in (2 * 1024 * 1024, 1):
        lost = asked = 0
        going = True

        async def caller() -> None:
            nonlocal lost, asked
            while going:  # noqa: B023 - read as it changes
                asked += 1
                try:
                    await nc.request("drains", timeout=2)
                except TimeoutError:
                    lost += 1

        steady = [await member(node, f"steady-{node}", size) for node in (1, 2)]
        callers = [asyncio.create_task(caller()) for _ in range(30)]
        for n in range(count):
            leaver = await member(3, f"leaver-{n}", size)
            await asyncio.sleep(0.03)  # some requests for it
            await leaver.drain()
        going = False
        await asyncio.gather(*callers)
        for client in steady:
            await client.close()
        print(f"pending_size {size:>9,}: {count} drains under load, {lost} of {asked:,} requests lost")
    await nc.close()


async def main(rounds: int, count: int, cli: str | None) -> None:
    cluster = await open_cluster("embedded")
    try:
        await (drains(cluster, count) if count else compare(cluster, rounds, cli))
    finally:
        await cluster.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--drains", type=int, default=0, metavar="COUNT")
    parser.add_argument("--nats", default=shutil.which("nats"), metavar="PATH", help="the `nats` CLI")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.rounds, arguments.drains, arguments.nats))
