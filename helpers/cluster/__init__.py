"""The cluster the notebooks run on: `open_cluster()` picks a backend and returns it ready."""

import asyncio
import os
from weakref import WeakKeyDictionary

from ..classroom import report
from . import compose
from .embedded import Embedded
from .external import External
from .interface import Cluster, ClusterError, FaultRefused, Node

__all__ = ["Cluster", "ClusterError", "FaultRefused", "Node", "open_cluster"]

_open: dict[tuple, Cluster] = {}
_heartbeats: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task] = WeakKeyDictionary()


async def _heartbeat() -> None:
    # The Stop button sets a flag that an idle event loop does not look at (ipykernel #881):
    # waking it five times a second makes an interrupted `await` end within a fraction of one.
    while True:
        await asyncio.sleep(0.2)


async def open_cluster(backend: str | None = None, **settings: object) -> Cluster:
    """The cluster of this kernel, ready: an R3 publish was accepted. Called again, the same one.

    `backend` is "external", "compose" or "embedded"; by default external where NATS_URL is set, compose
    where the cluster of `make cluster` runs, else embedded. `settings` go to the embedded backend:
    `Embedded(size=4, sync_interval="2m")`; those that the compose cluster does not suit choose it.
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
    key = (backend, *sorted(settings.items()))
    if key in _open and not (cluster := _open[key]).closed:
        await cluster.restore_all()
        return cluster
    if backend == "embedded":
        cluster = await Embedded(**settings).start()
    elif backend == "compose":
        cluster = await (await asyncio.to_thread(compose.Compose)).start()
    elif backend == "external":
        cluster = await External().start()
    else:
        raise ClusterError(f"no backend {backend!r}: embedded, compose or external")
    _open[key] = cluster
    if report.student():
        print(report.STATEMENT)
    return cluster
