"""The process that owns the servers of one kernel, and ends them when the kernel ends.

It holds the read end of a pipe from the kernel. However the kernel goes (shutdown, restart, SIGKILL),
the pipe closes, and the supervisor ends its servers and removes their directory. It runs in a session of
its own, so the Stop button's interrupt reaches neither it nor the servers. `atexit` could not do
this: a killed kernel runs no `atexit`. Killed itself, on Linux its servers die with it; what it leaves
elsewhere, and its directory, the next start sweeps.

It is started by path, not imported, and needs nothing but the standard library (and psutil to pause on
Windows), so that it is up in some 30 ms. Requests and replies are JSON, a line each: a request is `op`, a
method of `Supervisor`, with its arguments.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import IO

WINDOWS = os.name == "nt"
PREFIX, LOCK, OWNED = "nats-lessons-", "supervisor.lock", "owned"

SIGNALS = {
    "kill": "SIGKILL",
    "stop": "SIGTERM",
    "lame_duck": "SIGUSR2",
    "pause": "SIGSTOP",
    "resume": "SIGCONT",
}


def tied_to_this_process() -> Callable[[], None] | None:
    """For a child of Linux, before it becomes a server: killed when this process dies, however it dies."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes  # here, not in the child, where little may be done

    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def tie() -> None:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, see prctl(2)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return tie


def lock(file: IO) -> bool:
    """Takes the lock of a supervisor's directory: held until the process ends, however it ends."""
    try:
        if WINDOWS:
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def forget(directory: str) -> None:
    """Removes the files elsewhere that belong to this directory's servers."""
    try:
        with open(os.path.join(directory, OWNED), encoding="utf-8") as file:
            paths = file.read().splitlines()
    except OSError:
        return  # none
    for path in paths:
        with contextlib.suppress(OSError):  # gone already
            os.unlink(path)


class Supervisor:
    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix=PREFIX)
        self.mine = open(os.path.join(self.directory, LOCK), "w", encoding="ascii")
        lock(self.mine)
        self.tie = tied_to_this_process()
        self.servers: dict[str, subprocess.Popen] = {}
        self.paused: set[str] = set()
        self.links = None

    def spawn(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        if name in self.servers and self.servers[name].poll() is None:
            return  # somebody else was quicker, as the first click of two
        self.paused.discard(name)
        with open(os.path.join(self.directory, f"{name}.log"), "ab") as log:
            self.servers[name] = subprocess.Popen(
                [*argv, "--pid", os.path.join(self.directory, f"{name}.pid")],
                env=os.environ | env,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self.tie,
                # Windows delivers CTRL_BREAK, its graceful stop, to a process group only.
                creationflags=subprocess.CREATE_NEW_PROCESS_GROUP if WINDOWS else 0,
            )

    def signal(self, name: str, kind: str) -> None:
        server = self.servers[name]
        if server.poll() is not None or (kind == "pause" and name in self.paused):
            return
        if not WINDOWS:
            server.send_signal(getattr(signal, SIGNALS[kind]))
        elif kind == "kill":
            server.kill()
        elif kind == "stop":
            server.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            import psutil  # has no signals, but suspends

            getattr(psutil.Process(server.pid), "suspend" if kind == "pause" else "resume")()
        if kind == "pause" and not WINDOWS:
            # On a busy machine some of its threads run on for a moment: it is paused when it says so.
            _, status = os.waitpid(server.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                server.returncode = os.waitstatus_to_exitcode(status)  # it ended instead; we took the news
        if kind == "pause":
            self.paused.add(name)
        elif kind in ("resume", "kill"):
            self.paused.discard(name)

    def status(self) -> dict:
        return {
            name: "down" if server.poll() is not None else "paused" if name in self.paused else "running"
            for name, server in self.servers.items()
        }

    def link(self, name: str, target: str, delay: float = 0, hesitation: float = 0) -> dict:
        if self.links is None:  # asyncio would double the supervisor's start for a cluster without links
            sys.path.append(os.path.dirname(__file__))
            from proxy import Links

            self.links = Links()
        return {"port": self.links.run("add", name, target, delay, hesitation)}

    def tune(self, names: list[str], cut: bool | None = None, delay: float | None = None) -> None:
        self.links.run("tune", names, cut, delay)

    def own(self, files: dict[str, str]) -> None:
        with open(os.path.join(self.directory, OWNED), "w", encoding="utf-8") as file:
            file.write("\n".join(files))
        for path, text in files.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if os.path.lexists(path):
                os.unlink(path)  # an older one may be readable by others
            with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(text)

    def wipe(self) -> None:
        for server in self.servers.values():
            server.kill()
        for server in self.servers.values():
            server.wait()
        self.servers.clear()
        if self.links:
            self.links.run("close")
        for entry in os.scandir(self.directory):
            if entry.is_dir():
                shutil.rmtree(entry.path, ignore_errors=True)

    def end(self) -> None:
        self.wipe()
        forget(self.directory)
        self.mine.close()  # Windows removes no file that is open
        shutil.rmtree(self.directory, ignore_errors=True)


def main() -> None:
    # Ending this process politely must end the servers too; SystemExit unwinds to `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if not WINDOWS:  # a terminal that is closed
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor = Supervisor()
    try:
        print(json.dumps({"directory": supervisor.directory}), flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                reply = getattr(supervisor, request.pop("op"))(**request) or {}
            except Exception as error:  # the kernel raises it again, with what to do
                reply = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(reply), flush=True)
    except BrokenPipeError:
        pass  # the kernel went while a reply was on its way
    finally:
        supervisor.end()


if __name__ == "__main__":
    main()
