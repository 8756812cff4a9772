await js.add_stream(name="RETRIES", subjects=["retries"])
acks = [await keep("retries", order.payload(), f"order-{order.id}") for order in orders(20)]
