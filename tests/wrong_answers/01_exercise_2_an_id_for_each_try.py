await js.add_stream(name="RETRIES", subjects=["retries"])
acks = []
for attempt in (1, 2):
    for order in orders(20):
        acks.append(await keep("retries", order.payload(), f"{attempt}-{order.id}"))
