await js.add_stream(name="BILLS", subjects=["bills.*"])


async def bill(order):
    await js.publish("bills.new", order.payload())
