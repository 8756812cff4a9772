recovered = {}
await js.add_stream(name="TILL", subjects=["till.*"])
await js.add_consumer("TILL", ConsumerConfig(durable_name="till", max_deliver=2))
for order in orders(10):
    await keep("till.new", order.payload(), f"order-{order.id}")
