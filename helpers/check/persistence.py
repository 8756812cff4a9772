"""The exercises of notebook 01."""

from nats.js import JetStreamContext

from . import Outcome, correct, not_attempted, not_yet, stream_of


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
    return correct("five are kept, the sixth is refused with 400/10077.")


async def retried_once(js: JetStreamContext, acks: list) -> Outcome:
    """Exercise 2: 20 orders published twice to RETRIES; the stream holds 20, `acks` the 40 answers."""
    info = await stream_of(js, "RETRIES")
    if not acks and (info is None or not info.state.messages):
        return not_attempted("`acks` is empty and RETRIES holds nothing.")
    if info is None:
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
        return not_yet(f"RETRIES holds 20 messages, but only {duplicates} answers say duplicate=True.")
    return correct("40 answers, 20 duplicates, 20 messages stored.")


async def auditable_queue(js: JetStreamContext) -> Outcome:
    """Exercise 3: JOBS is a work queue whose ten jobs are done; another stream still has all ten."""
    info = await stream_of(js, "JOBS")
    if info is None:
        return not_attempted("the cluster has no stream JOBS yet.")
    if info.config.retention != "workqueue":
        return not_yet(f"JOBS has retention {info.config.retention}; the task is about a work queue.")
    republished = info.config.republish.dest.split(".")[0] if info.config.republish else None
    audits = [
        other
        for other in await js.streams_info()
        if any(source.name == "JOBS" for source in other.config.sources or [])
        or any(subject.split(".")[0] == republished for subject in other.config.subjects or [])
    ]
    if not audits:
        return not_yet("no other stream listens to what JOBS republishes, and none sources JOBS.")
    kept = max(other.state.messages for other in audits)
    if info.state.last_seq == 0:
        return not_yet("JOBS and its audit stand; publish the ten jobs.")
    if kept != 10:
        return not_yet(f"{info.state.last_seq} jobs went through JOBS, the audit stream holds {kept}.")
    if info.state.messages:
        return not_yet(f"the audit is complete; {info.state.messages} jobs still wait in JOBS for a worker.")
    workers = [consumer for consumer in await js.consumers_info("JOBS") if consumer.ack_floor.stream_seq]
    if not any(not worker.name.startswith("JS_SRC_") for worker in workers):
        return not_yet("JOBS is empty, but no worker acknowledged anything: who drained it?")
    return correct("JOBS is empty, its audit stream can replay all ten.")
