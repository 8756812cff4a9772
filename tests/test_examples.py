"""The scripts to take home, each as a process of its own against a cluster, ended as a service is."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import programs
import pytest

from helpers.cluster.embedded import Embedded
from helpers.cluster.interface import poll
from helpers.lesson import retry

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
LIMIT = 40  # seconds for whatever a script is waited for


class Script:
    """A script that runs; what it prints, line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        async with asyncio.timeout(LIMIT):
            return (await self.process.stdout.readline()).decode().strip()

    async def rest(self) -> list[str]:
        """What is still printed; it must end by itself, and well."""
        async with asyncio.timeout(LIMIT):
            printed = (await self.process.stdout.read()).decode().splitlines()
            assert await self.process.wait() == 0, printed
        return printed

    async def terminated(self) -> list[str]:
        self.process.send_signal(signal.SIGTERM)
        return await self.rest()


@asynccontextmanager
async def running(cluster: Embedded, name: str, *arguments: str):
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLES / name), *arguments,
        env=os.environ | {"NATS_URL": ",".join(cluster.urls), "NATS_USER": cluster.options["user"],
                          "NATS_PASSWORD": cluster.options["password"]},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield Script(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def connected():
    cluster = await Embedded().start()
    try:
        nc, js = await programs.connected(cluster)
        yield cluster, nc, js
        await nc.close()
    finally:
        await cluster.close()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_it_is_short_and_plain(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert "helpers" not in text
    assert "NATS_URL" in text


def test_every_script_is_in_the_list():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(SCRIPTS) == 5
    assert all(f"[{path.name}]({path.name})" in listed for path in SCRIPTS)


async def under_way(js):
    return (await js.stream_info("ORDERS")).state.messages > 50


needs_sigterm = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")


@needs_sigterm
def test_orders_are_published_paid_and_replayed_while_a_leader_dies():
    async def run():
        async with connected() as (cluster, _, js):
            async with running(cluster, "publish_orders.py", "1") as publisher:
                assert await publisher.rest() == ["1 acknowledged, the last one as 1"]
            await cluster.known("ORDERS")
            async with running(cluster, "publish_orders.py", "1000") as publisher:
                leader = await cluster.leader_of("ORDERS")
                await poll(lambda: under_way(js), LIMIT, "the publisher does not publish", every=0.001)
                await cluster.kill(leader)
                assert publisher.process.returncode is None, "killed too late"
                assert await publisher.rest() == ["1000 acknowledged, the last one as 1000"]
            await cluster.restore_all()
            await js.publish("orders.payment", b"poison")
            async with running(cluster, "payment_worker.py") as worker:
                said = [await worker.line() for _ in range(1001)]
                assert said[:1000] == [f"paid {n}" for n in range(1, 1001)]
                assert said[1000].startswith("given up: ")
                assert await worker.terminated() == ["drained"]
            assert (await js.stream_info("PAYMENTS")).state.messages == 1000
            async with running(cluster, "replay_orders.py", "ORDERS", "991") as replay:
                printed = await replay.rest()
            read = [
                (int(line.split()[0]), json.loads(line.split(maxsplit=2)[2])["id"]) for line in printed[:-1]
            ]
            assert read == [(n, n) for n in range(991, 1001)]
            assert printed[-1].startswith("1001 orders.payment")

    asyncio.run(run())


@needs_sigterm
def test_the_service_answers_with_the_callers_id_refuses_in_words_and_drains():
    async def run():
        async with connected() as (cluster, nc, _):
            async with running(cluster, "inventory_service.py") as one:
                assert await one.line() == "ready"
                asked = json.dumps({"productId": "ABC123", "quantity": 5}).encode()
                trace = {"X-Correlation-ID": "7"}
                # Its own node knows of it; ours may hear of it a moment later, and nothing was asked then.
                reply = await retry(lambda: nc.request("inventory.check", asked, 5, headers=trace))
                assert json.loads(reply.data) == {"available": 20, "enough": True}
                assert reply.headers["X-Correlation-ID"] == "7"
                unknown = await nc.request("inventory.check", b'{"productId": "?"}', 5)
                assert "KeyError" in json.loads(unknown.data)["error"]
                assert (await one.terminated())[-1] == "drained"
            with pytest.raises(nats.errors.NoRespondersError):
                await nc.request("inventory.check", asked, 5)

    asyncio.run(run())


@needs_sigterm
def test_the_watcher_tells_of_a_new_leader():
    async def run():
        async with connected() as (cluster, _, js):
            await js.add_stream(name="S", subjects=["s"], num_replicas=3)
            await cluster.known("S")
            old = await cluster.leader_of("S")
            async with running(cluster, "watch_cluster.py") as watcher:
                assert (await watcher.line()).startswith(f"S: led by {old}")
                new = await cluster.step_down("S")
                async with asyncio.timeout(LIMIT):
                    while not (await watcher.line()).startswith(f"S: led by {new}"):
                        pass
                await watcher.terminated()

    asyncio.run(run())
