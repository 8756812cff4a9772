"""The cluster belongs to the kernel: it survives Stop, and ends with the kernel however the kernel ends."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import nbval.kernel
import psutil
import pytest

from helpers.cluster import supervisor
from helpers.cluster.embedded import find_server, sweep

ROOT = Path(__file__).parents[1]
OPEN = """
import asyncio, json, nats
from helpers.cluster import open_cluster
cluster = await open_cluster()
supervisor = cluster._supervisor._process.pid
print(json.dumps({
    "supervisor": supervisor, "directory": str(cluster._supervisor.directory), "urls": cluster.urls,
}))
"""


@pytest.fixture(autouse=True)
def a_folder_of_its_own(tmp_path, monkeypatch):
    """Else a cluster of a test beside this one sweeps the directories whose end is looked at here."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


class Kernel:
    """A real kernel, as JupyterLab and nbval start it, in the notebooks' folder."""

    def __init__(self):
        self.manager = nbval.kernel.KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(ROOT / "notebooks"))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code, timeout=60):
        """What the code prints; raises what it raised as a RuntimeError of its name and text."""
        return self.result(self.client.execute(code), timeout)

    def result(self, request, timeout=60):
        text = []
        deadline = time.monotonic() + timeout
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"no end of the cell in {timeout} s") from None
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                text.append(content["text"])
            elif message["msg_type"] == "error":
                raise RuntimeError(f"{content['ename']}: {content['evalue']}")
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return "".join(text)

    def open_cluster(self):
        return Owned(json.loads(self.run(OPEN)))

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


class Owned:
    """The processes and the directory that must go with their kernel; the ports go with the processes."""

    def __init__(self, described):
        self.urls = described["urls"]
        self.directory = Path(described["directory"])
        supervisor = psutil.Process(described["supervisor"])
        self.processes = [supervisor, *supervisor.children()]
        assert len(self.processes) == 5 and self.alive() == 5 == 1 + len(self.servers())

    def alive(self):
        return sum(map(alive, self.processes))

    def servers(self):
        """The servers of this directory, also those started later. Not who listens on the ports: on
        ports that are free again, another cluster starts."""
        found = psutil.process_iter(["pid", "cmdline"])
        return [p.pid for p in found if str(self.directory) in " ".join(p.info["cmdline"] or [])]

    def left(self):
        return {
            name: what
            for name, what in (
                ("processes", self.alive()),
                ("servers", self.servers()),
                ("directory", self.directory.exists()),
            )
            if what
        }

    def gone(self, limit=15):
        deadline = time.monotonic() + limit
        while (left := self.left()) and time.monotonic() < deadline:
            psutil.wait_procs(self.processes, timeout=0.1)
        return not left or pytest.fail(f"left behind after {limit} s: {left}")


@contextmanager
def kernel():
    running = Kernel()
    try:
        yield running
    finally:
        running.end()


def interrupt_when_waiting(running, code):
    """Starts a cell, presses Stop once it prints, and returns when it has ended."""
    request = running.client.execute(code, stop_on_error=False)
    while True:
        message = running.client.get_iopub_msg(timeout=20)
        if message["parent_header"].get("msg_id") == request and message["msg_type"] == "stream":
            break
    running.manager.interrupt_kernel()
    return running.result(request, timeout=5)


def test_stop_ends_an_idle_await_and_leaves_the_cluster_alone():
    with kernel() as running:
        owned = running.open_cluster()
        with pytest.raises(RuntimeError, match=r"KeyboardInterrupt|CancelledError"):
            interrupt_when_waiting(running, "print('waiting'); await asyncio.Event().wait()")
        again = running.open_cluster()
        assert again.urls == owned.urls and owned.alive() == 5


def test_workers_that_a_stopped_cell_left_end_when_connect_runs_again():
    work = "async def work():\n    await asyncio.Event().wait()\ntask = asyncio.create_task(work())\n"
    with kernel() as running:
        running.open_cluster()
        with pytest.raises(RuntimeError, match=r"KeyboardInterrupt|CancelledError"):
            interrupt_when_waiting(running, f"{work}print('waiting')\nawait asyncio.Event().wait()")
        assert running.run("print(task.done())") == "False\n"
        running.open_cluster()
        assert running.run("print(task.cancelled())") == "True\n"


def test_stop_in_the_middle_of_a_fault_loses_no_reply():
    with kernel() as running:
        owned = running.open_cluster()
        with pytest.raises(RuntimeError, match=r"KeyboardInterrupt|CancelledError"):
            interrupt_when_waiting(
                running,
                "print('waiting')\nwhile True:\n    await cluster.pause('nats-server-1')\n"
                "    await cluster.resume('nats-server-1')",
            )
        running.run("await cluster.restore_all()")
        states = json.loads(running.run("print(json.dumps(await cluster.states()))"))
        assert set(states.values()) == {"running"} and owned.alive() == 5


@pytest.mark.parametrize("end", ["shutdown", "restart", "sigkill"])
def test_nothing_is_left_when_the_kernel_ends(end):
    with kernel() as running:
        owned = running.open_cluster()
        running.run("await cluster.pause('nats-server-2'); await cluster.kill('nats-server-3')")
        if end == "shutdown":
            running.manager.shutdown_kernel()
        elif end == "restart":
            running.manager.restart_kernel()
        else:
            psutil.Process(running.manager.provisioner.pid).kill()
        assert owned.gone()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signals")
@pytest.mark.parametrize("word", ["SIGTERM", "SIGHUP"])  # a terminal that is closed sends the second
def test_nothing_is_left_when_the_guard_is_asked_to_end(word):
    with kernel() as running:
        owned = running.open_cluster()
        owned.processes[0].send_signal(getattr(signal, word))
        assert owned.gone()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the next start ends them")
def test_servers_die_with_their_guard_and_the_next_start_sweeps_its_directory():
    with kernel() as running:
        owned = running.open_cluster()
        owned.processes[0].kill()
        assert not psutil.wait_procs(owned.processes[1:], timeout=10)[1]
        with pytest.raises(RuntimeError, match=r"ClusterError.*restart the kernel"):
            running.run("await cluster.states()")
        assert owned.left() == {"directory": True}
        with kernel() as other:
            other.open_cluster()  # on the ports that are free again
            assert not owned.directory.exists()


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_servers_that_outlived_their_guard_are_ended_by_the_next_start(tmp_path, monkeypatch):
    """As where the system does not tie them to it: what a supervisor leaves, made by hand."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{supervisor.PREFIX}x"
    left.mkdir()
    (left / supervisor.LOCK).touch()
    (left / "nats-server-1.log").touch()
    pid = left / "nats-server-1.pid"
    server = subprocess.Popen(
        [find_server(), "-a", "127.0.0.1", "-p", "-1", "--pid", str(pid)], stderr=subprocess.DEVNULL
    )
    other = tmp_path / f"{supervisor.PREFIX}y"  # a supervisor that lives
    other.mkdir()
    (other / "nats-server-1.log").touch()
    with open(other / supervisor.LOCK, "w") as held:
        assert supervisor.lock(held)
        while not (pid.exists() and pid.read_text()):
            assert server.poll() is None
        sweep()
    assert not psutil.pid_exists(server.pid) and not left.exists() and other.exists()
    server.wait()


@pytest.mark.skipif(os.name == "nt", reason="there are no user numbers")
def test_what_another_user_left_is_not_swept_and_of_ours_all(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, gone, kept = tmp_path / f"{supervisor.PREFIX}x", tmp_path / "gone", tmp_path / "kept"
    left.mkdir()
    kept.touch()
    for name in (supervisor.LOCK, "nats-server-1.log"):
        (left / name).touch()
    (left / supervisor.OWNED).write_text(f"{gone}\n{kept}")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 4711)
        sweep()
    assert kept.exists() and left.exists()
    sweep()
    assert not kept.exists() and not left.exists()


def test_two_notebooks_do_not_disturb_each_other():
    with kernel() as one, kernel() as two:
        first, second = one.open_cluster(), two.open_cluster()
        assert not set(first.urls) & set(second.urls)
        one.run("nc = await nats.connect(**cluster.options); js = nc.jetstream(timeout=10)")
        one.run("await js.add_stream(name='ORDERS', subjects=['orders'], num_replicas=3)")
        two.run("nc = await nats.connect(**cluster.options); js = nc.jetstream()")
        assert two.run("print(len(await js.streams_info()))") == "0\n"
        one.end()
        assert first.gone() and second.alive() == 5
