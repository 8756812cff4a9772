async def publish_once(js, order):
    headers = {"Nats-Msg-Id": f"order-{order.id}"}
    while True:
        try:
            return await js.publish("checked.new", order.payload(), 0.5, headers=headers)
        except nats.errors.TimeoutError:
            pass
