"""Publishes orders so that none is lost or stored twice, whatever server dies meanwhile (lesson 1).

NATS_URL=nats://127.0.0.1:4222,nats://127.0.0.1:4223 python publish_orders.py 100
"""

import asyncio
import json
import os
import signal
import sys

import nats
from nats.js.errors import APIError, NoStreamResponseError

SERVERS = os.environ.get("NATS_URL", "nats://127.0.0.1:4222").split(",")
LOGIN = {"user": os.environ.get("NATS_USER"), "password": os.environ.get("NATS_PASSWORD")}
PASSING = (None, 10008, 10158)  # no leader now; the first try is still on its way


async def publish_with_retry(js, subject, payload, msg_id):
    """Until the stream acknowledges. Every try has the same ID, so the stream keeps one of them."""
    while True:
        try:
            return await js.publish(subject, payload, timeout=0.5, headers={"Nats-Msg-Id": msg_id})
        except (TimeoutError, NoStreamResponseError, APIError) as error:
            if getattr(error, "err_code", None) not in PASSING:
                raise
        await asyncio.sleep(0.05)


async def lost(error):
    print("connection:", error, file=sys.stderr)


async def main(count):
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: loop.call_soon_threadsafe(stop.set))
    # -1: for ever, also before the first server answers.
    nc = await nats.connect(
        SERVERS, **LOGIN, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=lost
    )
    js = nc.jetstream(timeout=10)  # seconds: an election takes up to nine
    await js.add_stream(name="ORDERS", subjects=["orders.*"], num_replicas=3)
    acked = 0
    for number in range(1, count + 1):
        if stop.is_set():
            break
        order = json.dumps({"id": number, "amount": 9.95}).encode()
        ack = await publish_with_retry(js, "orders.payment", order, f"order-{number}")
        acked += 1
    print(f"{acked} acknowledged, the last one as {ack.seq}" if acked else "stopped before the first")
    await nc.drain()


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
