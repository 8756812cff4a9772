"""Every order paid exactly once or in the dead letter stream, whatever dies; and the panel, by code."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import nats
import pytest
from matplotlib import pyplot as plt
from nats.js.api import ConsumerConfig
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from helpers import groups, publisher
from helpers.cluster import open_cluster
from helpers.cluster.interface import poll
from helpers.groups import Pool, paced, race
from helpers.ledger import Ledger
from helpers.orders import by_hour, of_regulars, orders
from helpers.panel.workers import WorkersPanel

ORDERS = orders(240, start=2180)  # five of them have nothing to charge
POISON = {str(order.id) for order in ORDERS if order.amount <= 0}
DOWN = (NoStreamResponseError, nats.errors.TimeoutError, APIError)


class Shop:
    """ORDERS, its durable, PAYMENTS and DEAD (a subject an order), and what pays and buries them."""

    def __init__(self, js: nats.js.JetStreamContext) -> None:
        self.js, self.ledger = js, Ledger()

    async def open(self) -> None:
        for name, subjects in {
            "ORDERS": ["orders.*"], "PAYMENTS": ["payments.*"], "DEAD": ["dead.*"],
        }.items():  # fmt: skip
            await self.js.add_stream(name=name, subjects=subjects, num_replicas=3)
        config = ConsumerConfig(
            durable_name="payment-processor", filter_subject="orders.payment", ack_wait=1, max_deliver=3
        )
        await self.js.add_consumer("ORDERS", config)

    async def ask(self, call: Callable[..., Awaitable], *args: object) -> Any:
        """The answer of the JetStream API, asked again while a leader is missing."""

        async def attempt() -> Any:
            try:
                return await call(*args)
            except NotFoundError:
                raise
            except (TimeoutError, *DOWN):
                return None

        return await poll(attempt, 40, f"no answer to {call.__name__} {args}")

    async def keep(self, subject: str, payload: bytes, msg_id: str) -> None:
        while True:
            try:
                await self.js.publish(subject, payload, 0.5, headers={"Nats-Msg-Id": msg_id})
                return
            except DOWN:
                await asyncio.sleep(0.05)

    async def place(self) -> None:
        async for order in paced(ORDERS, lambda _: 200):
            self.ledger.sent.append(str(order.id))
            await self.keep("orders.payment", order.payload(), f"order-{order.id}")
            self.ledger.acked.add(str(order.id))

    async def work(self, name: str, stop: asyncio.Event) -> None:
        sub = await self.js.pull_subscribe_bind("payment-processor", "ORDERS")
        while not stop.is_set():
            try:
                messages = await sub.fetch(5, timeout=0.3)
            except (TimeoutError, *DOWN):
                await asyncio.sleep(0.02)
                continue
            for msg in messages:
                await asyncio.sleep(0.005)
                order = json.loads(msg.data)
                if order["amount"] > 0:  # poison is not acknowledged
                    await self.keep(f"payments.{order['id']}", msg.data, f"payment-{order['id']}")
                    await msg.ack()
        await sub.unsubscribe()

    async def paid(self, order_id: str) -> bool:
        try:
            return bool(await self.ask(self.js.get_last_msg, "PAYMENTS", f"payments.{order_id}"))
        except NotFoundError:
            return False

    async def bury(self, seq: int) -> None:
        """What stands at `seq` of ORDERS goes to DEAD, unless it was paid and only its acks were lost."""
        lost = await self.ask(self.js.get_msg, "ORDERS", seq)
        order_id = json.loads(lost.data)["id"]
        if not await self.paid(order_id):
            await self.keep(f"dead.{order_id}", lost.data, f"dead-{order_id}")

    async def settled(self) -> bool:
        try:
            info = await self.js.consumer_info("ORDERS", "payment-processor", timeout=0.5)
        except DOWN:
            return False
        return info.num_pending == info.num_ack_pending == 0

    async def sweep(self) -> None:
        """Advisories are published once and may be lost with a node: so everything unpaid is buried."""
        last = (await self.ask(self.js.stream_info, "ORDERS")).state.last_seq
        for seq in range(1, last + 1):
            await self.bury(seq)

    async def ids(self, stream: str) -> list[str]:
        last = (await self.ask(self.js.stream_info, stream)).state.last_seq
        found = [await self.ask(self.js.get_msg, stream, seq) for seq in range(1, last + 1)]
        return [json.loads(msg.data)["id"] for msg in found]


async def paid_or_dead() -> None:
    cluster = await open_cluster("embedded")
    nc = await nats.connect(**cluster.options)
    shop = Shop(nc.jetstream(domain=cluster.domain, timeout=2))
    try:
        await shop.open()
        pool = Pool(shop.work, 4)
        placing = asyncio.create_task(shop.place())
        for round_ in range(8):  # a worker dies every quarter of a second, with what it holds
            await asyncio.sleep(0.25)
            await pool.kill()
            pool.add()
            if round_ == 3:
                info = await shop.ask(shop.js.consumer_info, "ORDERS", "payment-processor")
                await cluster.kill(info.cluster.leader)
        await cluster.restore_all()
        await asyncio.wait_for(placing, 60)
        await poll(shop.settled, 60, "the consumer does not settle")
        await pool.close()
        await shop.sweep()

        payments, dead = await shop.ids("PAYMENTS"), await shop.ids("DEAD")
        verdict = shop.ledger.compare(payments + dead)
        assert (verdict.lost, verdict.duplicated) == (0, 0), verdict
        assert verdict.stored == verdict.sent == len(ORDERS), verdict
        assert set(dead) >= POISON and not POISON & set(payments)
        cents = {str(order.id): order.cents for order in ORDERS}
        assert sum(cents[id_] for id_ in payments + dead) == sum(order.cents for order in ORDERS)
        # Poison is never acknowledged, and still the consumer settled: the server gave it up. Advisories
        # are not counted: each is sent once, and lost while the stream that keeps them has no leader.
    finally:
        await nc.close()
        await cluster.close()


def test_workers_and_a_node_are_killed_and_every_order_is_paid_once_or_dead():
    assert len(POISON) == 5
    asyncio.run(paid_or_dead())


async def on_a_cluster(scenario) -> None:
    cluster = await open_cluster("embedded")
    nc = await nats.connect(**cluster.options)
    try:
        await scenario(nc.jetstream(domain=cluster.domain))
    finally:
        await nc.close()
        await cluster.close()


async def drive(js) -> None:
    panel = WorkersPanel(js, workers=0, rate=100)
    try:
        await panel.start()
        await panel.until(lambda now: now["pending"] >= 20, "no backlog without workers")
        assert panel.now["paid"] == 0
        panel.rate.value, panel.workers.value = 0, 6
        done = await panel.until(lambda now: now["paid"] == now["published"], "six workers do not catch up")
        assert (done["pending"], done["workers"], done["given_up"]) == (0, 6, 0)
        panel.failures.value, panel.rate.value = 1.0, 50
        await panel.until(lambda now: now["given_up"] >= 5, "nothing is given up when everything fails")
        assert panel.now["redelivered"] > 0
        panel.run.value = False  # what a click does
        await panel.stop()
        left = [task for task in asyncio.all_tasks() if "workers.py" in repr(task)]
        assert left == [] and panel.status.value == "stopped"
        panel.failures.value = 0
        await panel.start()  # again, from zero
        await panel.until(lambda now: now["paid"] >= 10, "nothing is paid after a second start")
        assert panel.now["given_up"] == 0
    finally:
        await panel.stop()


def test_the_panel_is_driven_by_code_and_leaves_no_task():
    asyncio.run(on_a_cluster(drive))


async def a_failing_watch_is_told(js) -> None:
    panel = WorkersPanel(js)
    await panel.start()
    await js.delete_stream("PANEL")
    with pytest.raises(Exception, match="never"):
        await panel.until(lambda now: now["paid"] < 0, "never", seconds=0.5)
    await panel.stop()


def test_the_panel_survives_the_loss_of_its_stream():
    asyncio.run(on_a_cluster(a_failing_watch_is_told))


async def order_is_kept_or_not(js) -> None:
    await js.add_stream(name="RACE", subjects=["race.*"])
    for n in range(60):
        await js.publish(f"race.{n % 4}", b"")
    shared = ConsumerConfig(durable_name="shared", max_ack_pending=1000)
    single = ConsumerConfig(durable_name="single", max_ack_pending=1)
    lanes = [
        ConsumerConfig(durable_name=f"l{n}", filter_subject=f"race.{n}", max_ack_pending=1) for n in range(4)
    ]
    assert (await race(js, "RACE", [shared], workers=4, batch=5))["out of order"] > 0
    assert (await race(js, "RACE", [single]))["out of order"] == 0
    assert (await race(js, "RACE", lanes))["out of order"] == 0
    assert (await js.stream_info("RACE")).state.consumer_count == 0


def test_a_race_counts_what_is_out_of_order():
    asyncio.run(on_a_cluster(order_is_kept_or_not))


async def raw_requests_are_answered(js) -> None:
    await js.add_stream(name="ORDERS", subjects=["orders.*"], num_replicas=3)
    await publisher.keep(js, "orders.payment", b"", "one")
    assert (await publisher.keep(js, "orders.payment", b"", "one")).duplicate
    raw = {"priority_groups": ["pay"], "priority_policy": "overflow"}
    config = await groups.add_consumer(js._nc, js, "ORDERS", "rush", **raw)
    assert config["priority_policy"] == "overflow"
    await groups.until_ready(js._nc, js, "ORDERS", "rush", 1)  # asking takes nothing from it
    inbox = await groups.pull(js._nc, js, "ORDERS", "rush", group="pay", expires=10**9)
    assert await groups.answer(inbox) == "a message"
    inbox = await groups.pull(js._nc, js, "ORDERS", "rush", group="pay", no_wait=True)
    assert await groups.answer(inbox) == "404 No Messages"
    with pytest.raises(RuntimeError, match="at least one PriorityGroup"):
        await groups.add_consumer(js._nc, js, "ORDERS", "none", **raw | {"priority_groups": []})


def test_raw_requests_are_answered():
    asyncio.run(on_a_cluster(raw_requests_are_answered))


async def a_refusal_is_not_tried_again(js) -> None:
    await js.add_stream(name="FULL", subjects=["full"], max_msgs=1, discard="new")
    await publisher.keep(js, "full", b"", "one")
    with pytest.raises(APIError, match="maximum messages exceeded"):
        await asyncio.wait_for(publisher.keep(js, "full", b"", "two"), 5)


def test_the_publisher_raises_at_once_what_will_not_pass():
    asyncio.run(on_a_cluster(a_refusal_is_not_tried_again))


def test_orders_of_regulars_and_by_the_hour():
    regulars = of_regulars(64, customers=8)
    assert len(regulars) == 64 and len({order.customer for order in regulars}) <= 8
    assert by_hour(regulars).sum() == sum(order.cents for order in regulars)


async def workers_come_and_go() -> None:
    log: list[str] = []

    async def work(name: str, stop: asyncio.Event) -> None:
        try:
            await stop.wait()
            log.append(f"{name} finished")
        except asyncio.CancelledError:
            log.append(f"{name} killed")
            raise

    async with Pool(work, 3) as pool:
        await asyncio.sleep(0)
        await pool.kill()
        await pool.remove()
        assert (len(pool), log) == (1, ["w1 killed", "w3 finished"])
        await pool.resize(2)
        assert pool.add() == "w5"
    assert sorted(log[2:]) == ["w2 finished", "w4 finished", "w5 finished"]

    async def broken(name: str, stop: asyncio.Event) -> None:
        raise ValueError("what a worker raises")

    with pytest.raises(ValueError, match="what a worker raises"):
        async with Pool(broken, 1):
            await asyncio.sleep(0.01)


def test_a_pool_tells_what_became_of_its_workers():
    asyncio.run(workers_come_and_go())


@pytest.fixture(autouse=True)
def no_open_figures():
    plt.close("all")  # those of another file's tests are none of ours
    yield
    assert plt.get_fignums() == []
