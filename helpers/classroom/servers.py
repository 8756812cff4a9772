"""The class's four servers: they outlive the command that starts them, and end by the other."""

import asyncio
import itertools
import json
import os
import subprocess
from pathlib import Path

import nats
import psutil

from ..cluster.embedded import all_free, find_server, log_tail, running
from ..cluster.interface import ClusterError, get_json, poll, routed
from .folder import NODES, Class, Member

MONITOR, ROUTE = 4000, 2000  # above the clients' ports


def monitors(class_: Class) -> list[int]:
    """The ports of the monitoring pages, on 127.0.0.1 of this machine only."""
    return [class_.port + MONITOR + n for n in range(NODES)]


async def start(class_: Class) -> None:
    """Starts the four nodes, or tells those that run of new accounts; returns when a student can publish."""
    folder = class_.folder.resolve()
    if running(folder):
        for process in running(folder):
            await asyncio.to_thread(_reload, process)
    else:
        first = [class_.port, class_.port + MONITOR, class_.port + ROUTE]
        if not all_free([port + n for port in first for n in range(NODES)]):
            raise ClusterError(
                f"a port of {', '.join(f'{port}-{port + NODES - 1}' for port in first)} is taken: end the "
                "cluster that has it (`make cluster-down`, or a notebook's kernel), or choose with --port"
            )
        for n in range(NODES):
            _spawn(class_, folder, n)

    async def healthy() -> bool:
        pages = [await get_json(f"http://127.0.0.1:{port}/healthz") for port in monitors(class_)]
        return all(page and page.get("status") == "ok" for page in pages)

    async def all_routed() -> bool:  # while a route is missing, an account's requests and replies are lost
        ports = enumerate(monitors(class_), 1)
        pages = {f"nats-server-{n}": await get_json(f"http://127.0.0.1:{port}/routez") for n, port in ports}
        return routed(pages, itertools.permutations(pages, 2))

    nobody = (
        f"no student can publish at {class_.clients[0]}: NAME= must reach this machine. `make class-end`, "
        "and start it again with another NAME="
    )
    try:
        await poll(healthy, 40, "not every node is healthy")
        await poll(all_routed, 40, "not every two nodes have all their routes")
        await poll(lambda: accepts(class_, class_.members[-1]), 40, nobody)
    except ClusterError as error:
        raise ClusterError(f"{error}:\n{log_tail(folder)}") from None


def _reload(process: psutil.Process) -> None:
    server = find_server()
    subprocess.run([server, "--signal", f"reload={process.pid}"], check=True, capture_output=True)


def _spawn(class_: Class, folder: Path, n: int) -> None:
    name = f"nats-server-{n + 1}"
    routes = [f"nats://127.0.0.1:{class_.port + ROUTE + m}" for m in range(NODES) if m != n]
    environment = {
        "NODE": name,
        "ZONE": f"zone:{'ab'[n % 2]}",
        "CLIENT": f"{class_.listen}:{class_.port + n}",
        "ADVERTISE": f"{class_.host}:{class_.port + n}",
        "MONITOR": f"127.0.0.1:{class_.port + MONITOR + n}",
        "ROUTE": f"127.0.0.1:{class_.port + ROUTE + n}",
        "ROUTES": f"[{', '.join(routes)}]",
        "STORE": json.dumps(str(folder / name), ensure_ascii=False),
    }
    detached = (
        {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
        if os.name == "nt"
        else {"start_new_session": True}
    )
    with open(folder / f"{name}.log", "ab") as log:
        subprocess.Popen(
            [find_server(), "-c", str(folder / "class.conf"), "--pid", str(folder / f"{name}.pid")],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **detached,
        )


def options(class_: Class, user: str, password: str) -> dict:
    """Keyword arguments of `nats.connect` for one of the class, or for the instructor."""

    async def silent(error: Exception) -> None:
        pass

    more = {}
    if class_.tls:
        import ssl

        more["tls"] = ssl.create_default_context(cafile=class_.folder / "ca.pem")
    return {"servers": class_.clients, "user": user, "password": password, "error_cb": silent,
            "connect_timeout": 2, "max_reconnect_attempts": 3} | more  # fmt: skip


async def accepts(class_: Class, member: Member) -> bool:
    """Whether a stream of three replicas of this student's takes a message now."""
    try:
        async with await nats.connect(**options(class_, member.name, member.password)) as nc:
            js = nc.jetstream(domain="enterprise", timeout=1)
            await js.add_stream(name="CLASS_PROBE", subjects=["class.probe"], num_replicas=3)
            await js.publish("class.probe", b"")
            return await js.delete_stream("CLASS_PROBE")
    except (OSError, nats.errors.Error):  # a time-out is the first, a refusal of JetStream's the second
        return False


def end(folder: Path) -> int:
    """Ends the servers of this folder and returns how many there were; accounts and data stay."""
    processes = running(folder.resolve())
    for process in processes:
        process.terminate()
    for process in psutil.wait_procs(processes, timeout=20)[1]:
        process.kill()
    for file in folder.glob("*.pid"):
        file.unlink()
    return len(processes)
