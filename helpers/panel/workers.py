"""A consumer group by hand: how many workers, how many orders a second, how many fail; live lag."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from itertools import count
from typing import ClassVar

import pandas as pd
from IPython.display import display
from ipywidgets import FloatSlider, HBox, IntSlider, Label, Layout, ToggleButton, VBox
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from .. import plots
from ..cluster.interface import poll
from ..lesson import end

STREAM, SUBJECT, DURABLE = "PANEL", "panel.orders", "panel"
SERVICE = 0.02  # seconds a worker takes for an order
WINDOW = 20  # seconds the picture shows


class WorkersPanel:
    """Sliders `workers`, `rate` (orders/s) and `failures` (share), a `run` button, and the lag below.

    By mouse or by code: setting a slider's `.value` does the same. `now` holds the last sample. Makes the
    stream PANEL; deletes nothing. Failures are drawn from `seed`. A panel that starts ends the one that runs.
    """

    _running: ClassVar["WorkersPanel | None"] = None

    def __init__(self, js: JetStreamContext, workers: int = 1, rate: int = 30, seed: int = 1) -> None:
        wide = {"style": {"description_width": "80px"}, "layout": Layout(width="330px")}
        self.workers = IntSlider(workers, 0, 8, description="workers", **wide)
        self.rate = IntSlider(rate, 0, 200, 10, description="orders / s", **wide)
        self.failures = FloatSlider(0, min=0, max=1, step=0.05, description="failing",
                                    readout_format=".0%", **wide)  # fmt: skip
        self.run = ToggleButton(False, description="Run", icon="play")
        self.status = Label("stopped")
        self.now: dict[str, float] = {}
        self._js, self._random, self._handle = js, random.Random(seed), None
        self._tasks: list[asyncio.Task] = []
        self._crew: list[asyncio.Task] = []
        self._switching: asyncio.Task | None = None
        self._turn = asyncio.Lock()
        self._rows: deque[dict] = deque()
        self.run.observe(self._switch, "value")

    def show(self) -> None:
        """Displays the sliders, and the picture under them."""
        box = VBox([HBox([self.workers, self.rate]), HBox([self.failures, self.run, self.status])])
        bundle = box._repr_mimebundle_()  # its text/plain would be the code of the widgets
        bundle["text/plain"] = "Three sliders and a Run button: run this cell to use them."
        display(bundle, raw=True)
        self._handle = plots.redraw(plots.live_lag(self._frame()))

    def _switch(self, change: dict) -> None:
        async def switch() -> None:
            async with self._turn:  # one switch after the other
                await (self._start() if change["new"] else self._stop())

        # A widget's callback cannot await: it leaves a task.
        self._switching = asyncio.get_running_loop().create_task(self._told(switch()))
        self._switching.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def start(self) -> None:
        """As the Run button: returns when orders flow."""
        self.run.value = True
        await self._switching

    async def stop(self) -> None:
        """As the Run button a second time: returns when every task has ended."""
        self.run.value = False
        if self._switching:
            await self._switching

    async def until(self, condition: Callable[[dict], bool], what: str, seconds: float = 20) -> dict:
        """The first sample for which `condition` holds; ClusterError with `what` when none came."""

        async def probe() -> dict | None:
            for task in [*self._tasks, *self._crew]:
                if task.done():
                    task.result()  # raises what ended it
            return self.now if self.now and condition(self.now) else None

        return await poll(probe, seconds, what)

    async def _start(self) -> None:
        if other := WorkersPanel._running:
            await other.stop()
        WorkersPanel._running = self
        await self._js.add_stream(name=STREAM, subjects=[SUBJECT])
        await self._js.purge_stream(STREAM)
        await self._js.add_consumer(STREAM, durable_name=DURABLE, ack_wait=2, max_deliver=3)
        self.now, self._rows = {}, deque()
        self._published = self._paid = self._given_up = 0
        self._begin = time.perf_counter()
        self._tasks = [asyncio.create_task(self._told(task())) for task in (self._publish, self._watch)]
        self.status.value = "running"

    async def _stop(self) -> None:
        if WorkersPanel._running is not self:
            return
        WorkersPanel._running = None
        tasks, self._tasks, self._crew = [*self._tasks, *self._crew], [], []
        said = self.status.value
        try:
            await end(*tasks)
        except Exception:
            self.status.value = said  # what ended it stays to be read
        else:
            self.status.value = "stopped"

    async def _told(self, work: Coroutine) -> None:
        """Whatever ends one of the panel's tasks is said where the learner looks."""
        try:
            await work
        except Exception as error:
            self.status.value = f"{type(error).__name__}: {error}"
            raise

    # -- what runs meanwhile --------------------------------------------------------------------

    async def _publish(self) -> None:
        due = 0.0
        for number in count(1):
            while not self.rate.value:
                await asyncio.sleep(0.05)
            now = time.perf_counter()
            due = max(due + 1 / self.rate.value, now - 0.2)  # never make up for more than 0.2 s
            await asyncio.sleep(max(0.0, due - now))
            try:
                await self._js.publish(SUBJECT, b"%d" % number, timeout=0.5)
                self._published += 1
            except (TimeoutError, NoStreamResponseError, APIError):
                await asyncio.sleep(0.05)  # no leader for now; `_watch` says so when the stream is gone

    async def _work(self) -> None:
        sub = await self._js.pull_subscribe_bind(DURABLE, STREAM)
        while True:
            try:
                messages = await sub.fetch(5, timeout=0.3)
            except TimeoutError:  # nats-py's own, or asyncio's when its clock ends a fetch of several
                continue  # nothing to do
            except APIError:
                await asyncio.sleep(0.05)  # no leader for now; `_watch` says so when the consumer is gone
                continue
            for msg in messages:
                await asyncio.sleep(SERVICE)
                if self._random.random() >= self.failures.value:
                    await msg.ack()
                    self._paid += 1
                else:
                    await msg.nak(delay=0.2)
                    self._given_up += msg.metadata.num_delivered == 3

    async def _watch(self) -> None:
        while True:
            while len(self._crew) < self.workers.value:
                self._crew.append(asyncio.create_task(self._told(self._work())))
            while len(self._crew) > self.workers.value:
                await end(self._crew.pop())
            try:
                info = await self._js.consumer_info(STREAM, DURABLE, timeout=0.5)
            except NotFoundError:
                raise
            except (TimeoutError, APIError):
                await asyncio.sleep(0.1)  # no leader for now
                continue
            self.now = {
                "seconds": time.perf_counter() - self._begin,
                "published": self._published, "paid": self._paid, "given_up": self._given_up,
                "workers": len(self._crew),
                "pending": info.num_pending, "ack_pending": info.num_ack_pending,
                "redelivered": info.num_redelivered or 0,
            }  # fmt: skip
            self._rows.append(self.now)
            while self._rows[-1]["seconds"] - self._rows[0]["seconds"] > WINDOW:
                self._rows.popleft()
            self.status.value = (
                f"published {self._published:,} · paid {self._paid:,} · given up {self._given_up:,}"
            )
            if self._handle:
                plots.redraw(plots.live_lag(self._frame()), self._handle)
            await asyncio.sleep(0.25)

    def _frame(self) -> pd.DataFrame:
        empty = {"seconds": 0, "workers": 0, "pending": 0, "ack_pending": 0, "redelivered": 0}
        return pd.DataFrame(self._rows or [empty])
