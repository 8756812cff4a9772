"""The plots, the panel and the health frame of notebook 02."""

import asyncio

import matplotlib
import nats
import numpy as np
import pandas as pd
import pytest

from helpers import monitor, plots
from helpers.cluster.embedded import Embedded
from helpers.cluster.interface import ClusterError, poll
from helpers.panel.topology import Panel

matplotlib.use("Agg")

NODES = [f"nats-server-{i}" for i in range(1, 5)]


def frame(**columns) -> pd.DataFrame:
    whole = {"state": "running", "healthy": True, "meta_leader": False, "connections": 3, "store": 2e6,
             "api_errors": 0, "uptime": 62.5}  # fmt: skip
    return pd.DataFrame(whole | columns, index=NODES)


def test_widest_gap():
    assert plots.widest([0, 1, 1.5, 5.5, 6]) == (1.5, 4.0)


def test_topology_names_every_node_and_leader():
    nodes = frame(state=["running", "down", "paused", "isolated"])
    ax = plots.topology(nodes, {"ORDERS": (NODES[0], NODES[1:3]), "LOST": (None, [NODES[3]])})
    texts = [text.get_text() for text in ax.texts]
    assert [text for text in texts if text in NODES] == NODES
    assert texts.count("ORDERS") == 3 and texts.count("LOST") == 1
    assert "LOST is led by nobody" in ax.figure.alt and "nats-server-2 down" in ax.figure.alt
    solid = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert len(ax.lines) == 6 and len(solid) == 1  # only the two that live and are not cut off


def test_gaps_name_the_longest_of_each_fault():
    steady = np.arange(-1, 8, 0.01)
    ax = plots.gaps({"SIGKILL": [s for s in steady if not 0 < s < 5], "SIGTERM": steady})
    assert {"5.0 s", "10 ms"} <= {text.get_text() for text in ax.texts}


def test_truth_table_says_it_in_words():
    table = pd.DataFrame({"core": [True, True], "R3": [True, False]}, index=["none down", "2 down"])
    ax = plots.truth(table)
    assert [text.get_text() for text in ax.texts] == ["works", "works", "works", "fails"]


@pytest.mark.parametrize("fastest", [0.02, 0.1, 5])
def test_no_answer_is_outside_the_plot(fastest):
    answers = pd.DataFrame({"phase": ["a", "a", "b"], "by": ["us", "us", "eu"], "ms": [82, 400, fastest]})
    ax = plots.region_latency(answers)
    low, high = ax.get_ylim()
    drawn = np.concatenate([line.get_ydata() for line in ax.lines[:2]])
    assert sorted(drawn) == sorted(answers.ms) and low < drawn.min() and drawn.max() < high


def test_the_other_plots_describe_themselves():
    seconds = np.arange(0, 4, 0.05)
    answers = pd.DataFrame({"phase": ["a", "a", "b"], "by": ["us", "us", "eu"], "ms": [80, 82, 1],
                            "seconds": [0, 1, 2]})  # fmt: skip
    sides = {"here": pd.DataFrame({"seconds": [0, 1], "acked": [True, False]})}
    drawn = [
        plots.spread(pd.DataFrame({"leaders": [1, 2, 3, 4]}, index=NODES)),
        plots.rolling(seconds, {NODES[0]: (0.5, 1.5)}),
        plots.sides(sides, {"cut": 0}),
        plots.catch_up(pd.DataFrame({"a": [1, 2], "b": [0, 2]}, index=[0.0, 0.1]), 0.05),
        plots.region_latency(answers),
        plots.health(frame()),
    ]
    for ax in drawn:
        assert len(ax.figure.alt) > 30


@pytest.fixture(scope="module")
def cluster():
    cluster = asyncio.run(Embedded(links=True).start())
    yield cluster
    asyncio.run(cluster.close())


def test_health_of_a_node_that_is_down(cluster):
    async def run():
        await cluster.kill(NODES[3])
        nodes = await monitor.nodes(cluster)
        assert list(nodes.state) == ["running"] * 3 + ["down"]
        assert list(nodes.healthy)[3] is False and pd.isna(nodes.connections[NODES[3]])
        await cluster.restore_all()
        nodes = await monitor.nodes(cluster)
        assert nodes.healthy.all() and nodes.meta_leader.sum() == 1
        assert 0 <= nodes.uptime[NODES[3]] < nodes.uptime[NODES[:3]].min(), "it started last"

    asyncio.run(run())


def test_a_meta_leader_that_was_cut_off_is_waited_for(cluster):
    async def leaders() -> set[str]:
        nodes = await monitor.nodes(cluster)
        return set(nodes.index[nodes.meta_leader.eq(True)])

    async def run():
        (old,) = await leaders()
        await cluster.isolate(old)

        async def two() -> bool:
            return len(await leaders()) == 2

        await poll(two, 20, "the others elected nobody")
        assert not await cluster._agreed()
        with pytest.raises(ClusterError):
            await cluster.wait_ready(1)
        await cluster.restore_all()
        assert await cluster._agreed() and len(await leaders()) == 1

    asyncio.run(run())


def test_panel_by_click(cluster):
    async def run():
        nc = await nats.connect(**cluster.options)
        js = nc.jetstream(domain=cluster.domain)
        await js.add_stream(name="HANDS", subjects=["hands"], num_replicas=3)
        panel = Panel(cluster, js, "HANDS", "hands").start()

        async def shows(state):
            return (await panel.states())[NODES[2]] == state and f"{NODES[2]} {state}" in panel._picture.value

        for action, state in [("kill", "down"), ("revive", "running"), ("pause", "paused"),
                              ("revive", "running"), ("isolate", "isolated")]:  # fmt: skip
            panel.buttons[NODES[2], action].click()
            await poll(lambda state=state: shows(state), 20, f"the panel never showed {state}")
        await panel.next_ack()
        await panel.close_panel()
        assert set((await panel.states()).values()) == {"running"}
        assert not panel._tasks
        await nc.close()

    asyncio.run(run())
