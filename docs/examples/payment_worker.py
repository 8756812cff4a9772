"""Pays orders; start as many as you like, they share one durable consumer (lesson 4)."""

import asyncio
import json
import os
import signal
import sys

import nats

SERVERS = os.environ.get("NATS_URL", "nats://127.0.0.1:4222").split(",")
LOGIN = {"user": os.environ.get("NATS_USER"), "password": os.environ.get("NATS_PASSWORD")}


async def pay(js, msg):
    try:
        order = json.loads(msg.data)
        # The ID makes the payment happen once, also where the order is delivered twice.
        headers = {"Nats-Msg-Id": f"payment-{order['id']}"}
        await js.publish("payments.done", json.dumps({"order": order["id"]}).encode(), headers=headers)
        await msg.ack_sync()
        print("paid", order["id"], flush=True)
    except (ValueError, KeyError, TypeError) as error:  # no try will mend it
        print("given up:", repr(error), flush=True)
        await msg.term()
    except (TimeoutError, nats.errors.Error):  # nobody answers now
        await msg.nak(delay=1)


async def lost(error):
    print("connection:", error, file=sys.stderr)


async def main():
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: loop.call_soon_threadsafe(stop.set))
    nc = await nats.connect(
        SERVERS, **LOGIN, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=lost
    )
    js = nc.jetstream(timeout=10)  # seconds: an election takes up to nine
    await js.add_stream(name="PAYMENTS", subjects=["payments.*"], num_replicas=3)
    group = {"durable_name": "payment-processor", "filter_subject": "orders.payment", "max_deliver": 3}
    await js.add_consumer("ORDERS", **group, ack_policy="explicit", ack_wait=10)
    worker = await js.pull_subscribe_bind("payment-processor", "ORDERS")
    while not stop.is_set():
        try:
            batch = await worker.fetch(10, timeout=1)
        except TimeoutError:  # nothing to do
            continue
        except nats.errors.Error:  # a leader is being elected
            await asyncio.sleep(0.2)
            continue
        for msg in batch:
            await pay(js, msg)
    await nc.drain()
    print("drained", flush=True)


asyncio.run(main())
