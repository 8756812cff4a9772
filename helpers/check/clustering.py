"""The exercises of notebook 02."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import NoStreamResponseError, NotFoundError

from ..orders import Order, orders
from . import Outcome, correct, not_attempted, not_yet

ORIGIN, TARGET = "nats-server-1", "nats-server-4"
REPORTS = 500


async def moved(js: JetStreamContext) -> Outcome:
    """Exercise 1: REPORTS, one replica, stands on nats-server-4 with the 500 messages it had."""
    try:
        info = await js.stream_info("REPORTS")
    except NotFoundError:
        return not_attempted("the cluster has no stream REPORTS yet.")
    except nats.errors.Error as error:
        return not_yet(f"REPORTS does not answer ({error}); while it moves it may not: ask again.")
    leader, messages = info.cluster.leader, info.state.messages
    if info.config.num_replicas != 1:
        return not_yet(f"REPORTS has {info.config.num_replicas} replicas; it is to be moved, not copied.")
    if info.state.last_seq != REPORTS or messages != REPORTS:
        return not_yet(f"REPORTS holds {messages} messages up to {info.state.last_seq}, it had {REPORTS}.")
    if leader != TARGET:
        tags = info.config.placement.tags if info.config.placement else None
        if tags == [ORIGIN]:
            return not_attempted(f"REPORTS is on {ORIGIN}, where its placement keeps it.")
        return not_yet(f"REPORTS is on {leader or 'its way'}, its placement asks for {tags}.")
    if not info.config.placement or info.config.placement.tags != [TARGET]:
        return not_yet(f"REPORTS is on {TARGET} by chance: nothing in its placement keeps it there.")
    return correct(f"REPORTS moved to {TARGET} with its {REPORTS} messages.")


class Unreliable:
    """A JetStream context whose first two publishes fail: the first one's ack is lost, then 503."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self.tries: list[dict] = []

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float | None = None,
        stream: str | None = None,
        headers: dict | None = None,
        **more: object,
    ) -> PubAck:
        self.tries.append(dict(headers or {}))
        if len(self.tries) == 2:
            raise NoStreamResponseError
        heard = time.monotonic() + 2
        while True:
            try:
                ack = await self._js.publish(subject, payload, timeout, stream, headers, **more)
                break
            except NoStreamResponseError:  # the stream is new, and our node may not have heard of it
                if time.monotonic() > heard:
                    raise
            await asyncio.sleep(0.02)
        if len(self.tries) == 1:
            raise nats.errors.TimeoutError  # it is stored, but the publisher cannot know
        return ack


async def publishes_once(
    js: JetStreamContext, publish_once: Callable[[JetStreamContext, Order], Awaitable[PubAck | None]]
) -> Outcome:
    """Exercise 2: `publish_once(js, order)` on `checked.new` survives a lost ack and a 503, stores once."""
    order = orders(1)[0]
    await js.add_stream(name="CHECKED", subjects=["checked.*"], storage="memory")
    unreliable = Unreliable(js)
    try:
        try:
            ack = await publish_once(unreliable, order)
        except nats.errors.TimeoutError:
            return not_yet("a timeout ended it: the message may be stored, and nobody knows.")
        except NoStreamResponseError:
            return not_yet("the 503 ended it: while a leader is elected nobody answers, for some seconds.")
        if not unreliable.tries:
            return not_attempted("publish_once published nothing.")
        stored = (await js.stream_info("CHECKED")).state.messages
    finally:
        await js.delete_stream("CHECKED")
    if len(unreliable.tries) < 3:
        return not_yet(
            f"the ack was lost, then there was a 503: {len(unreliable.tries)} tries were not enough."
        )
    if stored != 1:
        return not_yet(f"the order is stored {stored} times: the server cannot tell that it is the same one.")
    if not isinstance(ack, PubAck):
        return not_yet("stored once; return the acknowledgement too, the caller wants its sequence.")
    return correct("a lost ack and a 503 later, the order is stored once.")


async def survives_region(js: JetStreamContext, region: str) -> Outcome:
    """Exercise 3: SALES lives in `region`; SALES_COPY is whole elsewhere, and survives a node there too."""
    try:
        copy = await js.stream_info("SALES_COPY")
    except NotFoundError:
        return not_attempted("the supercluster has no stream SALES_COPY yet.")
    source = await js.stream_info("SALES")
    if source.cluster.name != region:
        return not_yet(f"SALES moved to {source.cluster.name}: leave it in {region}, where its orders are.")
    if copy.cluster.name == region:
        return not_yet(f"SALES_COPY stands in {region}, beside SALES: one disaster takes both.")
    if not (copy.config.mirror and copy.config.mirror.name == "SALES"):
        return not_yet("SALES_COPY does not mirror SALES, so tomorrow's orders will be missing in it.")
    if copy.config.num_replicas != 3:
        return not_yet(
            f"SALES_COPY has {copy.config.num_replicas} replica: one more dead node and it is gone."
        )
    if copy.state.messages != source.state.messages:
        return not_yet(
            f"SALES holds {source.state.messages}, SALES_COPY {copy.state.messages}: it catches up."
        )
    return correct(f"SALES in {region}, its mirror with three replicas in {copy.cluster.name}.")
