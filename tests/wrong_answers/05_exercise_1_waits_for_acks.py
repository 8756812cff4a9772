await js.add_stream(name="HISTORY", subjects=["history"], allow_batched=True)
await bulk.publish(nc, [("history", b"%d" % n, None) for n in range(100)])
moment = (await js.get_msg("HISTORY", 60)).time
config = ConsumerConfig(durable_name="since", deliver_policy="by_start_time", opt_start_time=moment)
await js.add_consumer("HISTORY", config)
