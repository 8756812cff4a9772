await js.add_stream(name="RETRIES", subjects=["retries"])
acks = []
for _ in (1, 2):
    for order in orders(20):
        acks.append(await js.publish("retries", order.payload(), timeout=5))
