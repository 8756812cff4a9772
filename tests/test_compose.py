"""The compose cluster on a real Docker engine; and, without one, what the backend then says."""

import asyncio
import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
import yaml
from nats.js.errors import NotFoundError
from programs import ELECTION

import helpers.cluster
from helpers.cluster import ClusterError, open_cluster
from helpers.cluster import compose as backend
from helpers.cluster.embedded import free_ports
from helpers.cluster.interface import get_json, poll
from helpers.ledger import Ledger
from helpers.lesson import retry
from helpers.services import publish_with_retry

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0w]*.ipynb"))
FOUR = [f"nats-server-{i}" for i in range(1, 5)]


# -- without Docker -------------------------------------------------------------------------------


def definition() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yaml").read_text())


def test_every_port_is_published_on_loopback_only():
    ports = [port for service in definition()["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 4 * 2 + 6 * 2 + 3
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports), "two services want one port"


def test_the_file_and_the_backend_say_the_same():
    services = definition()["services"]
    assert f"COMPOSE_PROJECT_NAME={backend.NAME}\n" in (ROOT / ".env").read_text()
    for service, (alias, address) in backend.SERVICES.items():
        assert services[service]["networks"]["routes"] == {"aliases": [alias], "ipv4_address": address}
        assert services[service]["environment"]["NODE"] == service
    assert [f"127.0.0.1:{port}:8222" for port in backend.MONITORS] == [
        services[service]["ports"][1] for service in backend.SERVICES
    ]


def test_both_composes_can_read_the_file():
    """docker-compose 1.29 rejects a top-level `name`, and Compose v2 warns of a `version`."""
    assert not {"name", "version"} & definition().keys()


@pytest.fixture
def no_docker(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(backend, "SOCKET", str(tmp_path / "docker.sock"))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "NATS_URL"):
        monkeypatch.delenv(name, raising=False)


def test_the_look_is_silent_where_there_is_no_docker(no_docker, capfd):
    assert not backend.up()
    assert capfd.readouterr() == ("", "")


def test_the_look_does_not_import_docker_where_nobody_listens():
    """Importing it takes 0.3 s, which every kernel without the cluster would pay."""
    ports = free_ports(4)
    code = (
        "import sys; from helpers.cluster import compose; "
        f"compose.MONITORS = {ports}; print(compose.up(), 'docker' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"DOCKER_HOST": "tcp://127.0.0.1:1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "False False\n", done.stderr


def test_the_look_goes_on_where_somebody_else_listens(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{free_ports(1)[0]}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(backend, "MONITORS", [server.getsockname()[1]])
        assert backend.listening()
        assert not backend.up()


def refusal() -> str:
    with pytest.raises(ClusterError) as caught:
        asyncio.run(open_cluster("compose"))
    assert 'open_cluster("embedded")' in str(caught.value), "the error does not say how to go on"
    return str(caught.value)


def test_docker_is_missing(no_docker, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "")
    monkeypatch.setattr("docker.utils.utils.DEFAULT_UNIX_SOCKET", "http+unix:///nowhere/docker.sock")
    assert "Docker is missing: install" in refusal()


def test_docker_is_not_running(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    assert re.search("Docker is not running .*No such file.*systemctl start docker", refusal())
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{free_ports(1)[0]}")
    assert re.search("Docker is not running .*[Rr]efused", refusal())


@pytest.mark.skipif(os.name == "nt", reason="Windows has a named pipe instead")
def test_docker_is_not_permitted(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")

    def connect(self, *_):
        raise PermissionError(errno.EACCES, "Permission denied")  # what a foreign socket's file answers

    monkeypatch.setattr("docker.transport.unixconn.UnixHTTPConnection.connect", connect)
    assert "not permitted" in refusal() and "usermod -aG docker" in refusal()


def test_settings_that_it_does_not_suit_choose_local_processes():
    assert backend.suits() and backend.suits(size=4, links=True)
    assert not backend.suits(size=3) and not backend.suits(sync_interval="always")


# -- with Docker ----------------------------------------------------------------------------------

docker = pytest.mark.docker
# Of the tests' own, so that `down --volumes` at the end deletes no data of the learner's cluster.
PROJECT = "nats-enterprise-patterns-test"


class Project:
    """`docker compose`, else `docker-compose`, on the tests' project."""

    def __init__(self) -> None:
        plugin = ["docker", "compose"]
        asked = shutil.which("docker") and subprocess.run([*plugin, "version"], capture_output=True)
        self._command = plugin if asked and asked.returncode == 0 else ["docker-compose"]

    def __call__(self, *arguments: str) -> None:
        done = subprocess.run([*self._command, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join([*self._command, *arguments])}:\n{done.stderr}"

    def up(self, *services: str) -> None:
        self("up", "-d", *services)

    def down(self, *options: str) -> None:
        self("--profile", "supercluster", "down", "--remove-orphans", *options)


@pytest.fixture(scope="module")
def compose():
    """The four nodes in containers; afterwards everything of the tests' project is gone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "PROJECT", PROJECT)
        patch.setenv("COMPOSE_PROJECT_NAME", PROJECT)  # the kernels of notebooks inherit it
        project = Project()
        try:
            project.up()
            yield project
        finally:
            project.down("--volumes")


@asynccontextmanager
async def client(cluster, urls=None):
    nc = await nats.connect(**cluster.options | {"servers": urls or cluster.urls})
    try:
        yield nc, nc.jetstream(domain=cluster.domain, timeout=ELECTION)
    finally:
        await nc.close()


@asynccontextmanager
async def opened():
    helpers.cluster._open.clear()
    cluster = await open_cluster()
    assert cluster.backend == "compose"
    try:
        yield cluster
    finally:
        await cluster.restore_all()
        await cluster.close()


def labelled() -> dict:
    return {"label": f"com.docker.compose.project={PROJECT}"}


def health(compose, count: int) -> list[str]:
    """The containers' health, once none is starting any more."""
    client = backend.connect()
    deadline = time.monotonic() + 60
    while True:
        found = [c.attrs["State"]["Health"]["Status"] for c in client.containers.list(filters=labelled())]
        if (len(found) == count and "starting" not in found) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


@docker
def test_four_nodes_become_healthy_and_are_picked_up(compose):
    assert health(compose, 4) == ["healthy"] * 4

    async def run():
        async with opened() as cluster:
            assert [node.name for node in cluster.nodes] == FOUR
            assert cluster.urls == [f"nats://127.0.0.1:{port}" for port in range(4222, 4226)]
            for node in cluster.nodes:
                page = await get_json(f"{node.monitor}/varz")
                assert page["cluster"]["name"] == "nats-cluster" and page["jetstream"]["config"]["domain"]
                assert page["connect_urls"], "clients on this machine learn no address"
                assert all(re.fullmatch(r"127\.0\.0\.1:422[2-5]", url) for url in page["connect_urls"])

    asyncio.run(run())


@docker
def test_every_fault_takes_effect_and_restore_all_undoes_it(compose):
    async def run():
        async with opened() as cluster:
            name = "nats-server-3"
            for fault in ("kill", "stop", "lame_duck", "pause"):
                await getattr(cluster, fault)(name)
                await getattr(cluster, fault)(name)  # a second time changes nothing
                expected = "paused" if fault == "pause" else "down"
                assert (await cluster.states())[name] == expected, fault
                await cluster.restore_all()
                assert set((await cluster.states()).values()) == {"running"}, fault
            await cluster.pause(name)
            await cluster.resume(name)
            assert (await cluster.states())[name] == "running"
            await cluster.restart(name)
            assert (await cluster.states())[name] == "running"
            with pytest.raises(ClusterError, match=r"no node 'exporter'.*nats-server-1"):
                await cluster.kill("exporter")

    asyncio.run(run())


@docker
def test_what_a_former_kernel_left_is_repaired(compose):
    async def run():
        async with opened() as cluster:
            await cluster.kill("nats-server-1")
            await cluster.pause("nats-server-2")
            await cluster.isolate("nats-server-3")
        async with opened() as cluster:
            assert set((await cluster.states()).values()) == {"running"}

    asyncio.run(run())


@docker
@pytest.mark.parametrize("fault", ["kill", "pause", "isolate"])
def test_nothing_acked_is_lost_when_a_leader_fails(compose, fault):
    async def run():
        async with opened() as cluster, client(cluster) as (_, js):
            await cluster.delete_streams(js, "ORDERS")
            await js.add_stream(name="ORDERS", subjects=["orders"], num_replicas=3)
            leader = (await js.stream_info("ORDERS")).cluster.leader
            # A client on the isolated node would stay with it: this one uses the others.
            others = [node.url for node in cluster.nodes if node.name != leader]
            nc = await nats.connect(**cluster.options | {"servers": others})
            publisher, ledger = nc.jetstream(domain="enterprise"), Ledger()

            async def publish(first, last):
                for number in range(first, last):
                    ledger.sent.append(number)
                    await publish_with_retry(publisher, "orders", b"%d" % number, str(number))
                    ledger.acked.add(number)

            await publish(0, 200)
            publishing = asyncio.create_task(publish(200, 500))
            await getattr(cluster, fault)(leader)
            await publishing
            moved = (await publisher.stream_info("ORDERS")).cluster.leader
            assert moved != leader, "the fault hit nobody"
            await nc.close()
            await cluster.restore_all()

            replay = await js.subscribe("orders", ordered_consumer=True)
            found = [int((await replay.next_msg(timeout=30)).data) for _ in range(500)]
            await replay.unsubscribe()
            verdict = ledger.compare(found)
            assert str(verdict) == (
                "sent 500 = acked 500 = stored 500 · lost 0 · duplicated 0 · reordered 0"
            ), verdict
            await cluster.delete_streams(js, "ORDERS")

    asyncio.run(run())


@docker
def test_an_isolated_node_is_cut_off_and_keeps_its_clients(compose):
    async def run():
        async with opened() as cluster:
            alone = cluster.nodes[1]
            async with client(cluster, [n.url for n in cluster.nodes if n != alone]) as (nc, _):
                await cluster.isolate(alone.name)
                here = await nats.connect(**cluster.options | {"servers": [alone.url]})
                heard = await here.subscribe("across")
                await here.flush()
                await nc.publish("across", b"")
                await nc.flush()
                with pytest.raises(nats.errors.TimeoutError):
                    await heard.next_msg(timeout=1)
                await cluster.heal()

                async def crosses():
                    await nc.publish("across", b"healed")
                    try:
                        return await heard.next_msg(timeout=0.5)
                    except nats.errors.TimeoutError:
                        return None

                assert await poll(crosses, 60, "nothing crossed after the heal")
                await here.close()

    asyncio.run(run())


@docker
def test_a_meta_leader_that_was_cut_off_answers_once_all_is_restored(compose):
    async def leaders(cluster):
        pages = await asyncio.gather(*(get_json(f"{node.monitor}/jsz") for node in cluster.nodes))
        return [page["meta_cluster"].get("leader") for page in pages]

    async def run():
        async with opened() as cluster:
            old = (await leaders(cluster))[0]
            await cluster.isolate(old)

            async def another():
                found = set(await leaders(cluster))
                return old in found and len(found) == 2 and None not in found

            await poll(another, 30, "the others elected nobody")
            await cluster.restore_all()
            assert len(set(await leaders(cluster))) == 1
            async with client(cluster, [cluster.node(old).url]) as (nc, _):
                with pytest.raises(NotFoundError):  # what a meta leader says, and no time-out or 503
                    await nc.jetstream(domain=cluster.domain, timeout=0.5).stream_info("NOWHERE")

    asyncio.run(run())


@docker
def test_no_other_container_is_touched(compose):
    client = backend.connect()
    image = client.containers.list(filters=labelled())[0].image
    labels = {"com.docker.compose.project": "another", "com.docker.compose.service": "nats-server-1"}
    bystander = client.containers.run(
        image, entrypoint=["sleep"], command=["600"], labels=labels, detach=True
    )
    bystander.reload()
    try:

        async def run():
            async with opened() as cluster:
                for fault in ("kill", "pause", "isolate"):
                    await getattr(cluster, fault)("nats-server-1")
                    await cluster.restore_all()

        asyncio.run(run())
        started = bystander.attrs["State"]["StartedAt"]
        bystander.reload()
        assert (bystander.status, bystander.attrs["State"]["StartedAt"]) == ("running", started)
    finally:
        bystander.remove(force=True)


@docker
def test_two_regions_joined_by_gateways(compose):
    compose.up(*(f"{region}-{i}" for region in ("us-east", "eu-west") for i in (1, 2, 3)))

    async def run():
        learner = {"user": "learner", "password": os.environ.get("NATS_PASSWORD", "lessons")}
        east = await nats.connect("nats://127.0.0.1:4232", **learner)
        west = await nats.connect("nats://127.0.0.1:4242", **learner)
        try:
            assert east._server_info["cluster"] == "us-east" and west._server_info["cluster"] == "eu-west"

            async def answer(msg):
                await msg.respond(b"from eu-west")

            await west.subscribe("inventory.check", cb=answer)
            await west.flush()

            reply = await retry(lambda: east.request("inventory.check", b"", timeout=1), 60)
            assert reply.data == b"from eu-west"

            js = east.jetstream(domain="enterprise", timeout=ELECTION)

            async def add(**settings):
                try:
                    return await js.add_stream(**settings)
                except (TimeoutError, nats.errors.Error):
                    return None

            orders = dict(name="ORDERS", subjects=["orders"], num_replicas=3)
            await poll(lambda: add(**orders, placement=placed("us-east")), 60, "no stream in us-east")
            for number in range(100):
                await js.publish("orders", b"%d" % number)
            mirror = nats.js.api.StreamSource(name="ORDERS")
            await poll(
                lambda: add(name="MIRROR", mirror=mirror, num_replicas=3, placement=placed("eu-west")),
                60,
                "no mirror in eu-west",
            )

            async def complete():
                return (await js.stream_info("MIRROR")).state.messages == 100

            await poll(complete, 60, "the mirror did not catch up")
            info = await js.stream_info("MIRROR")
            assert info.cluster.leader.startswith("eu-west-")
            for peer in info.cluster.replicas:
                assert peer.name.startswith("eu-west-")
            for stream in ("MIRROR", "ORDERS"):
                await js.delete_stream(stream)
        finally:
            await east.close()
            await west.close()

    try:
        asyncio.run(run())
    finally:
        regions = [f"{region}-{i}" for region in ("us-east", "eu-west") for i in (1, 2, 3)]
        compose("rm", "--stop", "--force", *regions)


def placed(region: str) -> nats.js.api.Placement:
    return nats.js.api.Placement(cluster=region)


@docker
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_says_the_same_on_compose(compose, notebook):
    async def asked():
        pages = [await get_json(f"http://127.0.0.1:{port}/jsz") for port in backend.MONITORS]
        return sum(page["api"]["total"] for page in pages)

    before = asyncio.run(asked())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(notebook)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:]
    # Since a node that restarted counts from 0 again, a small number is all that can be asked for.
    assert asyncio.run(asked()) != before, "the notebook never spoke to this cluster"


@docker
def test_down_leaves_only_the_data_and_up_finds_it_again(compose):
    client_of_engine = backend.connect()

    async def store():
        async with opened() as cluster, client(cluster) as (_, js):
            await cluster.delete_streams(js, "KEPT")
            await js.add_stream(name="KEPT", subjects=["kept"], num_replicas=3)
            await cluster.known("KEPT")
            for _ in range(10):
                await js.publish("kept", b"")

    async def count():
        async with opened() as cluster, client(cluster) as (_, js):
            return (await retry(lambda: js.stream_info("KEPT"), 30)).state.messages

    asyncio.run(store())
    compose.down()
    assert not client_of_engine.containers.list(all=True, filters=labelled())
    assert not client_of_engine.networks.list(filters=labelled())
    assert client_of_engine.volumes.list(filters=labelled())
    compose.up()
    assert asyncio.run(count()) == 10
    compose.down("--volumes")
    assert not client_of_engine.volumes.list(filters=labelled())
    compose.up()
