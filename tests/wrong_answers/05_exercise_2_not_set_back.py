await js.add_stream(name="TILL", subjects=["till"], allow_batched=True)
await bulk.publish(nc, [("till", b"%d" % n, None) for n in range(50)])
cashier = await js.pull_subscribe("till", durable="cashier", stream="TILL")
await cluster.known("TILL", "cashier")
for msg in await cashier.fetch(50, timeout=5):
    await msg.ack_sync()
