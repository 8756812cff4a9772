"""The characters of the course, each as the cell that introduced it builds it: a test compares both.

Lesson 1 builds `publish_with_retry` and `OrderService`, 3 `InventoryService`, 4 `PaymentService`.
"""

import asyncio
import json
import time

from nats.js.errors import APIError, NoStreamResponseError

from .ledger import Ledger
from .lesson import retry


async def publish_with_retry(js, subject, payload, msg_id, headers=None):
    """Publishes until the stream acknowledges, under one message ID; returns the `PubAck`.

    `headers` are sent along. What may pass (no answer, no leader, a first try still on its way) is tried
    again for 40 s, then what came last is raised; a refusal is raised at once.
    """
    headers = {"Nats-Msg-Id": msg_id} | (headers or {})
    deadline = time.monotonic() + 40
    while True:
        try:
            return await js.publish(subject, payload, timeout=0.5, headers=headers)
        except (TimeoutError, NoStreamResponseError, APIError) as error:
            passing = getattr(error, "err_code", None) in (None, 10008, 10158)
            if not passing or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)  # the pause between two tries


class OrderService:
    """Publishes orders carefully, and keeps a ledger of what it sent and what was acknowledged."""

    def __init__(self, js):
        self.js, self.ledger = js, Ledger()

    async def publish_orders(self, batch, subject="orders.payment"):
        """Publishes each `Order` of `batch`, one after the other; returns the last `PubAck`."""
        for order in batch:
            self.ledger.sent.append(order.id)
            trace = {"X-Correlation-ID": order.correlation_id}
            ack = await publish_with_retry(self.js, subject, order.payload(), f"order-{order.id}", trace)
            self.ledger.acked.add(order.id)
        return ack


class InventoryService:
    """Answers on `inventory.check`, shared by its queue group, and on a subject of its own, one at a time."""

    def __init__(self, name, shelf, work=0):
        self.name, self.shelf, self.work = name, shelf, work

    async def check(self, msg):
        """Answers `{"responder", "available"}` for a `productId`, after `work` seconds."""
        await asyncio.sleep(self.work)  # in place of a database
        left = self.shelf.get(json.loads(msg.data)["productId"], 0)
        answer = {"responder": self.name, "available": left}
        await msg.respond(json.dumps(answer).encode())

    async def start(self, nc):
        """Subscribes; the subject of its own comes last."""
        await nc.subscribe("inventory.check", queue="inventory", cb=self.check)
        await nc.subscribe(f"inventory.check.{self.name}", cb=self.check)


class PaymentService:
    """A worker of the group `payment-processor`: hands each order it fetches to `pay(msg)`, which acks it."""

    def __init__(self, js, pay):
        self.js, self.pay = js, pay

    async def work(self, batch=5):
        """Works until it is cancelled, through outages; NotFoundError when the consumer is gone."""
        sub = await self.js.pull_subscribe_bind("payment-processor", "ORDERS")
        while True:
            try:
                messages = await sub.fetch(batch, timeout=0.5)
            except TimeoutError:
                continue  # nothing to do: ask again
            except APIError:  # no leader for now: wait for one; no consumer: raise
                await retry(lambda: asyncio.wait_for(sub.consumer_info(), 1))
                continue
            for msg in messages:
                await self.pay(msg)
