"""Request-reply under load: nothing mixed, no loss by a drain, and a retry of what an exit or a kill lost."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import nats
import pandas as pd
import psutil
import pytest
from matplotlib import pyplot as plt

from helpers import plots, responders
from helpers.cluster import open_cluster
from helpers.protocol_log import tapped

ROOT = Path(__file__).parents[1]
HEADER = "X-Correlation-ID"
ASK = json.dumps({"productId": "1082185", "quantity": 5}).encode()


@asynccontextmanager
async def team_of_three(work=0.0):
    """A client, and three services."""
    cluster = await open_cluster()
    nc = await nats.connect(**cluster.options)
    team = await responders.start(cluster, work=work)
    try:
        yield nc, team
    finally:
        team.close()
        await nc.close()


async def asked(nc, id_, timeout):
    """Who answered this request; None where nobody did in time."""
    try:
        msg = await nc.request("inventory.check", ASK, timeout, headers={HEADER: id_})
    except TimeoutError:
        return None
    assert msg.headers[HEADER] == id_
    return json.loads(msg.data)["responder"]


def test_a_thousand_at_once_and_every_answer_is_its_own():
    async def run():
        async with team_of_three(work=0.001) as (nc, _):
            return await asyncio.gather(*(asked(nc, f"order-{n}", 30) for n in range(1_000)))

    assert set(Counter(asyncio.run(run()))) == set(responders.NAMES)


async def leaving(how, timeout):
    """90 requests, of which inventory-2 has about thirty when it leaves: who answered, and who the retry."""
    async with team_of_three(work=0.1) as (nc, team):
        everybody = asyncio.gather(*(asked(nc, f"order-{n}", timeout) for n in range(90)))
        await nc.flush()
        await asyncio.gather(
            *(nc.request(f"inventory.check.{name}", ASK, timeout=30) for name in team.processes)
        )
        assert not everybody.done(), "it leaves after the end, not in the middle"
        await team.leave("inventory-2", how)
        answers = await everybody
        again = await asyncio.gather(*(asked(nc, "again", 30) for answer in answers if answer is None))
        return Counter(answers), set(again)


def test_a_drain_in_the_middle_loses_none():
    answers, again = asyncio.run(leaving("drain", timeout=30))
    assert set(answers) == set(responders.NAMES) and not again


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_what_was_in_the_hands_of_one_that_left_is_lost_and_a_retry_finds_another(how):
    answers, again = asyncio.run(leaving(how, timeout=8))
    assert answers[None] > 10
    assert answers["inventory-1"] + answers["inventory-3"] > 30  # theirs were all answered
    assert again <= {"inventory-1", "inventory-3"}


def test_another_start_ends_the_team_before():
    async def run():
        async with team_of_three() as (_, team):
            before = list(team.processes.values())
            cluster = await open_cluster()
            other = await responders.start(cluster, "inventory-3")
            assert all(process.poll() is not None for process in before) and list(other.processes) == [
                "inventory-3"
            ]
            other.close()

    asyncio.run(run())


def test_a_responder_that_drains_unsubscribes_before_it_asks_whether_that_was_seen():
    """What keeps its drain from losing a request now and then; under load alone it would show too rarely."""

    async def run():
        cluster = await open_cluster()
        async with tapped(cluster.urls[0]) as wire:
            tap = SimpleNamespace(options=cluster.options, urls=[wire.url])
            team = await responders.start(tap, "inventory-1")
            try:
                before = len(wire.verbs)
                await team.leave("inventory-1", "drain")
                return [verb for verb in wire.verbs[before:] if verb in ("UNSUB", "PING")]
            finally:
                team.close()

    assert asyncio.run(run())[:3] == ["UNSUB", "UNSUB", "PING"]  # of its two subscriptions


def test_a_responder_that_cannot_start_says_why():
    async def run():
        cluster = await open_cluster()
        nowhere = SimpleNamespace(options=cluster.options, urls=["nats://127.0.0.1:1"])
        with pytest.raises(RuntimeError, match=r"inventory-1 did not start: .*Error"):
            await responders.start(nowhere, "inventory-1")

    asyncio.run(run())


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_responders_end_with_the_kernel_that_is_killed():
    code = """
import asyncio
from helpers import responders
from helpers.cluster import open_cluster
async def main():
    team = await responders.start(await open_cluster())
    print(*(process.pid for process in team.processes.values()), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    kernel = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    pids = [int(pid) for pid in kernel.stdout.readline().split()]
    processes = [psutil.Process(pid) for pid in pids]
    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    kernel.stdout.close()
    assert len(processes) == 3
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


# -- the plots ------------------------------------------------------------------------------------


@pytest.fixture
def told():
    """The alt text of a plot, whose figure is closed afterwards."""
    yield lambda ax: ax.figure.alt
    plt.close("all")


def test_shares_add_up(told):
    rows = [(n / 100, f"inventory-{n % 3 + 1}") for n in range(300)]
    ax = plots.answered(pd.DataFrame(rows, columns=["asked", "responder"]), {"one joins": 1.5})
    tops = {round(bar.get_y() + bar.get_height(), 6) for bar in ax.containers[-1]}
    assert tops == {1.0}
    assert "inventory-1 100" in told(ax) and "one joins" in told(ax)


def test_a_waterfall_starts_at_zero_and_nests(told):
    rows = [("order", "place", 5.0, 0.04), ("payment", "charge", 5.01, 0.02)]
    ax = plots.waterfall(pd.DataFrame(rows, columns=["service", "operation", "start", "seconds"]))
    first, second = (container[0] for container in ax.containers)
    assert first.get_x() == 0 and abs(second.get_x() - 10) < 1e-6
    assert "payment: charge from 10 to 30 ms" in told(ax)


def test_latency_has_a_curve_a_load(told):
    samples = pd.DataFrame(
        [(n, load, 2.0 * load / n) for n in (1, 3) for load in (1, 8) for _ in range(10)],
        columns=["responders", "at once", "ms"],
    )
    ax = plots.latency(samples)
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.lines}
    assert len(ax.lines) == len(looks) == 4
    assert all(line.get_ydata()[-1] == 1 for line in ax.lines)
    assert "1 with 8 at once 16.0 ms" in told(ax)
