await js.add_stream(name="RETRIES", subjects=["retries"])
await cluster.known("RETRIES")
acks = []
for order in orders(20):
    headers = {"Nats-Msg-Id": f"order-{order.id}"}
    acks.append(await js.publish("retries", order.payload(), headers=headers))
