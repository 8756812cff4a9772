await js.add_stream(name="LANES", subjects=["lanes.*"])
for order in orders(30):
    await publish_with_retry(js, f"lanes.{order.customer}", order.payload(), f"order-{order.id}")
