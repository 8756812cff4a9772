"""The cluster as a live picture, with a row of buttons a node: kill, pause, isolate, revive."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Coroutine
from typing import ClassVar

import ipywidgets as widgets
from IPython.core.pylabtools import print_figure
from matplotlib import pyplot as plt
from nats.js import JetStreamContext
from nats.js.api import ClusterInfo, PeerInfo

from ..cluster.interface import Cluster, poll
from ..lesson import end
from ..plots import BLUE, VERMILION, describe
from ..plots.clustering import topology

WINDOW = 20  # seconds of acknowledgements in the picture
PACE = 0.05  # seconds between two messages of the panel's publisher
ACTIONS = {"kill": "danger", "pause": "warning", "isolate": "info", "revive": "success"}


class Panel(widgets.VBox):
    """Publishes to `subject` of `stream` at a steady pace, draws what happens, and breaks nodes on a click.

    A button does what `act` does from code. `close_panel` stops it and leaves every node running.
    """

    _running: ClassVar[set[asyncio.Task]] = set()  # of the panel that started last

    def __init__(self, cluster: Cluster, js: JetStreamContext, stream: str, subject: str) -> None:
        self._cluster, self._js, self._stream, self._subject = cluster, js, stream, subject
        self._isolated: set[str] = set()
        self._acks: list[float] = []
        self._tasks: set[asyncio.Task] = set()
        self._group: ClusterInfo | None = None
        self._picture = widgets.HTML()
        self._said = widgets.Label("Click a button, and watch the acknowledgements below the picture.")
        names = [node.name for node in cluster.nodes]
        self.buttons = {(name, action): self._button(name, action) for name in names for action in ACTIONS}
        rows = [
            widgets.HBox([widgets.Label(name), *(self.buttons[name, action] for action in ACTIONS)])
            for name in names
        ]
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
        button.on_click(lambda _: self._background(self.act(action, node)))
        return button

    def _background(self, work: Coroutine) -> None:
        """Runs it in a task; what ends it is said under the picture."""

        async def said() -> None:
            try:
                await work
            except Exception as error:
                self._said.value = str(error) or type(error).__name__

        task = asyncio.get_running_loop().create_task(said())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def next_ack(self) -> None:
        """Returns with the next acknowledgement; ClusterError when none comes in 20 seconds."""
        before = len(self._acks)

        async def another() -> bool:
            return len(self._acks) > before

        await poll(another, 20, "nothing is acknowledged")

    async def states(self) -> dict[str, str]:
        """As of the cluster, with "isolated" for a node that runs without its routes."""
        states = await self._cluster.states()
        return states | {name: "isolated" for name in self._isolated if states[name] == "running"}

    async def act(self, action: str, node: str) -> None:
        """Kills, pauses, isolates or revives a node; reviving undoes all three, and heals every cut."""
        self._said.value = f"{action} {node} ..."
        if action != "revive":
            await getattr(self._cluster, action)(node)
            if action == "isolate":
                self._isolated.add(node)
        else:
            if node in self._isolated:  # which heals whoever is cut off
                await self._cluster.heal()
                self._isolated.clear()
            await self._cluster.resume(node)
            if (await self._cluster.states())[node] == "down":
                await self._cluster.restart(node)
        self._said.value = f"{action} {node}: done"

    async def _publish(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # the gap in the picture is what this lesson is about
                await self._js.publish(self._subject, b"", timeout=0.5)
                self._acks.append(time.perf_counter())
            await asyncio.sleep(PACE)

    async def _watch(self) -> None:
        while True:
            await self._draw()
            await asyncio.sleep(0.5)

    async def _draw(self) -> None:
        routez, jsz = await asyncio.gather(self._cluster.pages("/routez"), self._cluster.pages("/jsz"))
        routes = dict.fromkeys(node.name for node in self._cluster.nodes) | {
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
        data = print_figure(figure, bbox_inches=None, base64=True, dpi=80)
        plt.close(figure)
        self._picture.value = f'<img alt="{figure.alt}" src="data:image/png;base64,{data}">'

    def start(self) -> "Panel":
        if Panel._running:  # its cell was run again, and nobody closed it
            self._background(end(*Panel._running))
        Panel._running = self._tasks
        self._background(self._publish())
        self._background(self._watch())
        return self

    async def close_panel(self) -> None:
        """Stops publishing and drawing, and restores every node; the last picture stays."""
        await end(*self._tasks)
        self._isolated.clear()
        await self._cluster.restore_all()
        await self._draw()
        for button in self.buttons.values():
            button.disabled = True
        self._said.value = "Closed. Run the cell above again to play on."
