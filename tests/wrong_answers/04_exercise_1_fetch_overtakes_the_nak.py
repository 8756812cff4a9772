await js.add_stream(name="DESK", subjects=["desk"])
await js.add_consumer("DESK", durable_name="desk")
for n in range(8):
    await publish_with_retry(js, "desk", b"", f"desk-{n}")
await cluster.known("DESK", "desk")
worker = await js.pull_subscribe_bind("desk", "DESK")
first, second, third, fourth = await worker.fetch(4)
await first.ack_sync()
await second.ack_sync()
await worker.fetch(1)  # what a nak that nobody waits for comes to, now and then
await third.nak()
