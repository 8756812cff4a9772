"""The exercises of notebook 05."""

from collections import Counter

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from ..orders import orders
from . import Outcome, consumer_of, correct, not_attempted, not_yet, stream_of


async def from_noon(js: JetStreamContext) -> Outcome:
    """Exercise 1: `since` replays HISTORY from the moment message 60 of 100 was stored, without acks."""
    info = await stream_of(js, "HISTORY")
    if info is None:
        return not_attempted("the cluster has no stream HISTORY yet.")
    if info.state.last_seq != 100:
        return not_yet(f"HISTORY has stored {info.state.last_seq} messages, the task is about 100.")
    consumer = await consumer_of(js, "HISTORY", "since")
    if consumer is None:
        return not_yet("HISTORY stands, but has no consumer `since`.")
    config = consumer.config
    if config.deliver_policy != "by_start_time":
        return not_yet(f"`since` starts with deliver_policy={config.deliver_policy}, not from a time.")
    if config.ack_policy != "none":
        return not_yet(f"`since` has ack_policy={config.ack_policy}: the server waits for acks nobody sends.")
    start = (await js.get_msg("HISTORY", 60)).time
    off = (config.opt_start_time - start).total_seconds()
    if abs(off) >= 1800:
        return not_yet(
            f"the server took your start as {config.opt_start_time:%H:%M} UTC, {off / 3600:+.1f} hours from "
            "message 60: which zone was your datetime in?"
        )
    waiting = consumer.delivered.consumer_seq + consumer.num_pending
    if waiting != 41:
        return not_yet(f"`since` replays {waiting} messages; from message 60 to 100 there are 41.")
    return correct("`since` replays 41 messages, the first of them number 60.")


async def rewound(js: JetStreamContext) -> Outcome:
    """Exercise 2: the durable `cashier` of TILL had acknowledged all 50 and is set back to 21."""
    info = await stream_of(js, "TILL")
    if info is None:
        return not_attempted("the cluster has no stream TILL yet.")
    if info.state.messages != 50:
        return not_yet(f"TILL holds {info.state.messages} messages, the task is about 50.")
    consumer = await consumer_of(js, "TILL", "cashier")
    if consumer is None:
        return not_yet("TILL stands, but has no consumer `cashier`.")
    if consumer.config.deliver_policy != "all":
        return not_yet(
            f"`cashier` starts with deliver_policy={consumer.config.deliver_policy}: it was made anew. "
            "Everybody who knows the old one keeps working when it is only set back."
        )
    floor = consumer.ack_floor.stream_seq
    if floor == 50:
        return not_yet("`cashier` has acknowledged up to 50, and nothing has set it back.")
    if consumer.num_ack_pending:
        return not_yet(f"{consumer.num_ack_pending} messages wait for their acknowledgement.")
    if floor != 20:
        return not_yet(f"the next message of `cashier` is {floor + 1}, it should be 21.")
    return correct("`cashier` goes on with message 21 and has 30 to do.")


async def purged(js: JetStreamContext) -> Outcome:
    """Exercise 3: of 200 orders in TILLS, store 381 keeps its last three, every other store all."""
    info = await stream_of(js, "TILLS")
    if info is None:
        return not_attempted("the cluster has no stream TILLS yet.")
    before = Counter(f"tills.{order.store}" for order in orders(200))
    if info.state.last_seq != 200:
        return not_yet(f"TILLS has stored {info.state.last_seq} messages, the task is about 200.")
    now = info.state.subjects or {}
    if now == before:
        return not_yet(f"all 200 orders are there, {now['tills.381']} of them of store 381.")
    others = sum(count for subject, count in before.items() if subject != "tills.381")
    left = sum(count for subject, count in now.items() if subject != "tills.381")
    if left != others:
        return not_yet(f"the other stores have {left} of their {others} orders left: what did you filter by?")
    if now.get("tills.381", 0) != 3:
        return not_yet(f"store 381 keeps {now.get('tills.381', 0)} orders, not 3.")
    last = [seq for seq, order in enumerate(orders(200), 1) if order.store == 381][-3:]
    for seq in last:
        try:
            await js.get_msg("TILLS", seq)
        except NotFoundError:
            return not_yet(f"three orders of store 381 are left, but number {seq}, one of its last, is gone.")
    return correct("store 381 keeps its last three orders, the other stores keep all.")
