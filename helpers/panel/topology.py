"""The cluster as a live picture, with a row of buttons a node: kill, pause, isolate, revive."""

import asyncio
import base64
import io
import time
from collections import Counter

import ipywidgets as widgets
from matplotlib import pyplot as plt
from nats.js import JetStreamContext
from nats.js.api import ClusterInfo, PeerInfo

from .. import monitor
from ..cluster.interface import Cluster, poll
from ..plots import BLUE, VERMILION, describe
from ..plots.clustering import topology

WINDOW = 20  # seconds of acknowledgements in the picture
PACE = 0.05  # seconds between two messages of the panel's publisher
ACTIONS = {"kill": "danger", "pause": "warning", "isolate": "info", "revive": "success"}


class Panel(widgets.VBox):
    """Publishes to `subject` of `stream` at a steady pace, draws what happens, and breaks nodes on a click.

    A button does what `act` does from code. `close_panel` stops it and leaves every node running.
    """

    def __init__(self, cluster: Cluster, js: JetStreamContext, stream: str, subject: str) -> None:
        self._cluster, self._js, self._stream, self._subject = cluster, js, stream, subject
        self._isolated: set[str] = set()
        self._acks: list[float] = []
        self._tasks: set[asyncio.Task] = set()
        self._closing = False
        self._group: ClusterInfo | None = None
        self._picture = widgets.HTML()
        self._said = widgets.Label("Click a button, and watch the acknowledgements below the picture.")
        self.buttons = {(node.name, action): self._button(node.name, action)
                        for node in cluster.nodes for action in ACTIONS}  # fmt: skip
        rows = [
            widgets.HBox([widgets.Label(node.name, layout={"width": "110px"}),
                          *(self.buttons[node.name, action] for action in ACTIONS)])
            for node in cluster.nodes
        ]  # fmt: skip
        super().__init__([self._picture, *rows, self._said])

    def __repr__(self) -> str:
        return f"Panel of {len(self._cluster.nodes)} nodes: run this cell to see it"

    def _button(self, node: str, action: str) -> widgets.Button:
        button = widgets.Button(
            description=action,
            button_style=ACTIONS[action],
            tooltip=f"{action} {node}",
            layout={"width": "90px"},
        )
        button.on_click(lambda _: self._background(self._clicked(action, node)))
        return button

    def _background(self, work) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _clicked(self, action: str, node: str) -> None:
        try:
            await self.act(action, node)
        except Exception as error:
            self._said.value = str(error)

    @property
    def acked(self) -> int:
        """How many messages of the panel's publisher were acknowledged so far."""
        return len(self._acks)

    async def next_ack(self, limit: float = 20) -> None:
        """Returns with the next acknowledgement; ClusterError when none comes in `limit` seconds."""
        before = self.acked

        async def another() -> bool:
            return self.acked > before

        await poll(another, limit, "nothing is acknowledged")

    async def states(self) -> dict[str, str]:
        """As of the cluster, with "isolated" for a node that runs without its routes."""
        states = await self._cluster.states()
        return {
            name: "isolated" if state == "running" and name in self._isolated else state
            for name, state in states.items()
        }

    async def act(self, action: str, node: str) -> None:
        """Kills, pauses, isolates or revives a node; reviving undoes all three."""
        self._said.value = f"{action} {node} ..."
        if action == "kill":
            await self._cluster.kill(node)
        elif action == "pause":
            await self._cluster.pause(node)
        elif action == "isolate":
            await self._cluster.isolate(node)
            self._isolated.add(node)
        else:
            await self._revive(node)
        self._said.value = f"{action} {node}: done"

    async def _revive(self, node: str) -> None:
        if node in self._isolated:
            others = self._isolated - {node}
            await self._cluster.heal()
            self._isolated = set()
            for other in others:
                await self.act("isolate", other)
        await self._cluster.resume(node)
        if (await self._cluster.states())[node] == "down":
            await self._cluster.restart(node)

    async def _publish(self) -> None:
        number = 0
        while not self._closing:
            number += 1
            try:
                await self._js.publish(self._subject, str(number).encode(), timeout=0.5)
                self._acks.append(time.perf_counter())
            except Exception:
                pass  # the gap in the picture is what this lesson is about
            await asyncio.sleep(PACE)

    async def _watch(self) -> None:
        while not self._closing:
            await self._draw()
            await asyncio.sleep(0.5)

    async def _draw(self) -> None:
        routez, jsz = await asyncio.gather(*(monitor.page(self._cluster, p) for p in ("/routez", "/jsz")))
        routes = {
            node: page and [route["remote_name"] for route in page.get("routes") or []]
            for node, page in routez.items()
        }
        told = Counter((page or {}).get("meta_cluster", {}).get("leader") for page in jsz.values())
        del told[None]
        meta = told.most_common(1)[0][0] if told else None  # who was cut off may still think that it leads
        try:
            self._group = (await self._js.stream_info(self._stream)).cluster
        except Exception:  # nobody answers: the replicas are where they were, and none leads
            if self._group and self._group.leader:
                known = [PeerInfo(name=self._group.leader), *(self._group.replicas or [])]
                self._group = ClusterInfo(leader=None, replicas=known)
        states = await self.states()
        # From here to `close` nothing is awaited: a cell that ends meanwhile would show the open figure.
        figure, (above, below) = plt.subplots(
            2, 1, figsize=(8, 5), layout="constrained", height_ratios=(4, 1)
        )
        topology(routes, {self._stream: self._group}, meta, states, above)
        now = time.perf_counter()
        recent = [ack - now for ack in self._acks if now - ack < WINDOW]
        below.eventplot(recent, colors=BLUE, linewidths=0.8)
        silent = -recent[-1] if recent else WINDOW
        below.set(xlim=(-WINDOW, 0), yticks=[], xlabel="seconds ago, a tick an acknowledged message")
        if silent > 1:
            below.text(-silent / 2, 1, f"{silent:.0f} s", color=VERMILION, weight="bold", ha="center")
        below.spines[["top", "right", "left"]].set_visible(False)
        describe(below, f"{above.figure.alt} Last acknowledgement {silent:.0f} s ago.")
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=80)
        plt.close(figure)
        data = base64.b64encode(picture.getvalue()).decode()
        self._picture.value = f'<img alt="{figure.alt}" src="data:image/png;base64,{data}">'

    def start(self) -> "Panel":
        self._background(self._publish())
        self._background(self._watch())
        return self

    async def close_panel(self) -> None:
        """Stops publishing and drawing, and restores every node; the last picture stays."""
        self._closing = True  # before Python 3.12 wait_for, and so a request, may swallow the cancellation
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._isolated.clear()
        await self._cluster.restore_all()
        await self._draw()
        for button in self.buttons.values():
            button.disabled = True
        self._said.value = "Closed. Run the cell above again to play on."
