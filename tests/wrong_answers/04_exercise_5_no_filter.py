from nats.js.api import SubjectTransform

transform = SubjectTransform(src="lanes.*", dest="lanes.{{partition(3,1)}}.{{wildcard(1)}}")
await js.add_stream(name="LANES", subjects=["lanes.*"], subject_transform=transform)
for order in orders(30):
    await publish_with_retry(js, f"lanes.{order.customer}", order.payload(), f"order-{order.id}")
for lane in range(3):
    limits = dict(durable_name=f"lane-{lane}", max_ack_pending=1)
    await js.add_consumer("LANES", **limits)
