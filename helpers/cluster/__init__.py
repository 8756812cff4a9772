"""The cluster the notebooks run on: `open_cluster()` picks a backend and returns it ready."""

import asyncio
import os
from pathlib import Path
from weakref import WeakKeyDictionary

from ..classroom import report
from . import compose
from .embedded import Embedded
from .external import External
from .interface import Cluster, ClusterError, FaultRefused, Node
from .supercluster import Supercluster

__all__ = ["Cluster", "ClusterError", "FaultRefused", "Node", "open_cluster"]

BACKENDS = {kind.backend: kind for kind in (Embedded, compose.Compose, External, Supercluster)}
_open: dict[tuple, Cluster] = {}
_heartbeats: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task] = WeakKeyDictionary()


async def _heartbeat() -> None:
    # The Stop button sets a flag that an idle event loop does not look at (ipykernel #881):
    # waking it five times a second makes an interrupted `await` end within a fraction of one.
    while True:
        await asyncio.sleep(0.2)


def _end_left_over() -> None:
    """Cancels what a cell that was stopped left at work: tasks of its own functions, and PaymentService's.

    A worker that goes on would take the next section's orders.
    """
    ours = str(Path(__file__).parents[1] / "services.py")
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        file = getattr(getattr(task.get_coro(), "cr_code", None), "co_filename", "")
        if file == ours or f"ipykernel_{os.getpid()}" in file:
            task.cancel()


async def open_cluster(backend: str | None = None, **settings: object) -> Cluster:
    """The cluster of this kernel, ready: an R3 publish was accepted. Called again, the same one.

    `backend` is "external", "compose", "embedded" or "supercluster"; by default external where NATS_URL is
    set, compose where the cluster of `make cluster` runs, else embedded. `settings` go to the embedded
    backend: `Embedded(size=4, sync_interval="2m")`; all but `links` choose it.
    Raises ClusterError with the cause and the repair.
    """
    loop = asyncio.get_running_loop()
    if loop not in _heartbeats:
        _heartbeats[loop] = loop.create_task(_heartbeat())
    if backend is None:
        if os.environ.get("NATS_URL"):
            backend = "external"
        elif compose.suits(**settings) and await asyncio.to_thread(compose.up):
            backend = "compose"
        else:
            backend = "embedded"
    if backend not in BACKENDS:
        raise ClusterError(f"no backend {backend!r}: {', '.join(BACKENDS)}")
    key = (backend, *sorted(settings.items()))
    if key in _open and not (cluster := _open[key]).closed:
        _end_left_over()
        await cluster.restore_all()
        return cluster
    settings = settings if backend == "embedded" else {}
    _open[key] = await (await asyncio.to_thread(BACKENDS[backend], **settings)).start()
    if report.student():
        print(report.STATEMENT)
    return _open[key]
