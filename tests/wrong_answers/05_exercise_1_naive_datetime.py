from datetime import timedelta, timezone

await js.add_stream(name="HISTORY", subjects=["history"], allow_batched=True)
await bulk.publish(nc, [("history", b"%d" % n, None) for n in range(100)])
moment = (await js.get_msg("HISTORY", 60)).time
wall_clock = moment.astimezone(timezone(timedelta(hours=-5))).replace(tzinfo=None)
config = ConsumerConfig(
    durable_name="since", ack_policy="none", deliver_policy="by_start_time", opt_start_time=wall_clock
)
await js.add_consumer("HISTORY", config)
