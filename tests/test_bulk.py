"""Batched publishing on a real cluster: counts, duplicates, errors, a leader killed in the middle."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine

import nats
import pytest
from nats.js.api import ConsumerConfig
from nats.js.errors import ServiceUnavailableError

from helpers import bulk
from helpers.cluster import open_cluster
from helpers.cluster.interface import poll
from helpers.ledger import Ledger


class Lab:
    """One event loop, one cluster and one connection for the module."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.cluster = self.runner.run(open_cluster("embedded", size=4))
        self.nc = self.runner.run(nats.connect(**self.cluster.options))
        self.js = self.nc.jetstream()

    def __call__(self, coroutine: Coroutine) -> object:
        return self.runner.run(coroutine)

    def stream(self, name: str, **config: object) -> None:
        settings = {"subjects": [f"{name.lower()}.*"], "num_replicas": 3, "allow_batched": True}

        async def added() -> bool:
            try:
                await self.cluster.clear(self.js, name)
                return bool(await self.js.add_stream(name=name, **settings | config))
            except (TimeoutError, ServiceUnavailableError):  # the meta leader was killed a test ago
                return False

        self(poll(added, 20, f"{name} was not made"))

    def stored(self, name: str) -> int:
        return self(self.js.stream_info(name)).state.messages

    def close(self) -> None:
        self.runner.run(self.nc.close())
        self.runner.run(self.cluster.close())
        self.runner.close()


@pytest.fixture(scope="module")
def lab():
    lab = Lab()
    yield lab
    lab.close()


def messages(count: int, subject: str = "bulk.new", ids: bool = True) -> list[bulk.Message]:
    return [(subject, b"%d" % i, {"Nats-Msg-Id": str(i)} if ids else None) for i in range(count)]


async def ids_in(nc: nats.NATS, stream: str) -> list[int]:
    """The payloads of `stream`, in the order of their sequence."""
    js = nc.jetstream()
    count = (await js.stream_info(stream)).state.messages
    sub = await js.pull_subscribe(">", stream=stream, config=ConsumerConfig(ack_policy="none"))
    found: list[int] = []
    while len(found) < count:
        with contextlib.suppress(ServiceUnavailableError):  # the new consumer has no leader yet
            found += [int(msg.data) for msg in await sub.fetch(500, timeout=5)]
    await sub.unsubscribe()
    return found


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 199, 200, 201, 5_000])
def test_counts(lab, count, replicas):
    lab.stream("BULK", num_replicas=replicas)
    steps: list[int] = []
    receipt = lab(bulk.publish(lab.nc, iter(messages(count, ids=False)), on_progress=steps.append))
    assert receipt == bulk.Receipt(count=count, last_seq=count, resumed=0)
    assert sum(steps) == count == lab.stored("BULK")
    assert lab(ids_in(lab.nc, "BULK")) == list(range(count))


def test_subjects_and_headers_arrive(lab):
    lab.stream("BULK")
    lab(bulk.publish(lab.nc, [("bulk.a", b"1", {"X-Correlation-ID": "a-1"}), ("bulk.b", b"", None)]))
    first, second = (lab(lab.js.get_msg("BULK", seq)) for seq in (1, 2))
    assert (first.subject, first.data, first.headers) == ("bulk.a", b"1", {"X-Correlation-ID": "a-1"})
    assert (second.subject, second.data or b"", second.headers) == ("bulk.b", b"", None)


def test_loading_twice_stores_nothing_twice(lab):
    lab.stream("BULK")
    lab(bulk.publish(lab.nc, messages(3_000)))
    again = lab(bulk.publish(lab.nc, messages(3_001)))
    assert again == bulk.Receipt(count=3_001, last_seq=3_001, resumed=0)
    assert lab(bulk.publish(lab.nc, messages(3_000))).last_seq is None
    assert lab.stored("BULK") == 3_001


def test_the_same_id_twice_in_one_batch_is_counted_and_stored_once(lab):
    lab.stream("BULK")
    doubled = [message for message in messages(1_000) for _ in range(2)]
    assert lab(bulk.publish(lab.nc, doubled)) == bulk.Receipt(2_000, 1_000, 0)
    assert lab.stored("BULK") == 1_000


def killed_in_the_middle(lab: Lab, count: int, who: Callable) -> tuple[bulk.Receipt, Ledger, list[int]]:
    ledger = Ledger()

    async def scene() -> tuple[bulk.Receipt, list[int]]:
        acked = 0

        def source():
            for message in messages(count):
                ledger.sent.append(int(message[1]))
                yield message

        def progress(new: int) -> None:
            nonlocal acked
            ledger.acked.update(range(acked, acked + new))
            acked += new

        async def half() -> bool:
            return acked > count / 2

        victim = await who()
        task = asyncio.create_task(bulk.publish(lab.nc, source(), on_progress=progress))
        await poll(half, 60, "half of the messages were not acknowledged", every=0)
        await lab.cluster.kill(victim)
        receipt = await task
        await lab.cluster.restore_all()
        return receipt, await ids_in(lab.nc, "BULK")

    receipt, found = lab(scene())
    return receipt, ledger, found


def test_the_leader_is_killed_in_the_middle(lab):
    lab.stream("BULK")

    async def leader() -> str:
        return (await lab.js.stream_info("BULK")).cluster.leader

    count = 30_000
    receipt, ledger, found = killed_in_the_middle(lab, count, leader)
    assert (receipt.count, receipt.last_seq) == (count, count)
    assert receipt.resumed >= 1, "the leader was killed too late to matter"
    verdict = ledger.against(found)
    assert (verdict.lost, verdict.twice, verdict.reordered) == (0, 0, 0), verdict
    assert verdict.sent == verdict.acked == verdict.stored == count


def test_the_node_of_the_connection_is_killed_in_the_middle(lab):
    lab.stream("BULK")

    async def ours() -> str:
        return lab.nc._server_info["server_name"]

    receipt, ledger, found = killed_in_the_middle(lab, 30_000, ours)
    assert receipt.count == 30_000
    assert found == ledger.sent


def test_without_quorum_nothing_is_acknowledged(lab):
    """A leader whose followers hang holds messages it cannot store, and knows their IDs."""
    lab.stream("BULK")

    async def scene() -> tuple[bulk.BulkError, int]:
        followers = [r.name for r in (await lab.js.stream_info("BULK")).cluster.replicas]
        nc = await nats.connect(
            **lab.cluster.options | {"servers": [n.url for n in lab.cluster.nodes if n.name not in followers]}
        )
        try:
            for name in followers:
                await lab.cluster.pause(name)
            with pytest.raises(bulk.TimedOut) as caught:
                await bulk.publish(nc, messages(1_000), timeout=0.5, patience=1.5)
        finally:
            await nc.close()
            await lab.cluster.restore_all()
        return caught.value, (await lab.js.stream_info("BULK")).state.messages

    error, _ = lab(scene())
    assert error.acked == 0
    assert "no acknowledgement for" in str(error)


@pytest.mark.parametrize(
    ("stream", "batch", "error", "acked", "says"),
    [
        ({}, [], ValueError, None, "empty"),
        ({"allow_batched": False}, messages(5), bulk.NotEnabled, 0, "allow_batched=True"),
        ({}, messages(5, "elsewhere"), bulk.NoStream, 0, "no stream captures 'elsewhere'"),
        (
            {},
            messages(500) + messages(9, "elsewhere") + messages(500, ids=False),
            bulk.NoStream,
            500,
            "no stream captures 'elsewhere'",
        ),
        ({"max_msg_size": 50}, [*messages(5), ("bulk.x", b"x" * 99, None)] * 2, bulk.Refused, 5, "10054"),
        ({}, [*messages(300), ("bulk.x", bytes(3 << 20), None)], bulk.Refused, 300, "2,097,152"),
        ({"max_msgs": 7, "discard": "new"}, messages(1_000), bulk.Refused, 7, "maximum messages"),
    ],
    ids=["empty", "not enabled", "no stream", "no stream late", "stream limit", "client limit", "full"],
)
def test_errors_name_the_cause_and_what_is_stored(lab, stream, batch, error, acked, says):
    lab.stream("BULK", **stream)
    with pytest.raises(error, match=says) as caught:
        lab(bulk.publish(lab.nc, batch))
    if acked is not None:
        assert caught.value.acked == acked == lab.stored("BULK")


def test_an_old_server_is_named(lab):
    async def scene() -> None:
        async def stores_it_and_knows_no_batch(msg) -> None:
            await msg.respond(json.dumps({"stream": "OLD", "seq": 1}).encode())

        sub = await lab.nc.subscribe("old.*", cb=stores_it_and_knows_no_batch)
        try:
            await bulk.publish(lab.nc, messages(5, "old.new"))
        finally:
            await sub.unsubscribe()

    with pytest.raises(bulk.Unsupported, match=r"2\.14"):
        lab(scene())


def test_cancelled_it_leaves_no_subscription(lab):
    lab.stream("BULK")

    async def subscriptions() -> int:
        name = (await lab.js.stream_info("BULK")).cluster.leader  # any request: the server is up to date
        assert name
        return len(lab.nc._subs)

    async def scene() -> tuple[int, int]:
        before = await subscriptions()
        begun = asyncio.Event()
        endless = (("bulk.new", b"x", None) for _ in iter(int, 1))
        task = asyncio.create_task(bulk.publish(lab.nc, endless, on_progress=lambda _: begun.set()))
        await asyncio.wait_for(begun.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return before, await subscriptions()

    before, after = lab(scene())
    assert before == after


def test_the_loop_is_not_starved(lab):
    lab.stream("BULK", num_replicas=1)

    async def scene() -> int:
        turns = 0

        async def neighbour() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.create_task(neighbour())
        await bulk.publish(lab.nc, messages(20_000, ids=False))
        task.cancel()
        return turns

    assert lab(scene()) > 20_000 / (2 * 200)
