await js.add_stream(name="HISTORY", subjects=["history"], allow_batched=True)
await bulk.publish(nc, [("history", b"%d" % n, None) for n in range(100)])
await js.add_consumer("HISTORY", ConsumerConfig(durable_name="since", ack_policy="none"))
