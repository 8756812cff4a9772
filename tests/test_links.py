"""Links: a partition that is one, a WAN that is felt, and a way back from any interrupted fault."""

import asyncio
import statistics
import time
from contextlib import asynccontextmanager

import nats
import pytest
from nats.js.api import Placement
from programs import ELECTION, connected

from helpers import monitor
from helpers.cluster.embedded import Embedded
from helpers.cluster.interface import ClusterError, get_json, poll
from helpers.cluster.supercluster import Supercluster
from helpers.lesson import retry
from helpers.services import publish_with_retry


@asynccontextmanager
async def started(cluster):
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.close()


def test_every_route_goes_through_a_link():
    """One route around the links, and no partition would be one."""

    async def run():
        async with started(Embedded(links=True)) as cluster:
            for node in cluster.nodes:
                page = await get_json(f"{node.monitor}/routez")
                own = {env["ROUTE"] for env in cluster._environments.values()}
                dialled = {f"{r['ip']}:{r['port']}" for r in page["routes"] if r["did_solicit"]}
                assert not dialled & own

    asyncio.run(run())


def test_isolated_leader_acknowledges_nothing_and_the_majority_goes_on():
    async def run():
        async with started(Embedded(links=True)) as cluster:
            nc, js = await connected(cluster)
            await js.add_stream(name="S", subjects=["s"], num_replicas=3)
            leader = (await js.stream_info("S")).cluster.leader
            rest = [node.url for node in cluster.nodes if node.name != leader]
            alone = await nats.connect(**cluster.options | {"servers": [cluster.node(leader).url]})
            many = await nats.connect(**cluster.options | {"servers": rest})
            await publish_with_retry(js, "s", b"", "before")
            await cluster.isolate(leader)
            with pytest.raises(nats.errors.Error):
                js_alone = alone.jetstream(domain=cluster.domain)
                await js_alone.publish("s", timeout=1, headers={"Nats-Msg-Id": "alone"})
            ack = await publish_with_retry(many.jetstream(domain=cluster.domain), "s", b"", "many")
            assert ack.seq == 2
            assert alone.is_connected
            await cluster.restore_all()
            assert (await publish_with_retry(js, "s", b"", "after")).seq == 3
            await poll(lambda: caught_up(cluster), 10, "a replica does not hold the three messages")
            for connection in (nc, alone, many):
                await connection.close()

    async def caught_up(cluster):
        return sorted((await monitor.message_counts(cluster, "S")).values()) == [0, 3, 3, 3]

    asyncio.run(run())


@pytest.fixture(scope="module")
def cluster():
    made = asyncio.run(Embedded(links=True).start())
    yield made
    asyncio.run(made.close())


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.2, 1.0])
@pytest.mark.parametrize("fault", ["kill", "pause", "isolate", "restart"])
def test_interrupted_faults_are_undone(fault, moment, cluster):
    """Stop is pressed `moment` seconds into a fault; `restore_all` leaves four healthy nodes."""

    async def run():
        victim = cluster.nodes[1].name
        task = asyncio.create_task(breaking(cluster, fault, victim))
        await asyncio.sleep(moment)  # the moment of the interrupt
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await cluster.restore_all()
        assert set((await cluster.states()).values()) == {"running"}
        assert (await monitor.nodes(cluster)).healthy.all()

    async def breaking(cluster, fault, victim):
        await getattr(cluster, fault)(victim)
        await asyncio.sleep(60)

    asyncio.run(run())


def test_supercluster_wan_split_and_a_lost_region():
    async def run():
        async with started(Supercluster()) as world:
            us = await nats.connect(**world.options_in("us-east", "eu-west"))
            eu = await nats.connect(**world.options_in("eu-west"))
            js_us, js_eu = (c.jetstream(domain=world.domain, timeout=ELECTION) for c in (us, eu))

            async def answer(msg):
                await msg.respond(b"us-east")

            await us.subscribe("where", cb=answer)
            await retry(lambda: eu.request("where", timeout=1))  # its interest crosses the WAN
            # Lower bounds only: twice the delay, which no load can undercut.
            assert await round_trip(eu) >= 0.08
            await world.wan(0.1)
            assert await round_trip(eu) >= 0.2
            await world.wan(0)
            assert await round_trip(eu) < 0.2

            for name, region in (("US", "us-east"), ("EU", "eu-west")):
                info = await js_us.add_stream(
                    name=name, subjects=[name], num_replicas=3, placement=Placement(cluster=region)
                )
                assert info.cluster.name == region
                await publish_with_retry(js_us, name, b"", "first")
            await world.split("us-east")
            with pytest.raises(nats.errors.TimeoutError):
                await js_us.publish("EU", timeout=1, headers={"Nats-Msg-Id": "late"})
            await publish_with_retry(js_us, "US", b"", "second")
            await publish_with_retry(js_eu, "EU", b"", "second")
            await world.heal()
            await poll(lambda: holds(js_eu, "EU", 3), 20, "the late message never came")

            await world.kill_region("us-east")
            await poll(lambda: moved(us, world), 10, "the client did not move to eu-west")
            await publish_with_retry(us.jetstream(domain=world.domain), "EU", b"", "third")
            await world.restore_all()
            assert set((await world.states()).values()) == {"running"}
            await poll(lambda: holds(js_eu, "US", 2), 30, "US did not come back")
            with pytest.raises(ClusterError, match=r"no region 'mars'.*us-east, eu-west"):
                await world.split("mars")
            await us.close()
            await eu.close()

    async def round_trip(nc):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            await nc.request("where", timeout=5)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    async def holds(js, stream, count):
        try:
            return (await js.stream_info(stream)).state.messages == count
        except nats.errors.Error:
            return False

    async def moved(nc, world):
        here = {node.url for node in world.regions["eu-west"]}
        return nc.is_connected and nc.connected_url.geturl() in here

    asyncio.run(run())
