"""The exercises of notebook 01."""

from nats.js import JetStreamContext
from nats.js.api import PubAck

from ..orders import orders
from . import exercise, need, stream_of


@exercise
async def bounded_stream(js: JetStreamContext) -> str:
    """Exercise 1: BASKETS on `baskets.*` refuses the sixth message of a subject, and keeps the five."""
    config = (await stream_of(js, "BASKETS")).config
    need(config.subjects == ["baskets.*"], f"BASKETS listens on {config.subjects}, not on baskets.*.")
    each, all_ = config.max_msgs_per_subject, config.max_msgs
    need(each == 5, f"max_msgs_per_subject={each}, max_msgs={all_}: which counts each subject on its own?")
    need(config.discard == "new", "discard is old: the sixth message would push the first out.")
    need(config.discard_new_per_subject, "discard is new for the stream, not yet for each subject.")
    return "five are kept, the sixth is refused with 10077."


@exercise
async def retried_once(js: JetStreamContext, acks: list[PubAck]) -> str:
    """Exercise 2: 20 orders published twice to RETRIES; the stream holds 20, `acks` the 40 answers."""
    stored = (await stream_of(js, "RETRIES")).state.messages
    need(len(acks) == 40, f"`acks` holds {len(acks)} answers; 20 orders sent twice get 40.")
    duplicates = sum(bool(ack.duplicate) for ack in acks)
    said = f"RETRIES holds {stored} messages, {duplicates} of the answers say duplicate=True: "
    need(stored == duplicates == 20, said + "what tells the server that two messages are the same order?")
    return "40 answers, 20 duplicates, 20 messages stored."


@exercise
async def gone_orders(js: JetStreamContext, gone: list[int]) -> str:
    """Exercise 3: LATEST got 60 orders and holds 50; `gone` has the IDs of the ten that it dropped."""
    state = (await stream_of(js, "LATEST")).state
    need(state.last_seq == 60, f"LATEST has acknowledged {state.last_seq}; publish orders(60), once.")
    need(state.messages == 50, f"LATEST holds {state.messages}: which limit counts all messages?")
    ids, named = [order.id for order in orders(60)], [int(id_) for id_ in gone]
    need(set(named) <= set(ids), "`gone` names what is none of the sixty: the payload has the ID, as `id`.")
    need(not set(named) & set(ids[10:]), "some in `gone` are still in LATEST: which end was discarded?")
    need(sorted(named) == sorted(ids[:10]), f"`gone` has {len(named)} IDs; ten orders are gone.")
    return "60 acknowledged, 50 kept, and you can name the other ten."


@exercise
async def auditable_queue(js: JetStreamContext) -> str:
    """Exercise 4: JOBS is a work queue whose ten jobs are done; another stream still has all ten."""
    jobs = await stream_of(js, "JOBS")
    need(jobs.config.retention == "workqueue", f"JOBS has retention {jobs.config.retention}: no work queue.")
    audit = await stream_of(js, "AUDIT", "not yet")
    need(jobs.config.republish or audit.config.sources, "neither does JOBS republish nor has AUDIT a source.")
    done, left = audit.state.messages, jobs.state.messages
    need(done == 10, f"{jobs.state.last_seq} jobs went through JOBS, AUDIT holds {done}.")
    need(not left, f"AUDIT is complete; {left} jobs still wait in JOBS for a worker.")
    workers = [c.name for c in await js.consumers_info("JOBS") if c.ack_floor.stream_seq]
    theirs = [name for name in workers if not name.startswith("JS_SRC_")]
    need(theirs, "JOBS is empty, but no worker acknowledged anything: who drained it?")
    return "JOBS is empty, and AUDIT can replay all ten."
