"""Answers stock requests; start as many as you like, each request goes to one of them (lesson 3).

NATS_URL=nats://127.0.0.1:4222,nats://127.0.0.1:4223 python inventory_service.py
nats request inventory.check '{"productId": "ABC123", "quantity": 5}' -H X-Correlation-ID:1d5c522d
"""

import asyncio
import json
import os
import signal
import sys

import nats

SERVERS = os.environ.get("NATS_URL", "nats://127.0.0.1:4222").split(",")
LOGIN = {"user": os.environ.get("NATS_USER"), "password": os.environ.get("NATS_PASSWORD")}
STOCK = {"ABC123": 20}  # a real one asks its database


async def answer(msg):
    """Always an answer, a refusal too: a caller that hears nothing cannot tell it from a crash."""
    try:
        asked = json.loads(msg.data)
        stock = STOCK[asked["productId"]]
        reply = {"available": stock, "enough": stock >= asked["quantity"]}
    except (ValueError, KeyError, TypeError) as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    print((msg.headers or {}).get("X-Correlation-ID", "-"), reply, flush=True)
    await msg.respond(json.dumps(reply).encode())  # with the headers of the request


async def lost(error):
    print("connection:", error, file=sys.stderr)


async def main():
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: loop.call_soon_threadsafe(stop.set))
    nc = await nats.connect(
        SERVERS, **LOGIN, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=lost,
        pending_size=1,  # a drain then sends UNSUB before its PING, and loses no request
    )  # fmt: skip
    await nc.subscribe("inventory.check", queue="inventory", cb=answer)
    await nc.flush()  # the server knows of it
    print("ready", flush=True)
    await stop.wait()
    await nc.drain()  # takes nothing new, answers what it has, leaves
    print("drained", flush=True)


asyncio.run(main())
