"""A consumer group by hand: how many workers, how many orders a second, how many fail; live lag."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from itertools import count

import nats.errors
import pandas as pd
from IPython.display import display
from ipywidgets import FloatSlider, HBox, IntSlider, Label, Layout, ToggleButton, VBox
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig
from nats.js.errors import APIError, NoStreamResponseError

from .. import plots
from ..cluster.interface import poll
from ..groups import Pool

STREAM, SUBJECT, DURABLE = "PANEL", "panel.orders", "panel"
SERVICE = 0.02  # seconds a worker takes for an order
WINDOW = 20  # seconds the picture shows
QUIET = (TimeoutError, APIError, NoStreamResponseError, nats.errors.ConnectionClosedError)


class WorkersPanel:
    """Sliders `workers`, `rate` (orders/s) and `failures` (share), a `run` button, and the lag below.

    By mouse or by code: setting a slider's `.value` does the same. `now` holds the last sample.
    Makes the stream PANEL; deletes nothing. Failures are drawn from `seed`.
    """

    def __init__(self, js: JetStreamContext, workers: int = 1, rate: int = 30, seed: int = 1) -> None:
        wide = {"style": {"description_width": "80px"}, "layout": Layout(width="330px")}
        self.workers = IntSlider(workers, 0, 8, description="workers", **wide)
        self.rate = IntSlider(rate, 0, 200, 10, description="orders / s", **wide)
        self.failures = FloatSlider(
            0, min=0, max=1, step=0.05, description="failing", readout_format=".0%", **wide
        )
        self.run = ToggleButton(False, description="Run", icon="play")
        self.status = Label("stopped")
        self.now: dict[str, float] = {}
        self._js, self._random = js, random.Random(seed)
        self._tasks: list[asyncio.Task] = []
        self._halt = asyncio.Event()
        self._switching: asyncio.Task | None = None
        self._handle = None
        self._reset()
        self.run.observe(self._switch, "value")

    # -- what the mouse and the code do -------------------------------------------------------

    def show(self) -> None:
        """Displays the sliders, and the picture under them."""
        box = VBox([HBox([self.workers, self.rate]), HBox([self.failures, self.run, self.status])])
        bundle = box._repr_mimebundle_()  # its text/plain would be the code of the widgets
        bundle["text/plain"] = "Panel: sliders for workers, orders / s and failing; a Run button; live lag"
        display(bundle, raw=True)
        self._handle = plots.redraw(plots.live_lag(self._frame()))

    def _switch(self, change: dict) -> None:
        # A widget's callback cannot await: it leaves a task, one switch after the other.
        before = self._switching

        async def switch() -> None:
            if before:
                await asyncio.wait([before])
            try:
                await (self._start() if change["new"] else self._stop())
            except Exception as error:
                self.status.value = f"{type(error).__name__}: {error}"
                raise

        self._switching = asyncio.get_running_loop().create_task(switch())
        # `start` and `stop` raise it; after a click the status line has told it already.
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
            for task in self._tasks:
                if task.done():
                    task.result()  # raises what ended it
            return self.now if self.now and condition(self.now) else None

        return await poll(probe, seconds, what)

    # -- what runs meanwhile ------------------------------------------------------------------

    def _reset(self) -> None:
        self.now = {}
        self._published = self._paid = self._given_up = 0
        self._rows: deque[dict] = deque()
        self._begin = time.perf_counter()

    async def _start(self) -> None:
        if self._tasks:
            return
        await self._js.add_stream(name=STREAM, subjects=[SUBJECT])
        await self._js.purge_stream(STREAM)
        config = ConsumerConfig(durable_name=DURABLE, ack_wait=2, max_deliver=3)
        await self._js.add_consumer(STREAM, config)
        self._reset()
        self._halt = asyncio.Event()
        self._pool = Pool(self._work)
        self._tasks = [asyncio.create_task(task()) for task in (self._publish, self._manage, self._watch)]
        self.status.value = "running"

    async def _stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        self._halt.set()  # not cancelled: before Python 3.12 wait_for may swallow that
        if tasks:
            await asyncio.wait(tasks)
            await self._pool.close()
            self.status.value = "stopped"

    async def _publish(self) -> None:
        due = 0.0
        numbers = count(1)
        while not self._halt.is_set():
            if self.rate.value == 0:
                await asyncio.sleep(0.05)
                continue
            now = time.perf_counter()
            due = max(due + 1 / self.rate.value, now - 0.2)  # never make up for more than 0.2 s
            await asyncio.sleep(max(0.0, due - now))
            try:
                await self._js.publish(SUBJECT, str(next(numbers)).encode(), timeout=0.5)
                self._published += 1
            except QUIET:
                await asyncio.sleep(0.05)

    async def _manage(self) -> None:
        while not self._halt.is_set():
            await self._pool.resize(self.workers.value)
            await asyncio.sleep(0.05)

    async def _work(self, name: str, stop: asyncio.Event) -> None:
        worker = await self._js.pull_subscribe_bind(DURABLE, STREAM)
        try:
            while not stop.is_set():
                try:
                    messages = await worker.fetch(5, timeout=0.3)
                except QUIET:
                    await asyncio.sleep(0.02)
                    continue
                for msg in messages:
                    await asyncio.sleep(SERVICE)
                    if self._random.random() >= self.failures.value:
                        await msg.ack()
                        self._paid += 1
                    else:
                        await msg.nak(delay=0.2)
                        self._given_up += msg.metadata.num_delivered == 3
        finally:
            await worker.unsubscribe()

    async def _watch(self) -> None:
        while not self._halt.is_set():
            try:
                info = await self._js.consumer_info(STREAM, DURABLE, timeout=0.5)
            except QUIET:
                await asyncio.sleep(0.1)
                continue
            self.now = {
                "seconds": time.perf_counter() - self._begin,
                "published": self._published,
                "paid": self._paid,
                "given_up": self._given_up,
                "workers": len(self._pool),
                "pending": info.num_pending,
                "ack_pending": info.num_ack_pending,
                "redelivered": info.num_redelivered or 0,
            }
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
