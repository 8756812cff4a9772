async def serve(nc, subject):
    async def quote(msg, name):
        await msg.respond(json.dumps({"responder": name}).encode())

    for name in ("one", "two"):
        await nc.subscribe(subject, queue=name, cb=partial(quote, name=name))
