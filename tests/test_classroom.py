"""A class on one cluster: nobody sees, fills or starves another; who is where; one student starts over."""

import asyncio
import csv
import os
import ssl
import stat
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nats.errors import NoRespondersError
from nats.js.errors import APIError, NotFoundError
from nbclient import NotebookClient
from programs import ELECTION

from conftest import kernel_manager
from helpers import check
from helpers.classroom import folder, report, room, servers
from helpers.cluster.embedded import free_ports
from helpers.cluster.interface import ClusterError
from helpers.lesson import retry

ROOT = Path(__file__).parents[1]
NAMED = {"Nats-Msg-Id": "one"}  # a publish that is tried again is stored once


def a_port() -> int:
    """One with room for the monitoring and route ports above it, below the system's own choices."""
    return 14_222 + free_ports(1)[0] % 2_000


def command(path: Path, *arguments: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "helpers.classroom", *arguments, "--folder", str(path / "class")]
    return subprocess.run(line, capture_output=True, text=True, encoding="utf-8", cwd=path)


@pytest.fixture(scope="module", params=["127.0.0.1", "0.0.0.0"], ids=["here", "TLS"])
def class_(request, tmp_path_factory):
    path, port = tmp_path_factory.mktemp("room"), a_port()
    more = [] if request.param == "127.0.0.1" else ["--host", "localhost"]
    begun = command(path, "start", "--students", "3", "--listen", request.param, "--port", str(port), *more)
    try:
        assert begun.returncode == 0, begun.stderr
        yield folder.load(path / "class")
    finally:
        ended = command(path, "end")
    assert ended.stdout.startswith("4 servers ended") and not servers.running(path / "class")


@asynccontextmanager
async def student(class_, number):
    member = class_.members[number]
    async with await nats.connect(**servers.options(class_, member.name, member.password)) as nc:
        # As programs.connected: who makes a stream may not have heard of a new connection's inbox yet, and
        # its answer to the first request of all is then lost.
        await retry(nc.jetstream(domain="enterprise", timeout=1).account_info)
        yield nc, nc.jetstream(domain="enterprise", timeout=ELECTION)


def test_nobody_sees_or_hears_another(class_):
    async def run():
        async with student(class_, 1) as (one, js_one), student(class_, 2) as (two, js_two):
            await js_one.add_stream(name="ORDERS", subjects=["orders.*"], num_replicas=3)
            await js_two.add_stream(name="ORDERS", subjects=["orders.*"], num_replicas=3)
            # A node may not have heard of the stream.
            await retry(lambda: js_one.publish("orders.new", b"mine", headers=NAMED))
            assert (await js_two.stream_info("ORDERS")).state.messages == 0
            heard = await two.subscribe(">")
            await one.publish("hello", b"")
            await one.flush()
            with pytest.raises(TimeoutError):
                await heard.next_msg(timeout=0.3)
            with pytest.raises(NoRespondersError):  # $SYS is the instructor's
                await one.request("$SYS.REQ.SERVER.PING", b"", timeout=0.3)

    asyncio.run(run())


def test_a_full_account_hears_why_and_fills_nobody_elses(class_):
    async def run():
        async with student(class_, 3) as (_, js), student(class_, 2) as (_, other):
            with pytest.raises(APIError, match="insufficient storage resources") as refused:
                await js.add_stream(name="HUGE", subjects=["huge"], max_bytes=3 * 2**30)
            assert refused.value.err_code == 10047
            with pytest.raises(APIError, match="maximum number of streams"):
                for n in range(61):
                    await js.add_stream(name=f"S{n}", subjects=[f"s{n}"], storage="memory")
            await other.add_stream(name="FREE", subjects=["free"], num_replicas=3)
            assert (await retry(lambda: other.publish("free", b"", headers=NAMED))).seq == 1

    asyncio.run(run())


def test_the_room_sees_who_is_where_and_resets_one(class_, monkeypatch):
    async def run():
        for number, outcome in ((1, "correct"), (2, "not yet")):
            monkeypatch.setenv("CLASS_URL", class_.report_url(class_.members[number]))
            monkeypatch.setenv("NATS_CA", str(class_.folder / "ca.pem"))
            report._connections.clear()

            @check.exercise
            async def patient(state=outcome):
                raise check.Outcome(state, "")

            await patient()
        assert await report.ask_for_help("lag") == "the instructor sees it"
        with pytest.raises(TimeoutError):  # nobody reports for another
            js = (await report._connection()).jetstream()
            await js.publish("class.student01.04.patient", b"{}", timeout=0.5)
        async with student(class_, 1) as (_, one), student(class_, 2) as (_, two):
            for js in (one, two):
                await js.add_stream(name="MINE", subjects=["mine"], num_replicas=3)
            seen = await room.Room(class_.folder).open()
            try:
                table = await seen.table()
                assert list(table.index) == ["student01", "student02", "student03"]
                assert list(table["test_classroom patient"]) == ["\u2713", "\u2026", ""]
                assert list(table["help"]) == ["", "lag", ""] and table.loc["student01", "connections"] >= 1
                await seen.reset("student01")
                assert list((await seen.table())["test_classroom patient"]) == ["", "\u2026", ""]
                with pytest.raises(ClusterError, match="no student 'nobody'"):
                    await seen.reset("nobody")
            finally:
                await seen.close()
            with pytest.raises(NotFoundError):
                await one.stream_info("MINE")
            assert (await two.stream_info("MINE")).state.messages == 0

    asyncio.run(run())


def test_the_instructors_notebook_runs(class_, monkeypatch):
    monkeypatch.setenv("CLASS_FOLDER", str(class_.folder))
    notebook = nbformat.read(ROOT / "notebooks" / "instructor.ipynb", as_version=4)
    stored = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in stored] == list(range(1, len(stored) + 1))
    kernel = kernel_manager(AsyncKernelManager, kernel_name="python3")
    ran = NotebookClient(notebook, kernel, timeout=60).execute(cleanup_kc=True)
    (table,) = (cell for cell in ran.cells if cell.source == "await room.table()")
    assert "student02" in table.outputs[0]["data"]["text/plain"]


def test_the_loss_of_the_class_stops_no_check(monkeypatch):
    monkeypatch.setenv("CLASS_URL", f"nats://student01-report:x@127.0.0.1:{free_ports(1)[0]}")

    @check.exercise
    async def any_check():
        return "it is"

    assert asyncio.run(any_check()).state == "correct"
    assert "nobody heard" in asyncio.run(report.ask_for_help())


def test_only_with_tls_beyond_this_machine(class_):
    async def run():
        _, address = class_.clients[0].split("://")
        nobody = {"connect_timeout": 2, "allow_reconnect": False, "max_reconnect_attempts": 1}
        trusts_nobody = ssl.create_default_context()
        with pytest.raises(Exception, match=r"certificate|authorization|Authorization"):
            await nats.connect(f"tls://{address}", tls=trusts_nobody, **nobody)

    if class_.tls:
        asyncio.run(run())
    assert class_.tls == (class_.listen != "127.0.0.1")
    assert class_.tls == ("tls {" in (class_.folder / "class.conf").read_text(encoding="utf-8"))


def test_a_second_start_keeps_the_accounts_and_only_the_owner_reads_them(class_):
    before = {member.name: member for member in class_.members}
    assert command(class_.folder.parent, "start", "--students", "4").returncode == 0
    after = folder.load(class_.folder)
    assert (after.tls, after.clients) == (class_.tls, class_.clients)
    assert after.tls == ("tls {" in (class_.folder / "class.conf").read_text(encoding="utf-8"))
    assert {m.name: m for m in after.members if m.name in before} == before and len(after.members) == 5
    with open(class_.folder / "handouts.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["student"] for row in rows] == [f"student{n:02}" for n in range(1, 5)]
    assert rows[0]["NATS_URL"] == after.url(after.members[1])
    config = (class_.folder / "accounts.conf").read_text(encoding="utf-8")
    assert not any(member.password in config for member in after.members)
    if os.name != "nt":
        for name in ("members.json", "handouts.csv", "handouts.html", "accounts.conf"):
            assert stat.S_IMODE((class_.folder / name).stat().st_mode) == 0o600, name


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--students", "0"], "1 to 200 students"),
        (["--listen", "classroom.example"], "is an address of this machine"),
    ],
)
def test_bad_input_is_told(arguments, told, tmp_path):
    done = command(tmp_path, "start", *arguments)
    assert done.returncode == 2 and told in done.stderr
    assert not (tmp_path / "class").exists()
