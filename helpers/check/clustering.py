"""The exercises of notebook 02."""

import contextlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import NoStreamResponseError, NotFoundError

from ..lesson import retry
from ..orders import orders
from . import exercise, need, stream_of


@exercise
async def two_losses(js: JetStreamContext, stops: list[str], survives: list[str]) -> str:
    """Exercise 1: BASKETS has three replicas; `stops` are two of its nodes, `survives` are not both."""
    info = await stream_of(js, "BASKETS")
    holders = {info.cluster.leader, *(peer.name for peer in info.cluster.replicas or [])}
    said = f"BASKETS has {len(holders)} replicas on {info.config.subjects}."
    need(len(holders) == 3 and info.config.subjects == ["baskets.*"], said)
    for pair in (stops, survives):
        named = len(set(pair)) == 2 and all(str(node).startswith("nats-server-") for node in pair)
        need(named, f"{pair} are not the names of two nodes.")
    need(len(holders - set(survives)) > 1, f"without {survives} BASKETS has one of three: no majority.")
    need(len(holders - set(stops)) < 2, f"without {stops} BASKETS has two of three, which go on.")
    return f"two of {sorted(holders)} have to live, whoever leads; the fourth node has no say."


@exercise
async def publishes_once(js: JetStreamContext, publish_once: Callable[..., Awaitable]) -> str:
    """Exercise 2: `publish_once(js, order)` on `checked.new` survives a lost ack and a 503, stores once."""
    tries = 0

    async def publish(*args: object, **more: object) -> PubAck:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise NoStreamResponseError
        ack = await js.publish(*args, **more)
        if tries == 1:
            raise nats.errors.TimeoutError  # it is stored, but the publisher cannot know
        return ack

    with contextlib.suppress(NotFoundError):  # left by a check that was killed
        await js.delete_stream("CHECKED")
    await js.add_stream(name="CHECKED", subjects=["checked.*"])
    await retry(lambda: js.publish("checked.ready", b""))  # our node may not have heard of it
    try:
        ack = await publish_once(SimpleNamespace(publish=publish), orders(1)[0])
        stored = (await js.stream_info("CHECKED")).state.messages - 1
    finally:
        await js.delete_stream("CHECKED")
    need(tries, "publish_once published nothing.", "not attempted")
    need(tries > 2, f"a lost ack, then a 503: {tries} tries were not enough.")
    need(stored == 1, f"the order is stored {stored} times: what tells the server that it is the same one?")
    need(isinstance(ack, PubAck), "stored once; return the acknowledgement too.")
    return "a lost ack and a 503 later, the order is stored once."


@exercise
async def leaders_apart(js: JetStreamContext) -> str:
    """Exercise 3: SHOP_1 to SHOP_3, three replicas each, have their leaders on three nodes."""
    found = [await stream_of(js, f"SHOP_{n}", "not yet" if n > 1 else "not attempted") for n in (1, 2, 3)]
    copies, leaders = [i.config.num_replicas for i in found], [i.cluster.leader for i in found]
    need(copies == [3, 3, 3], f"the streams have {copies} replicas: nobody takes over for one.")
    need(len(set(leaders)) == 3, f"the leaders are on {leaders}.")
    return f"one leader each on {', '.join(leaders)}."


@exercise
async def moved(js: JetStreamContext) -> str:
    """Exercise 4: REPORTS, one replica, stands on nats-server-4 with the 500 messages it had."""
    info = await retry(lambda: stream_of(js, "REPORTS"), 10)  # while it moves, it may not answer
    config, state, leader = info.config, info.state, info.cluster.leader
    tags = config.placement and config.placement.tags
    need(config.num_replicas == 1, f"REPORTS has {config.num_replicas} replicas; move it, do not copy it.")
    need(state.last_seq == state.messages == 500, f"REPORTS holds {state.messages}, it had 500.")
    stays = leader == "nats-server-4" or tags != ["nats-server-1"]
    need(stays, "REPORTS is on nats-server-1, where its placement keeps it.", "not attempted")
    need(leader == "nats-server-4", f"REPORTS is on {leader or 'its way'}, its placement asks for {tags}.")
    need(tags == ["nats-server-4"], "REPORTS is there by chance: nothing in its placement keeps it.")
    return "REPORTS moved to nats-server-4 with its 500 messages."


@exercise
async def survives_region(js: JetStreamContext, region: str) -> str:
    """Exercise 5: SALES lives in `region`; SALES_COPY is whole elsewhere, and survives a node there too."""
    copy, source = await stream_of(js, "SALES_COPY"), await stream_of(js, "SALES")
    here, there, mirror = source.cluster.name, copy.cluster.name, copy.config.mirror
    need(here == region, f"SALES moved to {here}: leave it in {region}, where its orders are.")
    need(there != region, f"SALES_COPY stands in {region}, beside SALES: one disaster takes both.")
    need(mirror and mirror.name == "SALES", "SALES_COPY is no mirror: tomorrow's orders will be missing.")
    need(copy.config.num_replicas == 3, "SALES_COPY has one replica: one dead node and it is gone.")
    held, copied = source.state.messages, copy.state.messages
    need(held == copied, f"SALES holds {held}, SALES_COPY {copied}: it catches up.")
    return f"SALES in {region}, its mirror with three replicas in {there}."
