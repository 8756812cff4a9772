"""Every order paid exactly once or in the dead letter stream, whatever dies; and the panel, by code."""

import asyncio
import json
import time

import pytest
from matplotlib import pyplot as plt
from nats.js.errors import APIError, NotFoundError
from programs import connected

from helpers.cluster import open_cluster
from helpers.lesson import end, retry
from helpers.orders import by_hour, of_regulars, orders
from helpers.panel.workers import WorkersPanel
from helpers.services import OrderService, PaymentService, publish_with_retry

ORDERS = orders(240, start=2180)  # five of them have nothing to charge
POISON = {order.id for order in ORDERS if order.amount <= 0}


async def on_a_cluster(scenario) -> None:
    cluster = await open_cluster("embedded")
    nc, js = await connected(cluster)
    try:
        await scenario(cluster, js)
    finally:
        await nc.close()
        await cluster.close()


async def paid_or_dead(cluster, js) -> None:
    for name in ("orders", "payments", "dead"):
        await js.add_stream(name=name.upper(), subjects=[f"{name}.*"], num_replicas=3)
    await js.add_consumer("ORDERS", durable_name="payment-processor", ack_wait=1, max_deliver=3)
    await cluster.known("ORDERS", "payment-processor")
    shop = OrderService(js)

    async def pay(msg) -> None:
        await asyncio.sleep(0.005)  # what a payment takes
        order = json.loads(msg.data)
        if order["amount"] > 0:  # poison is not acknowledged
            await publish_with_retry(js, f"payments.{order['id']}", msg.data, f"payment-{order['id']}")
            await msg.ack()

    def worker() -> asyncio.Task:
        return asyncio.create_task(PaymentService(js, pay).work())

    workers = [worker() for _ in range(4)]
    placing = asyncio.create_task(shop.publish_orders(ORDERS))
    for round_ in range(8):  # a worker dies every quarter of a second, with what it holds
        await asyncio.sleep(0.25)
        await end(workers.pop(0))
        workers.append(worker())
        if round_ == 3:
            info = await retry(lambda: js.consumer_info("ORDERS", "payment-processor"))
            await cluster.kill(info.cluster.leader)
    await cluster.restore_all()
    await asyncio.wait_for(placing, 60)
    await cluster.settled("ORDERS", "payment-processor", 60)
    await end(*workers)

    # An advisory is sent once, and lost while whoever keeps it has no leader. So everything that is not
    # paid is buried, given up or not: what notebook 04 says under "In practice".
    last = (await retry(lambda: js.stream_info("ORDERS"))).state.last_seq
    for seq in range(1, last + 1):
        lost = await retry(lambda seq=seq: js.get_msg("ORDERS", seq))
        id_ = json.loads(lost.data)["id"]
        try:
            await retry(lambda id_=id_: js.get_last_msg("PAYMENTS", f"payments.{id_}"))
        except NotFoundError:
            await publish_with_retry(js, f"dead.{id_}", lost.data, f"dead-{id_}")

    async def ids(stream: str) -> list[int]:
        last = (await retry(lambda: js.stream_info(stream))).state.last_seq
        return [int(json.loads((await js.get_msg(stream, seq)).data)["id"]) for seq in range(1, last + 1)]

    payments, dead = await ids("PAYMENTS"), await ids("DEAD")
    verdict = shop.ledger.compare(payments + dead)
    assert (verdict.lost, verdict.duplicated) == (0, 0), verdict
    assert verdict.stored == verdict.sent == len(ORDERS), verdict
    assert set(dead) >= POISON and not POISON & set(payments)
    cents = {order.id: order.cents for order in ORDERS}
    assert sum(cents[id_] for id_ in payments + dead) == sum(cents.values())


def test_workers_and_a_node_are_killed_and_every_order_is_paid_once_or_dead():
    assert len(POISON) == 5
    asyncio.run(on_a_cluster(paid_or_dead))


async def a_worker_without_a_consumer(cluster, js) -> None:
    await js.add_stream(name="ORDERS", subjects=["orders.*"], num_replicas=3)
    await js.add_consumer("ORDERS", durable_name="payment-processor")
    await cluster.known("ORDERS", "payment-processor")
    worker = asyncio.create_task(PaymentService(js, lambda msg: msg.ack()).work())
    await publish_with_retry(js, "orders.payment", b"", "one")
    await cluster.settled("ORDERS", "payment-processor")
    await js.delete_consumer("ORDERS", "payment-processor")
    with pytest.raises(NotFoundError, match="consumer not found"):
        await asyncio.wait_for(worker, 10)


def test_a_worker_whose_consumer_is_deleted_says_so():
    asyncio.run(on_a_cluster(a_worker_without_a_consumer))


async def a_refusal_is_not_tried_again(cluster, js) -> None:
    await js.add_stream(name="FULL", subjects=["full"], max_msgs=1, discard="new")
    await publish_with_retry(js, "full", b"", "one")
    with pytest.raises(APIError, match="maximum messages exceeded"):
        await asyncio.wait_for(publish_with_retry(js, "full", b"", "two"), 5)


def test_the_publisher_raises_at_once_what_will_not_pass():
    asyncio.run(on_a_cluster(a_refusal_is_not_tried_again))


async def drive(cluster, js) -> None:
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
        assert tasks_left() == [] and panel.status.value == "stopped"
        panel.failures.value = 0
        await panel.start()  # again, from zero
        await panel.until(lambda now: now["paid"] >= 10, "nothing is paid after a second start")
        assert panel.now["given_up"] == 0
        other = WorkersPanel(js)
        await other.start()  # the cell was run again: the old panel ends, unseen as it is
        assert panel.status.value == "stopped"
        await other.stop()
    finally:
        await panel.stop()
    assert tasks_left() == []


def tasks_left() -> list[asyncio.Task]:
    return [task for task in asyncio.all_tasks() if "workers.py" in repr(task) and not task.done()]


def test_the_panel_is_driven_by_code_and_leaves_no_task():
    asyncio.run(on_a_cluster(drive))


async def a_busy_loop(cluster, js) -> None:
    # A plot is drawn just after a fetch has asked: the server's "nothing here" is read when the fetch's
    # time is over. Out of nats-py then comes asyncio's TimeoutError; its own is a kind of that one.
    panel = WorkersPanel(js, workers=0, rate=0)
    await panel.start()
    for steps in range(12):  # of the loop, until the worker has asked
        worker = asyncio.create_task(panel._work())
        for _ in range(steps):
            await asyncio.sleep(0)
        time.sleep(0.31)  # noqa: ASYNC251 the loop is to be busy
        await asyncio.wait([worker], timeout=0.1)
        if worker.done():
            worker.result()
        await end(worker)
    await panel.stop()


def test_no_worker_ends_because_the_loop_was_busy():
    asyncio.run(on_a_cluster(a_busy_loop))


async def the_end_of_a_task_is_said(cluster, js) -> None:
    panel = WorkersPanel(js)
    await panel.start()
    await js.delete_stream("PANEL")
    with pytest.raises(NotFoundError):
        await panel.until(lambda now: now["paid"] < 0, "never", seconds=10)
    assert "not found" in panel.status.value
    await panel.stop()
    assert "not found" in panel.status.value and tasks_left() == []


def test_the_panel_says_that_its_stream_is_gone():
    asyncio.run(on_a_cluster(the_end_of_a_task_is_said))


async def an_outage(cluster, js) -> None:
    panel = WorkersPanel(js, rate=100)
    await panel.start()
    node = await cluster.leader_of("PANEL")  # of one replica: nobody takes over
    await cluster.kill(node)
    before = panel._published
    await cluster.restart(node)
    await panel.until(lambda now: now["published"] > before, "nothing is published after the outage")
    await panel.stop()


def test_the_panel_goes_on_after_an_outage():
    asyncio.run(on_a_cluster(an_outage))


def test_orders_of_regulars_and_by_the_hour():
    regulars = of_regulars(64, customers=8)
    assert len(regulars) == 64 and len({order.customer for order in regulars}) <= 8
    assert by_hour(regulars).sum() == sum(order.cents for order in regulars)


@pytest.fixture(autouse=True)
def no_open_figures():
    plt.close("all")  # those of another file's tests are none of ours
    yield
    assert plt.get_fignums() == []
