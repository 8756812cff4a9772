"""Reads a stream in order, from a sequence or a time, up to what it holds now (lesson 5).

NATS_URL=nats://127.0.0.1:4222,nats://127.0.0.1:4223 python replay_orders.py ORDERS 1000
NATS_URL=nats://127.0.0.1:4222,nats://127.0.0.1:4223 python replay_orders.py ORDERS 2026-01-31T08:00:00+00:00
"""

import asyncio
import os
import sys
from datetime import datetime

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

SERVERS = os.environ.get("NATS_URL", "nats://127.0.0.1:4222").split(",")
LOGIN = {"user": os.environ.get("NATS_USER"), "password": os.environ.get("NATS_PASSWORD")}


def starting(place):
    if place.isdigit():
        return ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=max(1, int(place))
        )
    moment = datetime.fromisoformat(place)
    if moment.tzinfo is None:  # nats-py would take it for UTC, whatever clock you looked at
        sys.exit(f"{place} needs its offset from UTC, as {place}+00:00")
    return ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=moment)


async def lost(error):
    print("connection:", error, file=sys.stderr)


async def main(stream, place):
    nc = await nats.connect(
        SERVERS, **LOGIN, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=lost
    )
    js = nc.jetstream()
    end = (await js.stream_info(stream)).state.last_seq
    # An ordered consumer acknowledges nothing, and is made again where it broke: after the last one seen.
    replay = await js.subscribe(">", stream=stream, ordered_consumer=True, config=starting(place))
    count = 0
    try:
        while True:
            msg = await replay.next_msg(timeout=10)
            print(msg.metadata.sequence.stream, msg.subject, msg.data.decode(), flush=True)
            count += 1
            if msg.metadata.sequence.stream >= end:
                break
    except TimeoutError:
        pass  # the start lies behind the end, or the last message was deleted
    print(f"{count} messages", file=sys.stderr)
    await nc.drain()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ORDERS", sys.argv[2] if len(sys.argv) > 2 else "1"))
