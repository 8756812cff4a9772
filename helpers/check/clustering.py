"""The exercises of notebook 02."""

import contextlib
from collections.abc import Awaitable, Callable

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import PubAck, StreamInfo
from nats.js.errors import NoStreamResponseError, NotFoundError

from ..lesson import retry
from ..orders import Order, orders
from . import Outcome, correct, exercise, not_attempted, not_yet, stream_of

ORIGIN, TARGET = "nats-server-1", "nats-server-4"
REPORTS = 500


def _holders(info: StreamInfo) -> set[str]:
    """The nodes that have a replica of the stream."""
    return {info.cluster.leader, *(peer.name for peer in info.cluster.replicas or [])}


@exercise
async def two_losses(js: JetStreamContext, stops: list[str], survives: list[str]) -> Outcome:
    """Exercise 1: BASKETS has three replicas; `stops` are two of its nodes, `survives` are not both."""
    if not (info := await stream_of(js, "BASKETS")):
        return not_attempted("there is no stream BASKETS yet.")
    holders = _holders(info)
    if len(holders) != 3 or info.config.subjects != ["baskets.*"]:
        return not_yet(f"BASKETS has {len(holders)} replicas on {info.config.subjects}.")
    for name, pair in {"stops": stops, "survives": survives}.items():
        if len(set(pair)) != 2 or not all(str(node).startswith("nats-server-") for node in pair):
            return not_yet(f"{name} is {pair}: it takes the names of two nodes.")
    if len(left := holders - set(survives)) < 2:
        return not_yet(f"without {survives} only {left} has BASKETS: one of three is no majority.")
    if len(left := holders - set(stops)) > 1:
        return not_yet(f"without {stops} {sorted(left)} have BASKETS: two of three go on.")
    return correct(f"two of {sorted(holders)} have to live, whoever leads; the fourth node has no say.")


class Unreliable:
    """A JetStream context whose first two publishes fail: the first one's ack is lost, then 503."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self.tries = 0

    async def publish(self, *args: object, **more: object) -> PubAck:
        self.tries += 1
        if self.tries == 2:
            raise NoStreamResponseError
        ack = await self._js.publish(*args, **more)
        if self.tries == 1:
            raise nats.errors.TimeoutError  # it is stored, but the publisher cannot know
        return ack


@exercise
async def publishes_once(
    js: JetStreamContext, publish_once: Callable[[JetStreamContext, Order], Awaitable[PubAck | None]]
) -> Outcome:
    """Exercise 2: `publish_once(js, order)` on `checked.new` survives a lost ack and a 503, stores once."""
    with contextlib.suppress(NotFoundError):
        await js.delete_stream("CHECKED")  # of a check that was stopped
    await js.add_stream(name="CHECKED", subjects=["checked.*"])
    await retry(lambda: js.publish("checked.ready", b""))  # our node may not have heard of it
    unreliable = Unreliable(js)
    try:
        ack = await publish_once(unreliable, orders(1)[0])
        stored = (await js.stream_info("CHECKED")).state.messages - 1
    except TimeoutError:
        return not_yet("a time-out ended it: the message may be stored, and nobody knows.")
    except NoStreamResponseError:
        return not_yet("the 503 ended it: while a leader is elected nobody answers, for some seconds.")
    finally:
        await js.delete_stream("CHECKED")
    if not unreliable.tries:
        return not_attempted("publish_once published nothing.")
    if unreliable.tries < 3:
        return not_yet(f"the ack was lost, then there was a 503: {unreliable.tries} tries were not enough.")
    if stored != 1:
        return not_yet(f"the order is stored {stored} times: the server cannot tell that it is the same one.")
    if not isinstance(ack, PubAck):
        return not_yet("stored once; return the acknowledgement too, the caller wants its sequence.")
    return correct("a lost ack and a 503 later, the order is stored once.")


@exercise
async def leaders_apart(js: JetStreamContext) -> Outcome:
    """Exercise 3: SHOP_1 to SHOP_3, three replicas each, have their leaders on three nodes."""
    found = [await stream_of(js, f"SHOP_{n}") for n in (1, 2, 3)]
    if not any(found):
        return not_attempted("there is no stream SHOP_1 yet.")
    if not all(found):
        return not_yet("of SHOP_1, SHOP_2 and SHOP_3 one is missing.")
    few = [info.config.name for info in found if info.config.num_replicas != 3]
    if few:
        return not_yet(f"{few[0]} has one copy: nobody takes over when its node dies.")
    leaders = [info.cluster.leader for info in found]
    if len(set(leaders)) < 3:
        return not_yet(f"the leaders are on {leaders}.")
    return correct(f"one leader each on {', '.join(leaders)}.")


@exercise
async def moved(js: JetStreamContext) -> Outcome:
    """Exercise 4: REPORTS, one replica, stands on nats-server-4 with the 500 messages it had."""
    try:
        info = await stream_of(js, "REPORTS")
    except nats.errors.Error as error:
        return not_yet(f"REPORTS does not answer ({error}); while it moves it may not: ask again.")
    if not info:
        return not_attempted("the cluster has no stream REPORTS yet.")
    tags = info.config.placement.tags if info.config.placement else None
    if info.config.num_replicas != 1:
        return not_yet(f"REPORTS has {info.config.num_replicas} replicas; it is to be moved, not copied.")
    if info.state.last_seq != REPORTS or info.state.messages != REPORTS:
        return not_yet(f"REPORTS holds {info.state.messages} up to {info.state.last_seq}, it had {REPORTS}.")
    if info.cluster.leader != TARGET:
        if tags == [ORIGIN]:
            return not_attempted(f"REPORTS is on {ORIGIN}, where its placement keeps it.")
        return not_yet(f"REPORTS is on {info.cluster.leader or 'its way'}, its placement asks for {tags}.")
    if tags != [TARGET]:
        return not_yet(f"REPORTS is on {TARGET} by chance: nothing in its placement keeps it there.")
    return correct(f"REPORTS moved to {TARGET} with its {REPORTS} messages.")


@exercise
async def survives_region(js: JetStreamContext, region: str) -> Outcome:
    """Exercise 5: SALES lives in `region`; SALES_COPY is whole elsewhere, and survives a node there too."""
    source, copy = await stream_of(js, "SALES"), await stream_of(js, "SALES_COPY")
    if not copy or not source:
        return not_attempted("the supercluster has no stream SALES_COPY yet.")
    if source.cluster.name != region:
        return not_yet(f"SALES moved to {source.cluster.name}: leave it in {region}, where its orders are.")
    if copy.cluster.name == region:
        return not_yet(f"SALES_COPY stands in {region}, beside SALES: one disaster takes both.")
    if not (copy.config.mirror and copy.config.mirror.name == "SALES"):
        return not_yet("SALES_COPY does not mirror SALES, so tomorrow's orders will be missing in it.")
    if copy.config.num_replicas != 3:
        return not_yet(f"SALES_COPY has {copy.config.num_replicas} replica: one dead node and it is gone.")
    if copy.state.messages != source.state.messages:
        return not_yet(
            f"SALES holds {source.state.messages}, SALES_COPY {copy.state.messages}: it catches up."
        )
    return correct(f"SALES in {region}, its mirror with three replicas in {copy.cluster.name}.")
