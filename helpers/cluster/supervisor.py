"""The process that owns the servers of one kernel, and ends them when the kernel ends.

It holds the read end of a pipe from the kernel. However the kernel goes (shutdown, restart, SIGKILL),
the pipe closes, and the supervisor ends its servers and removes their directory. It runs in a session of
its own, so the Stop button's interrupt reaches neither it nor the servers. `atexit` could not do
this: a killed kernel runs no `atexit`. Killed itself, on Linux its servers die with it; what it leaves
elsewhere, and its directory, the next start sweeps.

It is started by path, not imported, and needs nothing but the standard library (and psutil to pause on
Windows), so that it is up in some 30 ms. Requests and replies are JSON, a line each:

    {"op": "spawn", "name": str, "argv": [str], "env": {str: str}}
    {"op": "signal", "name": str, "kind": "kill" | "stop" | "pause" | "resume" | "lame_duck"}
    {"op": "status"}                 -> {"exited": {name: exit code or null}}
    {"op": "link", "name": str, "target": "host:port", "delay": seconds, "hesitation": seconds}
                                     -> {"port": int}
    {"op": "tune", "names": [str], "cut": bool or null, "delay": seconds or null}
    {"op": "own", "paths": [str]}    remove these files at the end, too
    {"op": "wipe"}                   kill every server, close the links, empty the directory
"""

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


def pids(directory: str) -> list[int]:
    """The servers of this directory, by what they wrote at their start."""
    found = []
    for entry in os.scandir(directory):
        if entry.name.endswith(".pid"):
            with open(entry.path, encoding="ascii") as file:
                text = file.read().strip()
            found += [int(text)] if text.isdigit() else []
    return found


def forget(directory: str) -> None:
    """Removes the files elsewhere that belong to this directory's servers."""
    try:
        with open(os.path.join(directory, OWNED), encoding="utf-8") as file:
            for path in file.read().splitlines():
                os.unlink(path)
    except OSError:
        pass  # none, or gone already


class Supervisor:
    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix=PREFIX)
        self.mine = open(os.path.join(self.directory, LOCK), "w", encoding="ascii")
        lock(self.mine)
        self.tie = tied_to_this_process()
        self.servers: dict[str, subprocess.Popen] = {}
        self.links = None

    def spawn(self, name: str, argv: list[str], env: dict[str, str]) -> dict:
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
        return {"pid": self.servers[name].pid}

    def signal(self, name: str, kind: str) -> dict:
        server = self.servers[name]
        if server.poll() is not None:
            return {"running": False}
        if kind == "kill":
            server.kill()
            server.wait()
        elif kind == "stop":
            server.send_signal(signal.CTRL_BREAK_EVENT if WINDOWS else signal.SIGTERM)
        elif kind == "lame_duck":
            if WINDOWS:
                raise OSError("lame duck mode needs a POSIX signal, or a server run as a service")
            server.send_signal(signal.SIGUSR2)
        elif WINDOWS:
            import psutil  # has no signals, but suspends

            process = psutil.Process(server.pid)
            process.suspend() if kind == "pause" else process.resume()
        elif kind == "resume":
            server.send_signal(signal.SIGCONT)
        else:
            server.send_signal(signal.SIGSTOP)
            # On a busy machine some of its threads run on for a moment: it is paused when it says so.
            _, status = os.waitpid(server.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                server.returncode = os.waitstatus_to_exitcode(status)  # it ended instead; we took the news
                return {"running": False}
        return {"running": True}

    def status(self) -> dict:
        return {"exited": {name: server.poll() for name, server in self.servers.items()}}

    def link(self, name: str, target: str, delay: float = 0, hesitation: float = 0) -> dict:
        if self.links is None:  # asyncio would double the supervisor's start for a cluster without links
            sys.path.append(os.path.dirname(__file__))
            from proxy import Links

            self.links = Links()
        return {"port": self.links.add(name, target, delay, hesitation)}

    def tune(self, names: list[str], cut: bool | None = None, delay: float | None = None) -> dict:
        self.links.tune(names, cut, delay)
        return {}

    def own(self, paths: list[str]) -> dict:
        with open(os.path.join(self.directory, OWNED), "w", encoding="utf-8") as file:
            file.write("\n".join(paths))
        return {}

    def wipe(self) -> dict:
        for server in self.servers.values():
            server.kill()
        for server in self.servers.values():
            server.wait()
        self.servers.clear()
        if self.links:
            self.links.close()
        for entry in os.scandir(self.directory):
            if entry.is_dir():
                shutil.rmtree(entry.path, ignore_errors=True)
        return {}

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
                reply = getattr(supervisor, request.pop("op"))(**request)
            except Exception as error:  # the kernel raises it again, with what to do
                reply = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(reply), flush=True)
    except BrokenPipeError:
        pass  # the kernel went while a reply was on its way
    finally:
        supervisor.end()


if __name__ == "__main__":
    main()
