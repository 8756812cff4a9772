"""The compose backend: the containers of docker-compose.yaml, found by their labels through docker-py."""

import asyncio
import contextlib
import os
import shutil
import socket
from typing import TYPE_CHECKING

from .interface import Cluster, ClusterError, Node, Secret

if TYPE_CHECKING:  # importing docker takes 0.3 s, which a kernel without the cluster should not pay
    from docker import DockerClient
    from docker.models.containers import Container

NAME = "nats-enterprise-patterns"  # what .env tells Compose
PROJECT = os.environ.get("COMPOSE_PROJECT_NAME") or NAME
SERVICES = {f"nats-server-{i}": (f"route-{i}", f"198.51.100.1{i}") for i in range(1, 5)}  # alias, address
MONITORS = range(8222, 8226)
SOCKET = "/var/run/docker.sock"
SIGNALS = {"kill": "SIGKILL", "stop": "SIGTERM", "lame_duck": "SIGUSR2"}
WITHOUT_DOCKER = 'or go on without Docker: open_cluster("embedded") runs the same cluster as local processes'


def listening(wait: float = 0.1) -> bool:
    """Whether anybody listens where docker-compose.yaml publishes the monitoring pages."""
    for port in MONITORS:  # a refusal comes at once, but on Windows, which tries for seconds
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), wait):
            return True
    return False


def docker_here() -> bool:
    """Whether anything of Docker is on this machine: its socket, its command, or the address of one."""
    return bool(os.environ.get("DOCKER_HOST") or shutil.which("docker") or os.path.exists(SOCKET))


def connect() -> "DockerClient":
    """The engine of DOCKER_HOST or of Docker's current context; ClusterError says what is in the way."""
    import docker

    try:
        return docker.from_env()
    except docker.errors.DockerException as error:
        if not docker_here():
            problem = "Docker is missing: install Docker Desktop, or docker.io and docker-compose on Debian"
        elif "PermissionError" in str(error):
            problem = (
                "Docker runs, but this user is not permitted to use it: run `sudo usermod -aG docker $USER`, "
                "log in again"
            )
        else:
            problem = (
                f"Docker is not running ({error}): start Docker Desktop, or run `sudo systemctl start docker`"
            )
        raise ClusterError(f"{problem}; {WITHOUT_DOCKER}") from error


def find(client: "DockerClient") -> dict[str, dict]:
    """Each node's name and what the engine's list says of its container, by the labels Compose gave it."""
    labels = [f"com.docker.compose.project={PROJECT}", "com.docker.compose.oneoff=False"]
    entries = client.api.containers(all=True, filters={"label": labels})
    by_service = {entry["Labels"]["com.docker.compose.service"]: entry for entry in entries}
    return {name: by_service[name] for name in SERVICES if name in by_service}


def up() -> bool:
    """Whether the compose cluster runs. Takes milliseconds, and is silent, where there is no Docker."""
    if not (docker_here() and listening()):
        return False
    try:
        with contextlib.closing(connect()) as client:
            found = find(client)
    except ClusterError:
        return False
    return len(found) == len(SERVICES) and any(e["State"] == "running" for e in found.values())


def suits(size: int = 4, sync_interval: str = "2m", links: bool = True) -> bool:
    """Whether the compose cluster is what these settings of the embedded one ask for."""
    return size == len(SERVICES) and sync_interval == "2m"


class Compose(Cluster):
    """The cluster of `make cluster`. It outlives the kernel: `make cluster-down` ends it."""

    backend = "compose"
    nodes = tuple(
        Node(name, f"nats://127.0.0.1:{monitor - 4000}", f"http://127.0.0.1:{monitor}")
        for name, monitor in zip(SERVICES, MONITORS, strict=True)
    )

    def __init__(self) -> None:
        super().__init__()
        self._engine = connect()
        found = find(self._engine)
        missing = [name for name in SERVICES if name not in found]
        if missing:
            what = "is not up" if len(missing) == len(SERVICES) else f"lacks {', '.join(missing)}"
            self._engine.close()
            raise ClusterError(f"the compose cluster {what}: run `make cluster`, {WITHOUT_DOCKER}")
        environment = self._container(self.nodes[0].name).attrs["Config"]["Env"]
        password = next((entry for entry in environment if entry.startswith("PASSWORD=")), None)
        if password is None:
            self._engine.close()
            raise ClusterError(
                f"the containers are of an older docker-compose.yaml: run `make cluster`, {WITHOUT_DOCKER}"
            )
        self._password = Secret(password.partition("=")[2].strip('"'))

    def _container(self, name: str) -> "Container":
        # Looked up each time: `docker compose up` may have made another one since.
        found = find(self._engine)
        if name not in found:
            raise ClusterError(f"the container of {name} is gone: run `make cluster`")
        return self._engine.containers.get(found[name]["Id"])

    async def start(self) -> "Compose":
        await self.restore_all()  # an earlier kernel may have left a node paused, down or cut off
        return self

    async def states(self) -> dict[str, str]:
        found = await asyncio.to_thread(find, self._engine)
        engine = {name: found[name]["State"] if name in found else "removed" for name in SERVICES}
        return {name: s if s in ("running", "paused") else "down" for name, s in engine.items()}

    async def _signal(self, node: Node, kind: str) -> None:
        def act() -> None:
            container = self._container(node.name)
            if kind == "pause" and container.status == "running":
                container.pause()  # the freezer of its cgroup: what SIGSTOP does, for all in it
            elif kind == "resume" and container.status == "paused":
                container.unpause()
            elif kind in SIGNALS and container.status in ("running", "paused"):
                # Ended by a signal through the engine it stays down, in spite of `restart: unless-stopped`.
                container.kill(SIGNALS[kind])

        await asyncio.to_thread(act)

    async def _start(self, node: Node) -> None:
        await asyncio.to_thread(lambda: self._container(node.name).start())

    async def isolate(self, name: str) -> None:
        """Takes the node off the network of the routes: nothing passes, and nobody is told."""
        await asyncio.to_thread(self._on_routes, self.node(name).name, False)

    async def heal(self) -> None:
        """Puts every node that was cut off back on the network of the routes, as it was before."""
        for name in SERVICES:
            await asyncio.to_thread(self._on_routes, name, True)

    def _on_routes(self, name: str, wanted: bool) -> None:
        container, network = self._container(name), f"{PROJECT}_routes"
        if wanted != (network in container.attrs["NetworkSettings"]["Networks"]):
            routes = self._engine.networks.get(network)
            if wanted:
                alias, address = SERVICES[name]
                routes.connect(container, aliases=[alias], ipv4_address=address)
            else:
                routes.disconnect(container)

    async def close(self) -> None:
        """Lets go of the cluster, which runs on for the next notebook: `make cluster-down` ends it."""
        self.closed = True
        self._engine.close()
