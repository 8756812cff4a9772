"""The plot, the panel and the health frame of notebook 02."""

import asyncio

import matplotlib
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from nats.js.api import ClusterInfo, PeerInfo
from programs import connected

from helpers import monitor, plots
from helpers.cluster.embedded import Embedded
from helpers.cluster.interface import ClusterError, poll
from helpers.panel.topology import Panel

matplotlib.use("Agg")

NODES = [f"nats-server-{i}" for i in range(1, 5)]


def group(leader: str | None, *others: str) -> ClusterInfo:
    return ClusterInfo(leader=leader, replicas=[PeerInfo(name=name) for name in others])


def test_topology_is_drawn_from_what_the_servers_say():
    """A line where two nodes name each other, dotted where one is not well; a badge a replica."""
    routes = {name: [other for other in NODES if other != name] for name in NODES}
    routes[NODES[1]] = None  # does not answer
    routes[NODES[3]] = [NODES[0]]  # names one; two name it
    states = dict(zip(NODES, ("running", "down", "paused", "isolated"), strict=True))
    groups = {"ORDERS": group(NODES[0], *NODES[1:3]), "LOST": group(None, NODES[3])}
    ax = plots.topology(routes, groups, NODES[2], states)
    texts = [text.get_text() for text in ax.texts]
    assert [text.split(":")[0] for text in texts if text.startswith("nats-server")] == NODES
    assert (texts.count("ORDERS"), texts.count("LOST"), texts.count("meta")) == (3, 1, 1)
    filled = [text.get_text() for text in ax.texts if text.get_color() == "white"]
    assert sorted(filled) == ["ORDERS", "meta"], "the leaders, and nobody else"
    assert "LOST is led by nobody" in ax.figure.alt and "nats-server-2 down" in ax.figure.alt
    assert len(ax.lines) == 2 and "2 pairs" in ax.figure.alt  # 1 to 3, 1 to 4
    assert all(line.get_linestyle() == ":" for line in ax.lines), "3 is paused, 4 cut off"
    assert len(plots.topology(dict.fromkeys(NODES, NODES), {}).lines) == 6
    plt.close("all")


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
        nc, js = await connected(cluster)
        await js.add_stream(name="HANDS", subjects=["hands"], num_replicas=3)
        before = Panel(cluster, js, "HANDS", "hands").start()
        await before.next_ack()
        panel = Panel(cluster, js, "HANDS", "hands").start()

        async def ended():
            return not before._tasks

        await poll(ended, 5, "the cell was run again, and its first panel works on")

        async def shows(state):
            return (await panel.states())[NODES[2]] == state and f"{NODES[2]} {state}" in panel._picture.value

        for action, state in [("kill", "down"), ("revive", "running"), ("pause", "paused"),
                              ("revive", "running"), ("isolate", "isolated")]:  # fmt: skip
            panel.buttons[NODES[2], action].click()
            await poll(lambda state=state: shows(state), 20, f"the panel never showed {state}")
            assert not plt.get_fignums(), "an open figure: the cell that ends now would show it"
        await panel.next_ack()
        await panel.close_panel()
        assert set((await panel.states()).values()) == {"running"}
        assert not panel._tasks
        await nc.close()

    asyncio.run(run())
