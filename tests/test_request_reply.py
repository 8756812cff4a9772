"""Request-reply under load: nothing mixed, no loss by a drain, and a ledger that knows what a kill lost."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import nats
import pandas as pd
import psutil
import pytest
from matplotlib import pyplot as plt

from helpers import plots, responders
from helpers.cluster import open_cluster
from helpers.cluster.interface import poll
from helpers.protocol_log import tapped
from helpers.responders import HEADER

ROOT = Path(__file__).parents[1]
NAMES = ["inventory-1", "inventory-2", "inventory-3"]
SHELF = {"1082185": 339}
ASK = json.dumps({"productId": "1082185", "quantity": 5}).encode()


@asynccontextmanager
async def team_of_three(**settings):
    """A client, the three responders, and the cluster's URLs."""
    cluster = await open_cluster()
    nc = await nats.connect(**cluster.options)
    team = {}
    try:
        team |= await responders.start(nc, cluster.urls, NAMES, SHELF, **settings)
        yield nc, team
    finally:
        responders.close(team)
        await nc.close()


async def holds(things, count):
    return len(things) >= count


def test_a_thousand_at_once_and_every_answer_is_its_own():
    async def run():
        async with team_of_three(work=0.002) as (nc, _):

            async def one(id_):
                msg = await nc.request("inventory.check", ASK, timeout=30, headers={HEADER: id_})
                return msg.headers[HEADER], json.loads(msg.data)

            ids = [f"order-{n}" for n in range(1_000)]
            return ids, await asyncio.gather(*map(one, ids))

    ids, answers = asyncio.run(run())
    assert [id_ for id_, _ in answers] == ids
    assert {answer["available"] for _, answer in answers} == {339}
    assert set(Counter(answer["responder"] for _, answer in answers)) == set(NAMES)


async def leaving(how, waits_for, requests, work, timeout):
    """Asks while inventory-2 leaves: answers, who received what, who got none, the retry of those."""
    async with team_of_three(work=work) as (nc, team):
        received: dict[str, set[str]] = {}

        async def note(msg):
            received.setdefault(msg.headers[HEADER], set()).add(msg.subject.removeprefix("log."))

        log = await nc.subscribe("log.*", cb=note)
        gate, answers = asyncio.Semaphore(200), {}

        async def one(id_):
            async with gate:
                answers[id_] = (await responders.ask_each(nc, [id_], ASK, timeout))[id_]

        ids = [f"{how}-{n}" for n in range(requests)]
        asked = asyncio.gather(*map(one, ids))
        if waits_for == "a third is answered":
            await poll(partial(holds, answers, requests // 3), 30, "no third was answered")
        else:
            await poll(partial(holds, received, requests), 30, "not all were received")
        await team.pop("inventory-2").leave(how)
        assert len(answers) < requests, "it left after the end, not in the middle"
        await asked
        await log.unsubscribe()
        failed = [id_ for id_ in ids if answers[id_] is None]
        again = await responders.ask_each(nc, failed, ASK, timeout=30)
        return ids, answers, received, failed, again


def test_a_drain_in_the_middle_loses_none():
    ids, answers, _, failed, _ = asyncio.run(
        leaving("drain", "a third is answered", requests=1_000, work=0.02, timeout=30)
    )
    assert failed == [] and set(answers) == set(ids)
    assert "inventory-2" in answers.values()


@pytest.mark.parametrize("how", ["unsubscribe", "kill"])
def test_the_ledger_says_which_requests_died_and_the_retry_answers_all(how):
    # All have been received and none is answered for long: what it holds is in its hands when it goes.
    ids, answers, received, failed, again = asyncio.run(
        leaving(how, "all are received", requests=90, work=2, timeout=5)
    )
    assert failed and set(failed) == {id_ for id_ in ids if received[id_] == {"inventory-2"}}
    survivors = {"inventory-1", "inventory-3"}
    assert all(answers[id_] in survivors for id_ in ids if received[id_] & survivors)
    assert set(again) == set(failed) and set(again.values()) <= survivors


def test_what_a_drain_sends_first():
    """nats-py 2.16 sends the PING ahead of the UNSUB, and `pending_size=1` repairs it.

    Red here means that nats-py was repaired: then the option, and what notebook 03 says of it, can go.
    """

    async def sent(size):
        cluster = await open_cluster()

        async def has_sent(verb):
            return verb in wire.verbs

        async with tapped(cluster.urls[0]) as wire:
            nc = await nats.connect(wire.url, pending_size=size)
            sub = await nc.subscribe("somewhere", cb=has_sent)
            await poll(partial(has_sent, "SUB"), 10, "no SUB")
            before = len(wire.verbs)
            await sub.drain()
            await poll(partial(has_sent, "UNSUB"), 10, "no UNSUB")
            await nc.close()
            return wire.verbs[before : before + 2]

    assert asyncio.run(sent(2 * 1024 * 1024)) == ["PING", "UNSUB"]
    assert asyncio.run(sent(1)) == ["UNSUB", "PING"]


def test_a_responder_that_drains_unsubscribes_before_it_asks_whether_that_was_seen():
    """What keeps its drain from losing a request now and then; under load alone it would show too rarely."""

    async def run():
        cluster = await open_cluster()
        nc = await nats.connect(**cluster.options)
        team = {}
        try:
            async with tapped(cluster.urls[0]) as wire:
                team = await responders.start(nc, [wire.url], NAMES[:1], SHELF, work=0)
                before = len(wire.verbs)
                await team.pop("inventory-1").leave("drain")
                return [verb for verb in wire.verbs[before:] if verb in ("UNSUB", "PING")]
        finally:
            responders.close(team)
            await nc.close()

    assert asyncio.run(run())[:2] == ["UNSUB", "PING"]


def test_a_responder_that_cannot_start_says_why():
    async def run():
        cluster = await open_cluster()
        nc = await nats.connect(**cluster.options)
        try:
            with pytest.raises(RuntimeError, match=r"inventory-1 did not start: .*Error"):
                await responders.start(nc, ["nats://127.0.0.1:1"], ["inventory-1"], SHELF, work=0)
        finally:
            await nc.close()

    asyncio.run(run())


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_responders_end_with_the_kernel_that_is_killed():
    code = f"""
import asyncio, sys, nats
from helpers import responders
async def main():
    nc = await nats.connect(sys.argv[1])
    team = await responders.start(nc, [sys.argv[1]], {NAMES!r}, {{}}, work=0)
    print(*(r._process.pid for r in team.values()), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    url = asyncio.run(open_cluster()).urls[0]
    kernel = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True, cwd=ROOT)
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
    ax = plots.answered(pd.DataFrame(rows, columns=["second", "responder"]), {"one joins": 1.5})
    tops = {round(bar.get_y() + bar.get_height(), 6) for bar in ax.containers[-1]}
    assert tops == {1.0}
    assert "inventory-1 100" in told(ax) and "one joins" in told(ax)


def test_endings_show_every_request(told):
    counts = pd.DataFrame({"drain": [80, 40, 0], "kill": [70, 0, 50]}, index=["a", "b", "c"]).T
    ax = plots.endings(counts)
    assert [sum(bar.get_width() for bar in row) for row in zip(*ax.containers, strict=True)] == [120, 120]
    assert "kill: 70 a, 0 b, 50 c" in told(ax)


def test_a_waterfall_starts_at_zero_and_nests(told):
    rows = [("order", "place", 5.0, 0.04), ("payment", "charge", 5.01, 0.02)]
    ax = plots.waterfall(pd.DataFrame(rows, columns=["service", "operation", "start", "seconds"]))
    first, second = (container[0] for container in ax.containers)
    assert first.get_x() == 0 and abs(second.get_x() - 10) < 1e-6
    assert "payment charge from 10 to 30 ms" in told(ax)


def test_gathered_names_the_silent(told):
    ax = plots.gathered(pd.DataFrame({"store": ["store 1"], "seconds": [0.2]}), ["store 2"], deadline=1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["store 1", "store 2"]
    assert "store 2 not by 1 s" in told(ax)


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
