async def publish_once(js, order):
    headers = {"Nats-Msg-Id": f"order-{order.id}"}
    return await js.publish("checked.new", order.payload(), 0.5, headers=headers)
