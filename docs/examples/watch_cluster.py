"""Says who leads each stream, and which replicas lag; again whenever it changes (lesson 2).

NATS_URL=nats://127.0.0.1:4222,nats://127.0.0.1:4223 python watch_cluster.py
"""

import asyncio
import os
import signal
import sys

import nats

SERVERS = os.environ.get("NATS_URL", "nats://127.0.0.1:4222").split(",")
LOGIN = {"user": os.environ.get("NATS_USER"), "password": os.environ.get("NATS_PASSWORD")}


async def told(js):
    """A line a stream; a stream without a leader takes no message."""
    lines = []
    for info in await js.streams_info():
        if info.cluster is None:
            continue  # a server without a cluster
        behind = [peer.name for peer in info.cluster.replicas or [] if not peer.current]
        lines.append(
            f"{info.config.name}: led by {info.cluster.leader or 'nobody'}"
            + (f", behind: {', '.join(sorted(behind))}" if behind else "")
        )
    return lines


async def lost(error):
    print("connection:", error, file=sys.stderr)


async def main():
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: loop.call_soon_threadsafe(stop.set))
    nc = await nats.connect(
        SERVERS, **LOGIN, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=lost
    )
    js = nc.jetstream(timeout=2)
    before = None
    while not stop.is_set():
        try:
            now = await told(js)
        except (TimeoutError, nats.errors.Error) as error:
            now = [f"no answer: {type(error).__name__}"]  # the meta group has no leader, or a node went
        if now != before:
            print("\n".join(now), flush=True)
        before = now
        try:
            await asyncio.wait_for(stop.wait(), 0.5)
        except TimeoutError:
            pass
    await nc.drain()


asyncio.run(main())
