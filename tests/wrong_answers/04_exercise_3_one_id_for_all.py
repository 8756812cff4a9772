await js.add_stream(name="BILLS", subjects=["bills.*"])


async def bill(order):
    await publish_with_retry(js, "bills.new", order.payload(), "bill")
