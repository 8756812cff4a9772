"""Inventory Services as processes of their own, so that one can join, leave, or really be killed.

Each holds a pipe from the kernel and ends when it closes, however the kernel goes. This module is also the
process: it reads its settings as one line of JSON, says "ready", and waits for a word of `Team.leave`.
"""

import asyncio
import json
import os
import subprocess
import sys
from functools import partial

import nats

from .cluster import Cluster
from .cluster.external import External
from .lesson import retry
from .services import InventoryService

NAMES = ("inventory-1", "inventory-2", "inventory-3")
_last: list["Team"] = []  # the team of this kernel


class Team:
    """Processes by their names; `inventory-3` is a client of the third node, and so on around."""

    def __init__(self, cluster: Cluster, work: float) -> None:
        self._cluster, self._work = cluster, work
        self.processes: dict[str, subprocess.Popen] = {}

    async def add(self, *names: str) -> None:
        """Starts a service a name; returns when every node can reach them.

        Raises RuntimeError with what a process said that did not start.
        """
        for name in names:
            self._spawn(name)
        try:
            for name in names:
                said = (await asyncio.to_thread(self.processes[name].stdout.readline)).strip()
                if said != "ready":
                    raise RuntimeError(f"{name} did not start: {said or 'no word from it'}")
            await asyncio.gather(*(self._reached(url, names) for url in self._cluster.urls))
        except BaseException:
            self.close()
            raise

    def _spawn(self, name: str) -> None:
        from .orders import products  # not at the top: the process does without pandas, and starts at once

        options, urls = self._cluster.options, self._cluster.urls
        settings = {key: options[key] for key in ("user", "password") if isinstance(options.get(key), str)}
        settings["servers"] = [urls[(int(name.rpartition("-")[2]) - 1) % len(urls)]]
        shelf = {product.id: product.units_sold // 52 for product in products().values()}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,  # the Stop button interrupts the kernel's whole session
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same, on Windows
        )  # fmt: skip
        # Through the pipe: a password among a process's arguments is everybody's.
        print(json.dumps([name, shelf, self._work, settings]), file=process.stdin, flush=True)
        self.processes[name] = process

    async def _reached(self, url: str, names: tuple[str, ...]) -> None:
        """Returns when a client of this node reaches each: their interest travels from node to node."""
        async with await nats.connect(**self._cluster.options | {"servers": [url]}) as nc:
            for name in names:  # it subscribed to this subject last: where this is known, so is the other
                await retry(partial(nc.request, f"inventory.check.{name}", b'{"productId": ""}', timeout=5))

    async def leave(self, name: str, how: str) -> None:
        """Returns when the process has ended.

        "drain": takes no more requests, answers those it has, goes. "exit": closes its connection and goes,
        as a process does that was never told how to stop. "kill": SIGKILL, no word to anybody.
        """
        with self.processes.pop(name) as process:  # closes its pipes
            try:
                if how != "kill":
                    print(how, file=process.stdin, flush=True)
                    await asyncio.to_thread(process.wait, 30)
            finally:
                process.kill()

    def close(self) -> None:
        """Ends them all."""
        while self.processes:
            with self.processes.popitem()[1] as process:
                process.kill()


async def start(cluster: Cluster, *names: str, work: float = 0) -> Team:
    """A team of three, or of these names; the kernel's last team ends.

    Each request takes `work` seconds of waiting, as for a database, one at a time.
    """
    while _last:
        _last.pop().close()
    _last.append(team := Team(cluster, work))
    await team.add(*(names or NAMES))
    return team


async def serve(name: str, shelf: dict[str, int], work: float, settings: dict) -> None:
    """The process: answers until it is told to leave, or until the pipe closes."""

    async def no_traceback(error: Exception) -> None:
        pass

    options = External().options if os.environ.get("NATS_URL") else {}
    # nats-py 2.16 writes the PING of a flush, and so of a drain, ahead of what waits in its buffer; a
    # buffer of one byte never lets anything wait, so that the UNSUB of a drain goes first, as it must.
    own = {"name": name, "error_cb": no_traceback, "pending_size": 1, "connect_timeout": 2,
           "reconnect_time_wait": 0.05, "max_reconnect_attempts": 20}  # fmt: skip
    nc = await nats.connect(**options | settings | own)
    await InventoryService(name, shelf, work).start(nc)
    await nc.flush()
    print("ready", flush=True)
    how = (await asyncio.to_thread(sys.stdin.readline)).strip()
    if how:
        await (nc.drain() if how == "drain" else nc.close())
    # A pipe that closed without a word means that the kernel is gone; either way it is time to go.
    os._exit(0)


if __name__ == "__main__":
    try:
        asyncio.run(serve(*json.loads(sys.stdin.readline())))
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
