recovered = {}
advisory = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TILL.till"
await js.add_stream(name="LETTERS", subjects=[advisory])
await js.add_stream(name="TILL", subjects=["till.*"])
for order in orders(10):
    await publish_with_retry(js, "till.new", order.payload(), f"order-{order.id}")
await js.add_consumer("TILL", durable_name="till", max_deliver=2)
await cluster.known("TILL", "till")
sub = await js.pull_subscribe_bind("till", "TILL")
for msg in await sub.fetch(10, timeout=2):
    if msg.metadata.sequence.stream != 4:
        await msg.ack_sync()
await sub.unsubscribe()
