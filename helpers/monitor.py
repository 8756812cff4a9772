"""What the servers say of themselves, as data frames; and a sampler over time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Self

import pandas as pd

from .cluster.interface import Cluster
from .lesson import end


async def nodes(cluster: Cluster) -> pd.DataFrame:
    """A row a node, by name; missing values where it does not answer.

    state ("running", "paused", "down"), healthy, meta_leader (booleans), connections, routes, streams
    (replicas held), memory and store (JetStream, bytes), api_errors (JetStream, since its start), and
    uptime (seconds since its start, by its own clock).
    """
    states, varz, jsz, healthz, routez = await asyncio.gather(
        cluster.states(), *(cluster.pages(path) for path in ("/varz", "/jsz", "/healthz", "/routez"))
    )
    rows = []
    for node in cluster.nodes:
        row = {"node": node.name, "state": states[node.name]}
        health = healthz[node.name]
        row["healthy"] = bool(health and health.get("status") == "ok")
        if (v := varz[node.name]) and (j := jsz[node.name]) and (r := routez[node.name]):
            row |= {
                "meta_leader": j.get("meta_cluster", {}).get("leader") == node.name,
                "connections": v["connections"],
                "routes": len({route["remote_name"] for route in r.get("routes") or []} - {""}),
                "streams": j["streams"],
                "memory": j["memory"],
                "store": j["storage"],
                "api_errors": j["api"]["errors"],
                "uptime": (pd.Timestamp(v["now"]) - pd.Timestamp(v["start"])).total_seconds(),
            }
        rows.append(row)
    return pd.DataFrame(rows).set_index("node")


async def message_counts(cluster: Cluster, stream: str) -> dict[str, int]:
    """How many messages of `stream` each node has on its own disk, leader or not; 0 where none."""
    pages = await cluster.pages("/jsz?accounts=true&streams=true")
    return {
        node.name: sum(
            detail["state"]["messages"]
            for account in (pages[node.name] or {}).get("account_details") or []
            for detail in account.get("stream_detail") or []
            if detail["name"] == stream
        )
        for node in cluster.nodes
    }


class Sampler:
    """Asks `probe` every `every` seconds while the `async with` block runs.

    `frame` then holds a row a sample: `seconds` since the start, and what the probe's mapping held.
    A probe that raises while a node is down leaves a gap, a row of missing values.
    """

    def __init__(self, probe: Callable[[], Awaitable[Mapping]], every: float = 0.1) -> None:
        self._probe, self._every = probe, every
        self._rows: list[dict] = []

    async def _sample(self) -> None:
        row = {"seconds": self.elapsed}
        try:
            row |= await self._probe()
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"
        self._rows.append(row)

    async def _run(self) -> None:
        while True:
            await self._sample()
            await asyncio.sleep(self._every)

    @property
    def elapsed(self) -> float:
        """Seconds since the sampling began."""
        return time.perf_counter() - self._start

    async def __aenter__(self) -> Self:
        self._start = time.perf_counter()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, error: type | None, *_: object) -> None:
        await end(self._task)
        if error is None:  # Stop does not wait for another answer
            await self._sample()  # the state in which the block ended

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self._rows)
