await js.add_stream(name="LATEST", subjects=["latest.*"], max_msgs_per_subject=50)
await cluster.known("LATEST")
for order in orders(50):
    await js.publish("latest.new", order.payload())
gone = []
