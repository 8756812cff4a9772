recovered = {}
await js.add_stream(name="TILL", subjects=["till.*"])
await js.add_consumer("TILL", durable_name="till", max_deliver=2)
for order in orders(10):
    await publish_with_retry(js, "till.new", order.payload(), f"order-{order.id}")
