"""The exercises of notebook 04."""

import json
from collections.abc import Awaitable, Callable
from itertools import count, pairwise

from nats.js import JetStreamContext

from ..orders import Order, orders
from . import consumer_of, exercise, need, stream_of

_fresh = count(step=10)  # other orders for each run of the check, whose message IDs are new


@exercise
async def three_numbers(js: JetStreamContext) -> str:
    """Exercise 1: durable `desk` of DESK has 4 of eight messages pending, 2 ack pending, 1 redelivered."""
    last = (await stream_of(js, "DESK")).state.last_seq
    need(last == 8, f"DESK has acknowledged {last} messages; the task says eight.")
    info = await consumer_of(js, "DESK", "desk")
    found = [info.num_pending or 0, info.num_ack_pending or 0, info.num_redelivered or 0]
    said = "{} pending, {} ack pending, {} redelivered".format(*found)
    need(found != [3, 3, 0], f"{said}: the fetch overtook the nak, which nobody waits for.")
    need(found[0] <= 4, f"{said}: what has never been handed out is pending.")
    need(found[1] <= 2, f"{said}: what is done has to be acknowledged.")
    need(found == [4, 2, 1], f"{said}: redelivered is handed out again, and still open.")
    return f"{said}."


@exercise
async def recovered_letter(js: JetStreamContext, recovered: dict[int, bytes]) -> str:
    """Exercise 2: LETTERS keeps the advisories on TILL's durable `till`, `recovered` payloads by sequence."""
    await stream_of(js, "TILL")
    twice = (await consumer_of(js, "TILL", "till")).config.max_deliver
    need(twice == 2, f"`till` has max_deliver={twice}, the task says two deliveries.")
    state = (await stream_of(js, "LETTERS", "not yet")).state
    wanted: dict[int, bytes] = {}
    for seq in range(state.first_seq or 1, state.last_seq + 1):
        letter = json.loads((await js.get_msg("LETTERS", seq)).data)
        if letter.get("consumer") == "till":
            wanted[letter["stream_seq"]] = (await js.get_msg("TILL", letter["stream_seq"])).data or b""
    need(wanted, f"LETTERS holds {state.messages} messages, none of them an advisory about `till`.")
    said = f"LETTERS names the sequences {sorted(wanted)}, `recovered` holds {sorted(recovered)}."
    need(recovered.keys() == wanted.keys(), said)
    need(recovered == wanted, "what stands in `recovered` is not what TILL stores.")
    return f"{len(wanted)} given up, named by an advisory, payload recovered from TILL."


@exercise
async def billed_once(js: JetStreamContext, bill: Callable[[Order], Awaitable]) -> str:
    """Exercise 3: `bill(order)` is called twice for each of ten orders; BILLS then holds ten bills."""
    before = (await stream_of(js, "BILLS")).state.last_seq
    batch = orders(10, start=next(_fresh))
    for order in batch * 2:
        await bill(order)
    last = (await stream_of(js, "BILLS")).state.last_seq
    said = f"20 deliveries of ten orders left {last - before} bills"
    need(last - before <= 10, f"{said}: what would tell the stream that two bills are the same?")
    need(last - before == 10, f"{said}.")
    kept = [(await js.get_msg("BILLS", last - n)).data for n in range(10)]
    same = sorted(kept) == sorted(order.payload() for order in batch)
    need(same, "ten bills, but not one an order with the order's payload.")
    return "20 deliveries, 10 bills."


@exercise
async def patient_retry(js: JetStreamContext, arrivals: list[float]) -> str:
    """Exercise 4: durable `patient` on PATIENT retries after 1 s, after 3 s more, then gives up."""
    await stream_of(js, "PATIENT")
    info = await consumer_of(js, "PATIENT", "patient")
    ack, backoff, most = info.config.ack_policy, info.config.backoff, info.config.max_deliver
    need(ack == "explicit", f"ack_policy is {ack}: without acks nothing is ever missing one.")
    need(backoff == [1, 3], f"backoff={backoff}: the first retry after 1 s, the next 3 s later.")
    need(most == 3, f"max_deliver={most}: the first delivery counts as well.")
    told, times = len(arrivals), info.delivered.consumer_seq
    need(told == 3 and times, f"`arrivals` holds {told} moments, the server delivered {times} times; not 3.")
    first, second = (later - earlier for earlier, later in pairwise(arrivals))
    said = f"the retries came after {first:.1f} and {second:.1f} s: nak does not wait for the backoff."
    need(0.9 < first < 2.5 and 2.8 < second < 4.5, said)
    return "delivered three times, 1 s and 3 s apart, then given up."


@exercise
async def ordered_lanes(js: JetStreamContext) -> str:
    """Exercise 5: LANES partitions `lanes.<customer>` into three, a durable each, one message in flight."""
    info = await stream_of(js, "LANES")
    dest = info.config.subject_transform.dest if info.config.subject_transform else "nothing"
    parted = "partition(3" in dest.lower().replace(" ", "")
    need(parted, f"LANES maps to {dest}: where is the partition, one of three?")
    need(info.state.messages == 30, f"LANES holds {info.state.messages} messages, the task says 30.")
    lanes = await js.consumers_info("LANES")
    need(len(lanes) == 3, f"LANES has {len(lanes)} consumers; one a partition are three.")
    flying = [lane.config.max_ack_pending for lane in lanes]
    need(flying == [1, 1, 1], f"max_ack_pending is {flying}: a second message can overtake the first.")
    seen = [(c.num_pending or 0) + (c.delivered.stream_seq and c.delivered.consumer_seq) for c in lanes]
    filters = {str(lane.config.filter_subject) for lane in lanes}
    said = " + ".join(map(str, seen)) + " messages"
    one_each = len(filters) == 3 and sum(seen) == 30
    need(one_each, f"{said} pass the filters {sorted(filters)}: each belongs to one of them.")
    return f"{said}, each partition with one in flight."
