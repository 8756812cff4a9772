"""Batched publishing and replay on a real cluster: counts, duplicates, errors, nodes killed in the middle."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import nats
import pytest
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError, ServerError, ServiceUnavailableError
from programs import ELECTION, connected

from helpers import bulk
from helpers.bulk.replaying import _read
from helpers.cluster import open_cluster
from helpers.cluster.interface import poll
from helpers.ledger import Ledger


class Lab:
    """One event loop, one cluster and one connection for the module."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.cluster = self.runner.run(open_cluster("embedded", size=4))
        self.nc, self.js = self.runner.run(connected(self.cluster))

    def __call__(self, coroutine: Coroutine) -> object:
        return self.runner.run(coroutine)

    def stream(self, name: str, **config: object) -> None:
        settings = {"subjects": [f"{name.lower()}.*"], "num_replicas": 3, "allow_batched": True}

        async def added() -> bool:
            try:
                await self.cluster.delete_streams(self.js, name)
                return bool(await self.js.add_stream(name=name, **settings | config))
            except (TimeoutError, ServiceUnavailableError):  # the meta leader was killed a test ago
                return False
            except ServerError as error:  # once in some 2,600 times a node is not done with the old one
                if error.err_code != 10049:
                    raise
                return False

        self(poll(added, 20, f"{name} was not made"))
        self(self.cluster.known(name))  # else the first batch may break, and be counted as resumed

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
    js = nc.jetstream(timeout=ELECTION)
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
    assert (receipt.count, receipt.last_seq) == (count, count)  # `resumed` is 1 where the machine stalls
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
        await lab.cluster.caught_up()
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
    verdict = ledger.compare(found)
    assert (verdict.lost, verdict.duplicated, verdict.reordered) == (0, 0, 0), verdict
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
        ({"allow_batched": False}, messages(5), bulk.BulkError, 0, "allow_batched=True"),
        ({}, messages(5, "elsewhere"), bulk.BulkError, 0, "no stream captures 'elsewhere'"),
        (
            {},
            messages(500) + messages(9, "elsewhere") + messages(500, ids=False),
            bulk.BulkError,
            500,
            "no stream captures 'elsewhere'",
        ),
        ({"max_msg_size": 50}, [*messages(5), ("bulk.x", b"x" * 99, None)] * 2, bulk.BulkError, 5, "10054"),
        ({}, [*messages(300), ("bulk.x", bytes(3 << 20), None)], bulk.BulkError, 300, "2,097,152"),
        ({"max_msgs": 7, "discard": "new"}, messages(1_000), bulk.BulkError, 7, "maximum messages"),
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

    with pytest.raises(bulk.BulkError, match=r"2\.14"):
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


# -- replay -----------------------------------------------------------------------------------


def loaded(lab: Lab, count: int, **config: object) -> None:
    lab.stream("BULK", **config)
    if count:
        lab(bulk.publish(lab.nc, ((f"bulk.{i % 5}", b"%d" % i, {"N": str(i)}) for i in range(count))))


def replayed(lab: Lab, **arguments: object) -> list[bulk.Columns]:
    async def scene() -> list[bulk.Columns]:
        return [part async for part in bulk.replay(lab.nc, "BULK", **arguments)]

    return lab(scene())


@pytest.mark.parametrize("count", [0, 1, 999, 1_000, 1_001, 12_345])
def test_replay_brings_every_message_once_in_order(lab, count):
    loaded(lab, count)
    parts = replayed(lab, rows=1_000)
    assert [len(part) for part in parts[:-1]] == [1_000] * (len(parts) - 1)
    assert [seq for part in parts for seq in part.seq] == list(range(1, count + 1))
    assert [int(data) for part in parts for data in part.data] == list(range(count))
    assert [int(h["N"]) for part in parts for h in part.headers] == list(range(count))
    assert lab(lab.js.consumers_info("BULK")) == []


def test_a_frame_has_the_columns_of_the_messages(lab):
    loaded(lab, 3_000)
    frame = lab(bulk.frame(lab.nc, "BULK"))
    assert list(frame) == ["seq", "time", "subject", "data", "headers"]
    first = lab(lab.js.get_msg("BULK", 1))
    row = frame.iloc[0]
    assert (row.seq, row.subject, row.data, row.headers) == (1, "bulk.0", b"0", {"N": "0"})
    assert abs(row.time - first.time) < timedelta(microseconds=2)
    assert frame.time.is_monotonic_increasing and str(frame.time.dt.tz) == "UTC"
    loaded(lab, 0)
    assert list(lab(bulk.frame(lab.nc, "BULK"))) == list(frame)


def seqs(lab: Lab, **config: object) -> list[int]:
    return [seq for part in replayed(lab, config=ConsumerConfig(**config)) for seq in part.seq]


def test_where_to_start_and_what_to_filter(lab):
    loaded(lab, 20)
    lab(lab.cluster.caught_up())  # on a replica that lags, a consumer begins with what was last there
    start = DeliverPolicy.BY_START_SEQUENCE
    assert seqs(lab, deliver_policy=start, opt_start_seq=18) == [18, 19, 20]
    assert seqs(lab, deliver_policy=start, opt_start_seq=99) == []
    assert seqs(lab, filter_subject="bulk.4") == [5, 10, 15, 20]
    assert seqs(lab, filter_subjects=["bulk.0", "bulk.1"])[-2:] == [16, 17]
    assert seqs(lab, filter_subject="bulk.none") == []
    assert seqs(lab, deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, filter_subject="bulk.*") == [
        *range(16, 21)
    ]
    assert seqs(lab, deliver_policy=DeliverPolicy.LAST) == [20]
    time = DeliverPolicy.BY_START_TIME
    hour = timedelta(hours=1)
    assert len(seqs(lab, deliver_policy=time, opt_start_time=datetime.now(UTC) - hour)) == 20
    assert seqs(lab, deliver_policy=time, opt_start_time=datetime.now(UTC) + hour) == []
    lab(lab.js.delete_msg("BULK", 20))
    lab(lab.js.delete_msg("BULK", 7))
    lab(lab.cluster.caught_up())
    assert seqs(lab) == [n for n in range(1, 20) if n != 7]


def test_replay_refuses_what_it_cannot_do(lab):
    with pytest.raises(NotFoundError, match="stream not found"):
        lab(bulk.frame(lab.nc, "NOWHERE"))
    with pytest.raises(ValueError, match="looks back"):
        lab(bulk.frame(lab.nc, "BULK", config=ConsumerConfig(deliver_policy=DeliverPolicy.NEW)))


def test_what_is_published_during_a_replay_is_not_waited_for(lab):
    loaded(lab, 3_000)

    async def scene() -> int:
        found = 0
        async for part in bulk.replay(lab.nc, "BULK", rows=1_000):
            found += len(part)
            await lab.js.publish("bulk.more", b"0")
        return found

    assert lab(scene()) == 3_000


def test_memory_is_bounded_when_the_reader_is_slow(lab):
    loaded(lab, 20_000)

    async def scene() -> int:
        before, most = lab.nc.stats["in_msgs"], 0
        async with aclosing(bulk.replay(lab.nc, "BULK", rows=500)) as parts:
            done = 0
            async for part in parts:
                done += len(part)
                await lab.nc.flush()  # whatever the server was asked for has arrived
                await lab.nc.flush()
                most = max(most, lab.nc.stats["in_msgs"] - before - done)
                if done > 5_000:
                    break
        return most

    assert lab(scene()) < 500 + 100  # one part ahead, and some heartbeats and API replies


def test_a_loop_left_early_leaves_nothing(lab):
    loaded(lab, 5_000)

    async def scene() -> tuple[int, int]:
        before = len(lab.nc._subs)
        async with aclosing(bulk.replay(lab.nc, "BULK", rows=100)) as parts:
            async for _ in parts:
                break
        return before, len(lab.nc._subs)

    before, after = lab(scene())
    assert before == after and lab.nc.msg_class is nats.aio.msg.Msg
    assert lab(lab.js.consumers_info("BULK")) == []


@pytest.mark.parametrize("whose", ["consumer", "connection", "stream"])
def test_a_node_killed_in_the_middle_of_a_replay(lab, whose):
    count = 40_000
    loaded(lab, count)

    async def scene() -> list[int]:
        found: list[int] = []
        async for part in bulk.replay(lab.nc, "BULK", rows=5_000):
            found.extend(part.seq)
            if len(found) == 15_000:
                victim = {
                    "consumer": (await lab.js.consumers_info("BULK"))[0].cluster.leader,
                    "connection": lab.nc._server_info["server_name"],
                    "stream": (await lab.js.stream_info("BULK")).cluster.leader,
                }[whose]
                await lab.cluster.kill(victim)
        await lab.cluster.restore_all()
        return found

    assert lab(scene()) == list(range(1, count + 1))


def test_what_came_a_second_time_is_left_out(lab):
    """A lost consumer of the last per subject can only begin anew; the parts stay whole."""
    loaded(lab, 0)
    lab(bulk.publish(lab.nc, ((f"bulk.{i % 3_000}", b"", None) for i in range(6_000))))
    lab(lab.cluster.caught_up())  # as above

    async def scene() -> list[list[int]]:
        config = ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, filter_subject="bulk.*")
        found = []
        async for part in bulk.replay(lab.nc, "BULK", config=config, rows=500):
            found.append(list(part.seq))
            if len(found) in (1, 4):
                (consumer,) = await lab.js.consumers_info("BULK")
                await lab.js.delete_consumer("BULK", consumer.name)
        return found

    found = lab(scene())
    assert [len(part) for part in found] == [500] * 6
    assert [seq for part in found for seq in part] == list(range(3_001, 6_001))


def test_replays_and_a_subscription_share_a_connection(lab):
    loaded(lab, 5_000)
    lab(lab.js.delete_msg("BULK", 3))

    async def scene() -> tuple[list[int], list[bytes]]:
        plain, heard = lab.nc.msg_class, []

        async def hear(msg: nats.aio.msg.Msg) -> None:
            heard.append(msg.data)

        subscription = await lab.nc.subscribe("beside", cb=hear)
        replays = [
            bulk.frame(lab.nc, "BULK", config=ConsumerConfig(filter_subject=s)) for s in (None, "bulk.1")
        ]
        running = asyncio.gather(*replays)
        await poll(lambda: asyncio.sleep(0, lab.nc.msg_class is not plain), 10, "no message was tapped")
        for n in range(20):
            await lab.nc.publish("beside", b"%d" % n)
        lengths = [len(frame) for frame in await running]
        await lab.nc.flush()
        await subscription.unsubscribe()
        assert lab.nc.msg_class is plain
        return lengths, heard

    assert lab(scene()) == ([4_999, 1_000], [b"%d" % n for n in range(20)])


@pytest.mark.parametrize("prefix", ["$JS.ACK.B.C", '$JS.ACK.D.HASH."B.C'])
def test_numbers_of_a_reply_subject(prefix):
    replies = [f"{prefix}.1.{n}.{n - 4}.{10**18 + n}.0" + ".x" * prefix.count("D") for n in range(5, 9)]
    seq, time = _read(replies)
    assert list(seq) == [5, 6, 7, 8] and list(time) == [10**18 + n for n in range(5, 9)]
