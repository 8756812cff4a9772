"""What every backend of the cluster offers: nodes, readiness, faults, and errors that say what to do."""

import asyncio
import json
import urllib.request
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import nats
from nats.js.api import StorageType
from nats.js.errors import NotFoundError

ONE_TRY = {"allow_reconnect": False, "max_reconnect_attempts": 1}
ROUTES = 4  # between two nodes: a pool of three, the server's default, and one for the system account
ASSETS = "/jsz?accounts=true&streams=true&consumers=true"


class ClusterError(RuntimeError):
    """The cluster cannot do what was asked; the message names the cause and the repair."""


class FaultRefused(ClusterError):
    """This fault is not injected here: the servers are not the project's, or the system cannot."""


@dataclass(frozen=True)
class Node:
    """One server: its name, client URL, and monitoring URL (None where nobody published one)."""

    name: str
    url: str
    monitor: str | None


async def poll(probe: Callable[[], Awaitable], seconds: float, what: str, every: float = 0.02) -> Any:
    """The first truthy answer of `probe`; ClusterError(`what`) when none came in `seconds`."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    try:
        async with asyncio.timeout_at(deadline):  # for a probe that hangs
            while not (answer := await probe()):
                # Before Python 3.12 `asyncio.wait_for` inside a probe may swallow the time-out above.
                if clock() > deadline:
                    raise TimeoutError
                await asyncio.sleep(every)
            return answer
    except TimeoutError:
        if clock() < deadline:
            raise  # the probe's own
        raise ClusterError(f"{what} (waited {seconds:.0f} s)") from None


async def get_json(url: str, timeout: float = 1.0) -> dict | None:
    """A monitoring page as a dict, or None where nobody answers with JSON and status 200."""

    def get() -> dict | None:
        try:
            with urllib.request.urlopen(url, timeout=timeout) as response:
                return json.load(response)
        except (OSError, ValueError):  # refused, timed out, an HTTP error, half a reply
            return None

    return await asyncio.to_thread(get)


def _groups(jsz: dict) -> Iterator[dict]:
    """The Raft groups of a node's replicas, as its page at `ASSETS` tells of them."""
    for account in jsz.get("account_details") or []:
        for stream in account.get("stream_detail") or []:
            for asset in (stream, *(stream.get("consumer_detail") or [])):
                if "raft_group" in (asset.get("cluster") or {}):
                    yield asset["cluster"]


class Cluster(ABC):
    """A running cluster. Faults take a node's name and return when they have taken effect."""

    backend: str
    nodes: tuple[Node, ...]
    domain: str | None = None
    closed = False
    owned = True  # the project started the servers, and may break them and delete from them

    def __init__(self) -> None:
        self._paused: set[str] = set()
        self._leaving: set[str] = set()  # told to go, and perhaps not gone yet
        self._claimed: set[str] = set()

    # -- what a client needs ------------------------------------------------------------------

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments for `nats.connect`: every node, and reconnects quick enough for a lesson."""

        async def no_traceback(error: Exception) -> None:
            """Callbacks must not print: nats-py's default would print a traceback a lost socket."""

        return {
            "servers": self.urls,
            "error_cb": no_traceback,
            "connect_timeout": 0.5,
            "reconnect_time_wait": 0.05,
            # Some minutes of outage. Not -1: with that, nats-py's first connect never gives up either.
            "max_reconnect_attempts": 1000,
            "ping_interval": 1,
            "max_outstanding_pings": 2,
        }

    @property
    def operator_options(self) -> dict[str, Any]:
        """The same for the system account, which alone may ask `$SYS` and move the meta leader."""
        return self.options | {"user": "operator", "password": "operator"}

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise ClusterError(f"no node {name!r}: the nodes are {', '.join(n.name for n in self.nodes)}")

    def __repr__(self) -> str:
        return f"{len(self.nodes)} nodes, JetStream domain {self.domain}: " + ", ".join(
            node.name for node in self.nodes
        )

    # -- state --------------------------------------------------------------------------------

    @abstractmethod
    async def states(self) -> dict[str, str]:
        """Each node's name and what became of it: "running", "paused" or "down"."""

    async def wait_ready(self, timeout: float = 30) -> None:
        """Returns when every node is healthy and routed, and an R3 stream accepted a message."""
        nc = await poll(self._client, timeout, f"no node of {self.urls} lets a client in")
        js = nc.jetstream(domain=self.domain, timeout=0.3)
        # One name for all tries: one that timed out may have made the stream all the same.
        probe = "PROBE_" + nc._nuid.next().decode()
        try:
            await asyncio.gather(
                poll(lambda: self._accepts(js, probe), timeout, "no stream of three replicas could be made"),
                poll(self._healthy, timeout, "not every node reports healthy: see `states()`"),
                poll(self._routed, timeout, "not every two nodes have all their routes"),
                poll(self._agreed, timeout, "not every node knows the same meta leader"),
            )
            await poll(lambda: self._gone(js, probe), timeout, f"the stream {probe} cannot be deleted")
        except BaseException:  # not ready, or interrupted
            await self._gone(js, probe)
            raise
        finally:
            await nc.close()

    async def _client(self) -> nats.NATS | None:
        """A connection, or None where the node that was asked does not listen yet."""
        try:
            return await nats.connect(**self.options | ONE_TRY)
        except (OSError, nats.errors.Error):
            return None

    async def _accepts(self, js: nats.js.JetStreamContext, probe: str) -> bool:
        """Whether an R3 publish is acknowledged now; a request may well go to a node without a leader."""
        try:
            await js.add_stream(
                name=probe,
                subjects=[probe],
                num_replicas=min(3, len(self.nodes)),
                storage=StorageType.MEMORY,
            )
            await js.publish(probe, b"ready?")
        except Exception:
            return False  # the poll around this asks again, and has a limit
        return True

    async def _gone(self, js: nats.js.JetStreamContext, stream: str) -> bool:
        try:
            await js.delete_stream(stream)
        except NotFoundError:
            return True  # an earlier try, whose answer was lost, deleted it
        except nats.errors.Error:
            return False
        return True

    async def _healthy(self) -> bool:
        pages = [get_json(f"{node.monitor}/healthz") for node in self.nodes if node.monitor]
        return all(page and page.get("status") == "ok" for page in await asyncio.gather(*pages))

    def _peers(self, node: Node) -> int:
        """To how many other nodes it has routes."""
        return len(self.nodes) - 1

    async def _routed(self) -> bool:
        """Whether no route is missing between two nodes.

        Two that dial each other at the same moment may hang up on both connections as duplicates, and dial
        again a second later. An account has one of them; meanwhile its requests and replies are lost.
        """
        nodes = [node for node in self.nodes if node.monitor]
        pages = await asyncio.gather(*(get_json(f"{node.monitor}/routez") for node in nodes))
        counts = [Counter(route["remote_name"] for route in page["routes"]) for page in pages if page]
        return len(counts) == len(nodes) and all(
            len(count) == self._peers(node) and all(routes >= ROUTES for routes in count.values())
            for node, count in zip(nodes, counts, strict=True)
        )

    async def _agreed(self) -> bool:
        """Whether all nodes know one meta leader.

        A leader that was cut off leads on in its own eyes, and is healthy, until a packet of the others
        gets through; its clients meanwhile wait in vain, then hear a 503.
        """
        nodes = [node for node in self.nodes if node.monitor]
        pages = await asyncio.gather(*(get_json(f"{node.monitor}/jsz") for node in nodes))
        leaders = {page.get("meta_cluster", {}).get("leader") if page else "" for page in pages}
        return len(leaders) <= 1 and "" not in leaders

    async def caught_up(self, name: str | None = None, timeout: float = 30) -> None:
        """Returns when every replica (on node `name`) has what the leader of its stream or consumer has.

        `/healthz` does not tell: a restarted node is healthy before its leader has spoken to it, and so is a
        healed one that led before. Until then, for some seconds, such a node may answer for its stream with
        what it had (seen with 2.14.6). Groups without a leader are passed over.
        """
        behind = f"{name or 'a replica'} does not catch up with its leader"
        await poll(lambda: self._current(name), timeout, behind)

    async def _current(self, name: str | None) -> bool:
        nodes = [node for node in self.nodes if node.monitor]
        pages = await asyncio.gather(*(get_json(f"{node.monitor}{ASSETS}") for node in nodes))
        led = set()
        for node, page in zip(nodes, pages, strict=True):
            for group in _groups(page or {}):
                if group.get("leader") != node.name:
                    continue
                if group["raft_group"] in led:
                    return False  # two think they lead
                led.add(group["raft_group"])
                for peer in group.get("replicas") or []:
                    if name in (None, peer["name"]) and (not peer["current"] or peer.get("lag")):
                        return False
        return True

    # -- faults -------------------------------------------------------------------------------

    @abstractmethod
    async def _signal(self, node: Node, kind: str) -> None:
        """kill, stop, pause, resume or lame_duck, to the server process itself."""

    @abstractmethod
    async def _start(self, node: Node) -> None:
        """Starts a node that is down, with the data it had."""

    async def _down(self, name: str) -> bool:
        return (await self.states())[name] == "down"

    async def _leave(self, name: str, kind: str, seconds: float, otherwise: str) -> None:
        """Signals a node to go and waits until it is gone; `restore_all` waits for one interrupted here."""
        node = self.node(name)
        self._leaving.add(name)
        try:
            await asyncio.shield(self._signal(node, kind))
            await poll(lambda: self._down(name), seconds, otherwise)
        except Exception:  # refused, or it does not go; only the interrupt, no Exception, leaves it to others
            self._leaving.discard(name)
            raise
        self._leaving.discard(name)

    async def kill(self, name: str) -> None:
        """SIGKILL: the process is gone at once, nothing is flushed, nobody is told."""
        await self._leave(name, "kill", 10, f"{name} survived its kill")
        self._paused.discard(name)

    async def stop(self, name: str) -> None:
        """SIGTERM: the server hands its leaderships on and exits."""
        await self.resume(name)  # a paused process cannot act on a signal
        await self._leave(name, "stop", 20, f"{name} did not stop")

    async def lame_duck(self, name: str) -> None:
        """SIGUSR2: the server hands on its leaderships, asks its clients to leave, then exits."""
        await self.resume(name)
        await self._leave(name, "lame_duck", 60, f"{name} is still there")

    async def pause(self, name: str) -> None:
        """SIGSTOP: the process keeps its sockets and answers nothing, like a machine that hangs."""
        node = self.node(name)
        self._paused.add(name)  # first: a cell stopped in between must not forget it
        await self._signal(node, "pause")

    async def resume(self, name: str) -> None:
        """SIGCONT: a paused node goes on where it stood."""
        if name in self._paused:
            await self._signal(self.node(name), "resume")
            self._paused.discard(name)

    async def restart(self, name: str, timeout: float = 30) -> None:
        """Starts a node, after a graceful stop where it runs; waits until it is healthy and caught up."""
        node = self.node(name)
        if not await self._down(name):
            await self.stop(name)
        await self._start(node)
        await poll(lambda: self._answers(node), timeout, f"{name} is not healthy after its restart")
        await self.caught_up(name, timeout)

    async def _answers(self, node: Node) -> bool:
        page = await get_json(f"{node.monitor}/healthz")
        return bool(page and page.get("status") == "ok")

    async def isolate(self, name: str) -> None:
        """Cuts every route of a node to the others; its clients stay connected to it."""
        raise FaultRefused(f"the {self.backend} backend cannot cut routes")

    async def heal(self) -> None:
        """Restores every route that `isolate` cut."""

    async def restore_all(self, timeout: float = 30) -> None:
        """Heals, resumes and starts whatever is not running, and waits until all nodes are ready.

        A replica may still be catching up then: see `caught_up`.
        """
        await self.heal()
        for name in tuple(self._leaving):  # a cell was stopped while it waited for this node to go
            await self.resume(name)
            await poll(lambda name=name: self._down(name), timeout, f"{name} is still there")
            self._leaving.discard(name)
        for name, state in (await self.states()).items():
            if state == "paused":
                await self.resume(name)
            elif state == "down":
                await self._start(self.node(name))
        await self.wait_ready(timeout)

    # -- tidying up ---------------------------------------------------------------------------

    async def clear(self, js: nats.js.JetStreamContext, *streams: str) -> None:
        """Deletes these streams where they exist, so that a notebook can run again.

        On somebody else's cluster a stream that was there before this kernel is left alone:
        ClusterError names it.
        """
        for name in streams:
            try:
                if not self.owned and name not in self._claimed:
                    await js.stream_info(name)
                    raise ClusterError(
                        f"the stream {name} was here before this notebook, so it stays: use another "
                        f"account, unset NATS_URL, or delete it yourself with `nats stream rm {name}`"
                    )
                await js.delete_stream(name)
            except NotFoundError:
                pass
            self._claimed.add(name)

    async def close(self) -> None:
        """Ends what this backend started. The end of the kernel does the same."""
