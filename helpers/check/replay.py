"""The exercises of notebook 05."""

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from ..orders import orders
from . import Outcome, consumer_of, correct, exercise, not_attempted, not_yet, stream_of


@exercise
async def from_moment(js: JetStreamContext) -> Outcome:
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


@exercise
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


@exercise
async def resumed(js: JetStreamContext, total: int | None) -> Outcome:
    """Exercise 3: BOOKS has 200 orders, `tail` brings 151 to 200, `total` is all of them in cents."""
    info = await stream_of(js, "BOOKS")
    if info is None:
        return not_attempted("the cluster has no stream BOOKS yet.")
    if info.state.last_seq != 200:
        return not_yet(f"BOOKS has stored {info.state.last_seq} messages, the task is about orders(200).")
    consumer = await consumer_of(js, "BOOKS", "tail")
    if consumer is None:
        return not_yet("BOOKS stands, but has no consumer `tail`.")
    brings = consumer.delivered.consumer_seq + consumer.num_pending
    if brings != 50:
        return not_yet(f"`tail` brings {brings} messages; behind the snapshot there are 50.")
    if total is None:
        return not_yet("`tail` brings the right fifty; what do they and the snapshot sum to, in `total`?")
    off = total - sum(order.cents for order in orders(200))
    if 0 < abs(off) < 50:
        return not_yet(f"`total` is {off:+} cents off: what makes whole cents of 19.99 dollars?")
    if off:
        return not_yet(f"`total` is {off:+} cents off: does it hold the snapshot and the tail, in cents?")
    return correct("fifty messages instead of two hundred, and the same total to the cent.")


@exercise
async def erased(js: JetStreamContext) -> Outcome:
    """Exercise 4: of 200 orders in TILLS those of customer 900 are gone, all others are there."""
    info = await stream_of(js, "TILLS")
    if info is None:
        return not_attempted("the cluster has no stream TILLS yet.")
    if info.state.last_seq != 200:
        return not_yet(f"TILLS has stored {info.state.last_seq} messages, the task is about orders(200).")
    subjects = [f"tills.{order.store}" for order in orders(200)]
    if not set(info.state.subjects or {}) <= set(subjects):
        return not_yet("an order belongs on the subject `tills.<store>`.")
    theirs = {seq for seq, order in enumerate(orders(200), 1) if order.customer == 900}
    held = {subject: subjects.count(subject) for subject in set(subjects)}
    if info.state.subjects == held:
        return not_yet(f"all 200 orders are there, {len(theirs)} of them customer 900's.")
    left = await _left(js, "TILLS", theirs)
    others = info.state.messages - len(left)
    if others != 200 - len(theirs):
        return not_yet(
            f"of the {200 - len(theirs)} orders of others {others} are left: what does a purge go by?"
        )
    if left:
        return not_yet(f"message {min(left)} is customer 900's, and still there: sequences start at 1.")
    return correct("customer 900 is gone from the stream and its file, the other 196 orders are there.")


async def _left(js: JetStreamContext, stream: str, seqs: set[int]) -> set[int]:
    """Those of the sequences that the stream still holds."""
    left = set()
    for seq in seqs:
        try:
            await js.get_msg(stream, seq)
        except NotFoundError:
            continue
        left.add(seq)
    return left
