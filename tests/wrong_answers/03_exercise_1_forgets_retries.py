shelf = {"1082185": 339}


async def serve(nc, subject):
    async def hold(msg):
        ask = json.loads(msg.data)
        shelf[ask["productId"]] -= ask["quantity"]
        await msg.respond(json.dumps({"left": shelf[ask["productId"]]}).encode())

    await nc.subscribe(subject, cb=hold)
