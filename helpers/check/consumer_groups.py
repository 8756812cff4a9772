"""The exercises of notebook 04."""

import json
from collections.abc import Awaitable, Callable
from itertools import count, pairwise

from nats.js import JetStreamContext

from ..orders import Order, orders
from . import Outcome, consumer_of, correct, exercise, not_attempted, not_yet, stream_of

_fresh = count(step=10)  # ten other orders for each run of the check, whose message IDs are new


@exercise
async def three_numbers(js: JetStreamContext) -> Outcome:
    """Exercise 1: durable `desk` of DESK has 4 of eight messages pending, 2 ack pending, 1 redelivered."""
    stream = await stream_of(js, "DESK")
    if stream is None:
        return not_attempted("the cluster has no stream DESK yet.")
    if stream.state.last_seq != 8:
        return not_yet(f"DESK has acknowledged {stream.state.last_seq} messages; the task says eight.")
    info = await consumer_of(js, "DESK", "desk")
    if info is None:
        return not_yet("DESK has no durable `desk`.")
    found = [info.num_pending or 0, info.num_ack_pending or 0, info.num_redelivered or 0]
    said = "{} pending, {} ack pending, {} redelivered".format(*found)
    if found == [4, 2, 1]:
        return correct(said + ".")
    if found == [3, 3, 0]:
        return not_yet(f"the server says {said}: the fetch overtook the nak, which nobody waits for.")
    if found[0] > 4:
        return not_yet(f"the server says {said}: what has never been handed out is pending.")
    if found[1] > 2:
        return not_yet(f"the server says {said}: what is done has to be acknowledged.")
    return not_yet(f"the server says {said}: redelivered is handed out again, and still open.")


@exercise
async def recovered_letter(js: JetStreamContext, recovered: dict[int, bytes]) -> Outcome:
    """Exercise 2: LETTERS keeps the advisories on TILL's durable `till`, `recovered` payloads by sequence."""
    letters, till = await stream_of(js, "LETTERS"), await stream_of(js, "TILL")
    if letters is None and till is None and not recovered:
        return not_attempted("the cluster has neither TILL nor LETTERS, and `recovered` is empty.")
    if till is None:
        return not_yet("the cluster has no stream TILL.")
    info = await consumer_of(js, "TILL", "till")
    if info is None:
        return not_yet("TILL has no durable `till`.")
    if info.config.max_deliver != 2:
        return not_yet(f"`till` has max_deliver={info.config.max_deliver}, the task says two deliveries.")
    if letters is None:
        return not_yet("no stream LETTERS: an advisory that no stream listens to is gone.")
    if not letters.state.messages:
        return not_yet(
            f"LETTERS listens on {letters.config.subjects} and holds nothing: "
            f"`till` says redelivered={info.num_redelivered or 0}."
        )
    wanted: dict[int, bytes] = {}
    for seq in range(letters.state.first_seq, letters.state.last_seq + 1):
        letter = json.loads((await js.get_msg("LETTERS", seq)).data)
        if letter.get("consumer") == "till":
            wanted[letter["stream_seq"]] = (await js.get_msg("TILL", letter["stream_seq"])).data or b""
    if not wanted:
        return not_yet("LETTERS holds messages, none of them an advisory about `till`.")
    if recovered != wanted:
        return not_yet(
            f"LETTERS names the sequences {sorted(wanted)}, `recovered` holds {sorted(recovered)}"
            + (": what stands there is not what TILL stores." if recovered.keys() == wanted.keys() else ".")
        )
    return correct(f"{len(wanted)} given up, named by an advisory, payload recovered from TILL.")


@exercise
async def billed_once(js: JetStreamContext, bill: Callable[[Order], Awaitable]) -> Outcome:
    """Exercise 3: `bill(order)` is called twice for each of ten orders; BILLS then holds ten bills."""
    info = await stream_of(js, "BILLS")
    if info is None:
        return not_attempted("the cluster has no stream BILLS yet.")
    before = info.state.last_seq
    batch = orders(10, start=next(_fresh))
    for order in batch * 2:
        await bill(order)
    info = await stream_of(js, "BILLS")
    stored = info.state.last_seq - before if info else 0
    if stored != 10:
        return not_yet(
            f"20 deliveries of ten orders left {stored} bills"
            + (": what would tell the stream that two bills are the same?" if stored > 10 else ".")
        )
    kept = [(await js.get_msg("BILLS", info.state.last_seq - n)).data for n in range(10)]
    if sorted(kept) != sorted(order.payload() for order in batch):
        return not_yet("ten bills, but not one an order with the order's payload.")
    return correct("20 deliveries, 10 bills.")


@exercise
async def patient_retry(js: JetStreamContext, arrivals: list[float]) -> Outcome:
    """Exercise 4: durable `patient` on PATIENT retries after 1 s, after 3 s more, then gives up.

    `arrivals` holds the seconds (of one clock) at which the only message was delivered.
    """
    if await stream_of(js, "PATIENT") is None and not arrivals:
        return not_attempted("the cluster has no stream PATIENT, and `arrivals` is empty.")
    info = await consumer_of(js, "PATIENT", "patient")
    if info is None:
        return not_yet("the server knows no consumer `patient` on a stream PATIENT.")
    config = info.config
    if config.ack_policy != "explicit":
        return not_yet(f"ack_policy is {config.ack_policy}: without acks nothing is ever missing one.")
    if not config.backoff:
        return not_yet(f"the server would wait {config.ack_wait:g} s before every retry; it has no backoff.")
    if config.backoff != [1, 3]:
        return not_yet(
            f"the server says backoff={config.backoff}: the first retry after 1 s, the next 3 s later."
        )
    if config.max_deliver != 3:
        return not_yet(
            f"the server says max_deliver={config.max_deliver}: the first delivery counts as well, "
            "and a backoff's last value is used again and again."
        )
    if not info.delivered.consumer_seq:
        return not_yet("the consumer is right and has delivered nothing: publish one message, and fetch it.")
    if len(arrivals) != 3:
        return not_yet(f"`arrivals` holds {len(arrivals)} moments, the server counts 3 deliveries at most.")
    waits = [later - earlier for earlier, later in pairwise(arrivals)]
    if not (0.9 < waits[0] < 2.5 and 2.8 < waits[1] < 4.5):
        return not_yet(
            f"the retries came after {waits[0]:.1f} and {waits[1]:.1f} s: a message that is returned "
            "with nak does not wait for the backoff."
        )
    return correct("delivered three times, 1 s and 3 s apart, then given up.")


@exercise
async def ordered_lanes(js: JetStreamContext) -> Outcome:
    """Exercise 5: LANES partitions `lanes.<customer>` into three, a durable each, one message in flight."""
    info = await stream_of(js, "LANES")
    if info is None:
        return not_attempted("the cluster has no stream LANES yet.")
    transform = info.config.subject_transform
    if transform is None:
        return not_yet("LANES stores each subject as it comes: it has no subject_transform.")
    if "partition(3" not in transform.dest.lower().replace(" ", ""):
        return not_yet(f"LANES maps to {transform.dest}: where is the partition, one of three?")
    if info.state.messages != 30:
        return not_yet(f"LANES holds {info.state.messages} messages, the task says 30.")
    consumers = await js.consumers_info("LANES")
    if len(consumers) != 3:
        return not_yet(f"LANES has {len(consumers)} consumers; one a partition are three.")
    for consumer in consumers:
        if consumer.config.max_ack_pending != 1:
            return not_yet(
                f"{consumer.name} may have {consumer.config.max_ack_pending} messages in flight: "
                "the second can overtake the first."
            )
    seen = [(c.num_pending or 0) + (c.delivered.stream_seq and c.delivered.consumer_seq) for c in consumers]
    filters = {c.config.filter_subject for c in consumers}
    if len(filters) != 3 or sum(seen) != 30:
        return not_yet(
            f"the consumers see {' + '.join(map(str, seen))} of the 30 messages through the filters "
            f"{', '.join(sorted(map(str, filters)))}: each message belongs to one of them."
        )
    return correct(f"{' + '.join(map(str, seen))} messages, each partition with one in flight.")
