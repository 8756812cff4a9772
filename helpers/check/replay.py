"""The exercises of notebook 05."""

import contextlib

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from ..orders import orders
from . import consumer_of, exercise, need, stream_of


@exercise
async def from_moment(js: JetStreamContext) -> str:
    """Exercise 1: `since` replays HISTORY from the moment message 60 of 100 was stored, without acks."""
    last = (await stream_of(js, "HISTORY")).state.last_seq
    need(last == 100, f"HISTORY has stored {last} messages, the task is about 100.")
    since = await consumer_of(js, "HISTORY", "since")
    policy, acks = since.config.deliver_policy, since.config.ack_policy
    need(policy == "by_start_time", f"`since` starts with deliver_policy={policy}, not from a time.")
    need(acks == "none", f"`since` has ack_policy={acks}: the server waits for acks nobody sends.")
    off = since.config.opt_start_time - (await js.get_msg("HISTORY", 60)).time
    hours = off.total_seconds() / 3600
    need(abs(hours) < 0.5, f"your start is {hours:+.1f} hours from message 60: which zone was it in?")
    waiting = since.delivered.consumer_seq + since.num_pending
    need(waiting == 41, f"`since` replays {waiting} messages; from message 60 to 100 there are 41.")
    return "`since` replays 41 messages, the first of them number 60."


@exercise
async def rewound(js: JetStreamContext) -> str:
    """Exercise 2: the durable `cashier` of TILL had acknowledged all 50 and is set back to 21."""
    held = (await stream_of(js, "TILL")).state.messages
    need(held == 50, f"TILL holds {held} messages, the task is about 50.")
    cashier = await consumer_of(js, "TILL", "cashier")
    policy, floor = cashier.config.deliver_policy, cashier.ack_floor.stream_seq
    need(policy == "all", f"`cashier` has deliver_policy={policy}: it was made anew, not set back.")
    need(floor != 50, "`cashier` has acknowledged up to 50, and nothing has set it back.")
    need(not cashier.num_ack_pending, f"{cashier.num_ack_pending} messages wait for their acknowledgement.")
    need(floor == 20, f"the next message of `cashier` is {floor + 1}, it should be 21.")
    return "`cashier` goes on with message 21 and has 30 to do."


@exercise
async def resumed(js: JetStreamContext, total: int | None) -> str:
    """Exercise 3: BOOKS has 200 orders, `tail` brings 151 to 200, `total` is all of them in cents."""
    last = (await stream_of(js, "BOOKS")).state.last_seq
    need(last == 200, f"BOOKS has stored {last} messages, the task is about orders(200).")
    tail = await consumer_of(js, "BOOKS", "tail")
    brings = tail.delivered.consumer_seq + tail.num_pending
    need(brings == 50, f"`tail` brings {brings} messages; behind the snapshot there are 50.")
    need(total is not None, "`tail` is right; what do its fifty and the snapshot sum to, in `total`?")
    off = total - sum(order.cents for order in orders(200))
    need(not 0 < abs(off) < 50, f"`total` is {off:+} cents off: what makes whole cents of 19.99 dollars?")
    need(not off, f"`total` is {off:+} cents off: does it hold the snapshot and the tail, in cents?")
    return "fifty messages instead of two hundred, and the same total to the cent."


@exercise
async def erased(js: JetStreamContext) -> str:
    """Exercise 4: of 200 orders in TILLS those of customer 900 are gone, all others are there."""
    state = (await stream_of(js, "TILLS")).state
    need(state.last_seq == 200, f"TILLS has stored {state.last_seq}, the task is about orders(200).")
    stores = {f"tills.{order.store}" for order in orders(200)}
    need(set(state.subjects or {}) <= stores, "an order belongs on the subject `tills.<store>`.")
    theirs = [seq for seq, order in enumerate(orders(200), 1) if order.customer == 900]
    left = []
    for seq in theirs:
        with contextlib.suppress(NotFoundError):
            left.append((await js.get_msg("TILLS", seq)).seq)
    need(state.messages < 200, "all 200 orders are there: nobody is forgotten yet.")
    others, all_ = state.messages - len(left), 200 - len(theirs)
    need(others == all_, f"of the {all_} orders of others {others} are left: what does a purge go by?")
    need(not left, f"messages {left} are customer 900's, and still there: sequences start at 1.")
    return f"customer 900 is gone from the stream and its file, the other {all_} orders are there."
