await js.add_stream(name="LATEST", subjects=["latest.*"], max_msgs=50)
await cluster.known("LATEST")
for order in orders(60):
    await js.publish("latest.new", order.payload())
state = (await js.stream_info("LATEST")).state
gone = list(range(1, state.first_seq))
