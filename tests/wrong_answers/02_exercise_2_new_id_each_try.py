async def publish_once(js, order):
    for attempt in range(10):
        try:
            headers = {"Nats-Msg-Id": f"order-{order.id}-{attempt}"}
            return await js.publish("checked.new", order.payload(), 0.5, headers=headers)
        except (nats.errors.TimeoutError, NoStreamResponseError):
            pass
