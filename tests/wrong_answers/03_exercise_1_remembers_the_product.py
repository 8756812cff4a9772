shelf = {"1082185": 339}


async def serve(nc, subject):
    held = {}

    async def hold(msg):
        ask = json.loads(msg.data)
        if ask["productId"] not in held:
            shelf[ask["productId"]] -= ask["quantity"]
            held[ask["productId"]] = json.dumps({"left": shelf[ask["productId"]]}).encode()
        await msg.respond(held[ask["productId"]])

    await nc.subscribe(subject, cb=hold)
