"""The embedded and the external backend: one interface, real processes, errors that say what to do."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import AsyncMock

import nats
import pytest
from nats.js.errors import NotFoundError
from programs import connected

import helpers.cluster
from helpers import monitor
from helpers.cluster import Cluster, ClusterError, FaultRefused, Node, open_cluster
from helpers.cluster.embedded import ATTEMPTS, Embedded, find_server, free_ports
from helpers.cluster.interface import get_json, poll
from helpers.ledger import Ledger
from helpers.lesson import retry
from helpers.services import publish_with_retry

ROOT = Path(__file__).parents[1]


@asynccontextmanager
async def embedded(**settings):
    cluster = await Embedded(**settings).start()
    try:
        yield cluster
    finally:
        await cluster.close()


@asynccontextmanager
async def client(cluster):
    nc, js = await connected(cluster)
    async with nc:
        yield nc, js


def test_four_nodes_as_the_mission_names_them():
    async def run():
        async with embedded() as cluster, client(cluster) as (_, js):
            assert [node.name for node in cluster.nodes] == [f"nats-server-{i}" for i in range(1, 5)]
            account = await js.account_info()
            assert account.domain == "enterprise"
            page = await get_json(f"{cluster.nodes[0].monitor}/varz")
            assert page["cluster"]["name"] == "nats-cluster"
            assert set(page["tags"]) == {"nats-server-1", "zone:a"}
            assert all("127.0.0.1" in url for url in cluster.urls)
            system = await nats.connect(**cluster.operator_options)
            answer = await system.request("$SYS.REQ.SERVER.PING", b"", timeout=2)
            assert b"nats-server-" in answer.data
            await system.close()
            assert not await js.streams_info(), "the readiness probe was left behind"
            with pytest.raises(ClusterError, match=r"run .Connect. again"):
                await cluster.delete_streams(system.jetstream(), "ORDERS")

    asyncio.run(run())


def test_everything_listens_on_loopback_only():
    async def run():
        async with embedded() as cluster:
            ours = set()
            for node in cluster.nodes:
                page = await get_json(f"{node.monitor}/varz")
                ours |= {page["port"], page["http_port"], page["cluster"]["cluster_port"]}
                assert page["host"] == page["cluster"]["addr"] == page["http_host"] == "127.0.0.1"
            assert len(ours) == 12

    asyncio.run(run())


def test_every_fault_takes_effect_and_restore_all_undoes_it():
    async def run():
        async with embedded() as cluster:
            name = "nats-server-3"
            faults = ["kill", "stop", "pause"] + ([] if os.name == "nt" else ["lame_duck"])
            for fault in faults:
                await getattr(cluster, fault)(name)
                if fault == "pause":
                    await cluster.pause(name)  # as by a second click: it is paused already
                expected = "paused" if fault == "pause" else "down"
                assert (await cluster.states())[name] == expected, fault
                await cluster.restore_all()
                assert set((await cluster.states()).values()) == {"running"}, fault
            await cluster.restart(name)
            await cluster._start(cluster.node(name))  # as by a second click
            assert set((await cluster.states()).values()) == {"running"}
            await cluster.kill(name)
            assert not await get_json(f"{cluster.node(name).monitor}/varz"), "one process was left"
            await cluster.restore_all()
            with pytest.raises(FaultRefused, match=r"open_cluster\(links=True\)"):
                await cluster.isolate(name)
            with pytest.raises(ClusterError, match=r"no node 'nats-server-9'.*nats-server-1"):
                await cluster.kill("nats-server-9")

    asyncio.run(run())


def test_a_kill_that_was_stopped_is_over_when_the_node_is_down():
    async def run():
        async with embedded(size=3) as cluster:
            name, down = "nats-server-2", cluster._down
            cluster._down = AsyncMock(return_value=False)  # as in the moment before it is
            killing = asyncio.create_task(cluster.kill(name))
            await poll(lambda: down(name), 10, f"{name} is still there")
            killing.cancel()
            again = asyncio.create_task(cluster.restore_all())
            await asyncio.wait([again], timeout=0.2)  # until it waits for the node
            again.cancel()
            await asyncio.wait([again])
            assert cluster._leaving, "Stop in Connect forgot the node that is leaving"
            with pytest.raises(ClusterError, match="told to go is still there"):
                await cluster.restore_all(0.1)
            cluster._down = down
            await poll(AsyncMock(side_effect=lambda: not cluster._leaving), 5, "it waits for ever")
            await cluster.restart(name)
            await cluster.restore_all()

    asyncio.run(run())


def test_stop_does_not_wait_for_what_a_sampler_asks():
    answered = []

    async def probe():
        await asyncio.sleep(5)
        answered.append(True)
        return {}

    async def run():
        async with monitor.Sampler(probe):
            await asyncio.sleep(0)
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(run())
    assert not answered


def test_a_probe_whose_answers_are_lost_is_not_left_behind():
    class Deaf(Embedded):
        tries = 0

        async def _accepts(self, js, probe):
            self.tries += 1
            return await super()._accepts(js, probe) and self.tries > 3

    async def run():
        cluster = await Deaf().start()
        try:
            async with client(cluster) as (_, js):
                assert cluster.tries > 3 and not await js.streams_info()
        finally:
            await cluster.close()

    asyncio.run(run())


def test_a_cluster_that_is_never_ready_says_what_is_missing(monkeypatch):
    monkeypatch.setattr("helpers.cluster.embedded.ATTEMPTS", 2)

    class Deaf(Embedded):
        first_election, grace = 20, 3  # so that nothing else is missing

        async def _routed(self):
            return False

    with pytest.raises(ClusterError, match=r"after 2 attempts, not every two nodes have all their routes"):
        asyncio.run(Deaf().start())


def test_a_missing_route_is_seen():
    async def run():
        async with embedded() as cluster:
            assert await cluster._routed()
            await cluster.kill("nats-server-3")
            assert not await cluster._routed()
            await cluster.restore_all()
            assert await cluster._routed()

    asyncio.run(run())


@pytest.mark.parametrize("how", ["restart", "restore_all"])
def test_a_restarted_node_has_caught_up(how):
    """`/healthz` alone says so before its leader has spoken to it: then it holds one message of 101.

    A cluster that is ready is not enough either: a consumer made then saw 79 of 160 (2 of 40 tries).
    """

    async def run():
        async with embedded() as cluster, client(cluster) as (_, js):
            await js.add_stream(name="ORDERS", subjects=["orders"], num_replicas=3)
            await publish_with_retry(js, "orders", b"", "0")
            leader = (await js.stream_info("ORDERS")).cluster.leader
            await cluster.kill(leader)
            for n in range(1, 101):
                await publish_with_retry(js, "orders", b"", str(n))
            if how == "restart":
                await cluster.restart(leader)
            else:
                cluster.wait_ready = AsyncMock()  # takes seconds, in which most replicas catch up
                await cluster.restore_all()
            assert (await monitor.message_counts(cluster, "ORDERS"))[leader] == 101

    asyncio.run(run())


def test_acked_messages_survive_the_death_of_all_four():
    async def run():
        async with embedded() as cluster, client(cluster) as (_, js):
            await js.add_stream(name="ORDERS", subjects=["orders"], num_replicas=3)
            ledger = Ledger()
            for n in range(200):
                ledger.sent.append(n)
                await publish_with_retry(js, "orders", b"", str(n))
                ledger.acked.add(n)
            await asyncio.gather(*(cluster.kill(node.name) for node in cluster.nodes))
            assert set((await cluster.states()).values()) == {"down"}
            await cluster.restore_all()
            sub = await retry(lambda: js.subscribe("orders", stream="ORDERS", ordered_consumer=True))
            # An ordered consumer that starts on a leader just elected is made anew after 10 s of silence.
            found = [await sub.next_msg(timeout=30) for _ in range(200)]
            verdict = ledger.compare(int(msg.headers["Nats-Msg-Id"]) for msg in found)
            assert (verdict.lost, verdict.duplicated, verdict.reordered, verdict.stored) == (0, 0, 0, 200)

    asyncio.run(run())


def test_where_no_node_runs_nobody_waits_long():
    async def run():
        cluster = Cluster()
        cluster.nodes = (Node("nats-server-1", f"nats://127.0.0.1:{free_ports(1)[0]}", None),)
        cluster.states = AsyncMock(return_value={"nats-server-1": "down"})
        with pytest.raises(ClusterError, match="no node is running"):
            await cluster.known("ORDERS")
        with pytest.raises(ClusterError, match=r"no node of .* lets a client in .waited 1 s"):
            await cluster.settled("ORDERS", "payment-processor", timeout=1)

    asyncio.run(run())


def test_opening_twice_gives_the_same_cluster_and_a_closed_one_is_replaced():
    async def run():
        first = await open_cluster("embedded", size=3)
        await first.kill("nats-server-2")
        assert await open_cluster("embedded", size=3) is first
        assert set((await first.states()).values()) == {"running"}, "the second call did not repair it"
        await first.close()
        with pytest.raises(ClusterError, match="closed"):
            await first.states()
        second = await open_cluster("embedded", size=3)
        assert second is not first
        await second.close()

    asyncio.run(run())


def test_the_cluster_is_ready_when_its_probe_is_forgotten():
    async def run():
        async with embedded(size=3) as cluster, client(cluster) as (_, js):
            assert await cluster._forgotten("PROBE_")  # what `wait_ready` made and deleted
            await js.add_stream(name="KEPT", subjects=["kept"], num_replicas=3)
            await cluster.known("KEPT")
            assert not await cluster._forgotten("KEPT")
            await cluster.kill(cluster.nodes[0].name)
            assert not await cluster._forgotten("PROBE_")  # a node that does not answer

    asyncio.run(run())


def test_mission_ports_where_free_others_where_not(monkeypatch):
    assert Embedded.first_ports == (4222, 8222)
    # Others for this process: a cluster of another test may have those, and a class 14,222 to 20,225.
    first = 10_000 + os.getpid() % 1_000 * 4
    monkeypatch.setattr(Embedded, "first_ports", (first, first + 12_000))
    usual = [f"nats://127.0.0.1:{first + n}" for n in range(3)]

    async def urls():
        async with embedded(size=3) as cluster:
            return cluster.urls

    assert asyncio.run(urls()) == usual
    with socket.socket() as taken:
        # Without the option, the closed connections of the first cluster make the port look taken.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name != "nt")
        taken.bind(("127.0.0.1", first + 2))
        taken.listen()
        assert not set(usual) & set(asyncio.run(urls()))


def test_a_port_taken_between_the_look_and_the_start_costs_one_attempt(monkeypatch):
    """The race of two notebooks started together: `all_free` still says yes."""
    with socket.socket() as taken:
        port = free_ports(1)[0]
        taken.bind(("127.0.0.1", port))
        taken.listen()
        tried = []

        def ports(count):
            tried.append(count)
            fresh = free_ports(count)
            return [port, *fresh[1:]] if len(tried) == 1 else fresh

        monkeypatch.setattr("helpers.cluster.embedded.all_free", lambda _: False)
        monkeypatch.setattr("helpers.cluster.embedded.free_ports", ports)

        async def run():
            async with embedded(size=3) as cluster:
                assert str(port) not in "".join(cluster.urls)

        asyncio.run(run())
        assert 2 <= len(tried) <= ATTEMPTS


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_has_no_part_in_it(name, monkeypatch):
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8,127.0.0.0/8")

    async def run():
        async with embedded(size=3) as cluster:
            assert await get_json(f"{cluster.nodes[0].monitor}/varz")

    asyncio.run(run())


def test_a_directory_of_many_alphabets(tmp_path, monkeypatch):
    home = tmp_path / "Zoë Ünal 李雷 'quoted' \"twice\""
    home.mkdir()
    monkeypatch.setenv("TMPDIR", str(home))

    async def run():
        async with embedded(size=3) as cluster, client(cluster) as (_, js):
            assert cluster._supervisor.directory.parent == home
            await js.add_stream(name="ORDERS", subjects=["orders"])
            await cluster.known("ORDERS")
            await js.publish("orders", b"one")

    asyncio.run(run())


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", b"half"])
def test_a_server_that_dies_in_mid_reply_has_no_page(said):
    async def run():
        async def hang_up(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            assert await get_json(f"http://127.0.0.1:{port}/varz") is None

    asyncio.run(run())


def test_no_nats_server_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr("helpers.cluster.embedded.shutil.which", lambda *_, **__: None)
    with pytest.raises(ClusterError, match="make install"):
        find_server()


def test_a_server_that_cannot_start_shows_its_own_words_and_leaves_nothing(monkeypatch, tmp_path):
    broken = tmp_path / "nats.conf"
    broken.write_text("jetstream { no_such_option: 1 }")
    monkeypatch.setattr(Embedded, "config", broken)
    cluster = Embedded(size=3)
    directory = cluster._supervisor.directory
    with pytest.raises(ClusterError, match="no_such_option"):
        asyncio.run(cluster.start())
    assert not directory.exists()


def test_an_old_python_is_told_so():
    source = (ROOT / "helpers" / "__init__.py").read_text(encoding="utf-8")
    code = f"import sys; sys.version_info = (3, 9, 1); sys.version = '3.9.1 (old)'\n{source}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search(r"need Python 3\.11 or newer, this .* 3\.9\.1.*make lab", done.stderr)


# -- somebody else's cluster ----------------------------------------------------------------------


def known_there(cluster):
    """Its first URL with the learner's name and password."""
    return cluster.urls[0].replace("://", f"://learner:{cluster._password}@")


def test_external_is_used_and_never_harmed(monkeypatch):
    async def run():
        async with embedded() as theirs, client(theirs) as (_, js):
            await js.add_stream(name="ORDERS", subjects=["theirs"])
            await publish_with_retry(js, "theirs", b"", "1")
            monkeypatch.setenv("NATS_URL", known_there(theirs))
            cluster = await open_cluster()
            assert cluster.backend == "external" and cluster.domain == "enterprise"
            for fault in ("kill", "stop", "pause", "restart", "lame_duck", "isolate"):
                with pytest.raises(FaultRefused, match="somebody else's"):
                    await getattr(cluster, fault)(cluster.nodes[0].name)
            with pytest.raises(FaultRefused, match="monitoring pages"):
                await monitor.message_counts(cluster, "ORDERS")
            with pytest.raises(ClusterError, match="ORDERS: here before"):
                await cluster.delete_streams(js, "ORDERS")
            assert (await js.stream_info("ORDERS")).state.messages == 1
            await cluster.delete_streams(js, "STREAMS")
            await js.add_stream(name="STREAMS", subjects=["ours"])
            await cluster.delete_streams(js, "STREAMS")
            with pytest.raises(NotFoundError):
                await js.stream_info("STREAMS")
            assert set((await theirs.states()).values()) == {"running"}
            helpers.cluster._open.clear()

    asyncio.run(run())


@asynccontextmanager
async def lone_server(*arguments):
    port = free_ports(1)[0]
    server = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [find_server(), "-a", "127.0.0.1", "-p", str(port), *arguments], stderr=subprocess.DEVNULL
    )
    try:
        url = f"nats://127.0.0.1:{port}"

        async def answers():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return True
            except OSError:
                return False

        await poll(answers, 10, f"{url} does not answer")
        yield url
    finally:
        server.terminate()
        server.wait()


def test_one_server_is_no_cluster():
    with pytest.raises(ClusterError, match=r"1 is no cluster: .* size=2"):
        asyncio.run(open_cluster("embedded", size=1))
