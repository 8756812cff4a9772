async def serve(nc, subject):
    async def hold(msg):
        await msg.respond(json.dumps({"left": stock["1082185"]}).encode())

    await nc.subscribe(subject, cb=hold)
