await js.add_stream(name="BILLS", subjects=["bills.*"])
await cluster.known("BILLS")


async def bill(order):
    await js.publish("bills.new", order.payload())
