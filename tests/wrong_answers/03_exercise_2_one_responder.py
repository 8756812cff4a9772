async def serve(nc, subject):
    async def quote(msg):
        await msg.respond(json.dumps({"responder": "one"}).encode())

    await nc.subscribe(subject, queue="price", cb=quote)
