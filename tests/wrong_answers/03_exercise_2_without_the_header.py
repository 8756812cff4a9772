async def serve(nc, subject):
    async def quote(msg, name):
        await nc.publish(msg.reply, json.dumps({"responder": name}).encode())

    for name in ("one", "two"):
        await nc.subscribe(subject, queue="price", cb=partial(quote, name=name))
