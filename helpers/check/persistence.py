"""The exercises of notebook 01."""

from nats.js import JetStreamContext
from nats.js.api import PubAck

from ..orders import orders
from . import Outcome, correct, exercise, not_attempted, not_yet, stream_of


@exercise
async def bounded_stream(js: JetStreamContext) -> Outcome:
    """Exercise 1: BASKETS on `baskets.*` refuses the sixth message of a subject, and keeps the five."""
    info = await stream_of(js, "BASKETS")
    if info is None:
        return not_attempted("the cluster has no stream BASKETS yet.")
    config = info.config
    if config.subjects != ["baskets.*"]:
        return not_yet(f"BASKETS listens on {config.subjects}, the services publish to baskets.<customer>.")
    if config.max_msgs_per_subject != 5:
        return not_yet(
            f"the server says max_msgs_per_subject={config.max_msgs_per_subject}, "
            f"max_msgs={config.max_msgs}: which of them counts each subject on its own?"
        )
    if config.discard != "new":
        return not_yet("discard is old: the sixth message would push the first out instead of being refused.")
    if not config.discard_new_per_subject:
        return not_yet("discard is new for the stream as a whole, discard_new_per_subject is still False.")
    return correct("five are kept, the sixth is refused with 10077.")


@exercise
async def retried_once(js: JetStreamContext, acks: list[PubAck]) -> Outcome:
    """Exercise 2: 20 orders published twice to RETRIES; the stream holds 20, `acks` the 40 answers."""
    info = await stream_of(js, "RETRIES")
    if info is None:
        if not acks:
            return not_attempted("the cluster has no stream RETRIES, and `acks` is empty.")
        return not_yet("the cluster has no stream RETRIES.")
    stored, duplicates = info.state.messages, sum(bool(ack.duplicate) for ack in acks)
    if len(acks) != 40:
        return not_yet(f"`acks` holds {len(acks)} answers; 20 orders sent twice get 40.")
    if stored != 20:
        return not_yet(
            f"RETRIES holds {stored} messages and marked {duplicates} of the answers as duplicates: "
            "what would tell the server that two messages are the same order?"
        )
    if duplicates != 20:
        return not_yet(f"RETRIES holds 20 messages, but {duplicates} answers say duplicate=True.")
    return correct("40 answers, 20 duplicates, 20 messages stored.")


@exercise
async def gone_orders(js: JetStreamContext, gone: list[int]) -> Outcome:
    """Exercise 3: LATEST got 60 orders and holds 50; `gone` has the IDs of the ten that it dropped."""
    info = await stream_of(js, "LATEST")
    if info is None:
        return not_attempted("the cluster has no stream LATEST yet.")
    if info.state.last_seq != 60:
        return not_yet(f"LATEST has acknowledged {info.state.last_seq} messages; publish orders(60), once.")
    if info.state.messages != 50:
        return not_yet(f"LATEST holds {info.state.messages}: which limit counts all messages of a stream?")
    ids = [order.id for order in orders(60)]
    named = [int(id_) for id_ in gone]
    if unknown := set(named) - set(ids):
        return not_yet(f"{min(unknown)} is the ID of none of the sixty: the payload has it, as `id`.")
    if wrong := set(named) - set(ids[:10]):
        return not_yet(f"{len(wrong)} of those in `gone` are still in LATEST: which end was discarded?")
    if sorted(named) != sorted(ids[:10]):
        return not_yet(f"`gone` has {len(named)} IDs, {len(set(named))} different ones; ten orders are gone.")
    return correct("60 acknowledged, 50 kept, and you can name the other ten.")


@exercise
async def auditable_queue(js: JetStreamContext) -> Outcome:
    """Exercise 4: JOBS is a work queue whose ten jobs are done; another stream still has all ten."""
    info = await stream_of(js, "JOBS")
    if info is None:
        return not_attempted("the cluster has no stream JOBS yet.")
    if info.config.retention != "workqueue":
        return not_yet(f"JOBS has retention {info.config.retention}; the task is about a work queue.")
    audit = await stream_of(js, "AUDIT")
    if audit is None:
        return not_yet("there is no stream AUDIT: who keeps what JOBS removes?")
    if not info.config.republish and not audit.config.sources:
        return not_yet("JOBS does not republish, and AUDIT has no source: how would a job get there?")
    if info.state.last_seq == 0:
        return not_yet("JOBS and AUDIT stand; publish the ten jobs.")
    if audit.state.messages != 10:
        return not_yet(f"{info.state.last_seq} jobs went through JOBS, AUDIT holds {audit.state.messages}.")
    if info.state.messages:
        return not_yet(f"AUDIT is complete; {info.state.messages} jobs still wait in JOBS for a worker.")
    workers = [consumer for consumer in await js.consumers_info("JOBS") if consumer.ack_floor.stream_seq]
    if not any(not worker.name.startswith("JS_SRC_") for worker in workers):
        return not_yet("JOBS is empty, but no worker acknowledged anything: who drained it?")
    return correct("JOBS is empty, and AUDIT can replay all ten.")
