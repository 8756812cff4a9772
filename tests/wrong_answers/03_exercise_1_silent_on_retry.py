shelf = {"1082185": 339}


async def serve(nc, subject):
    seen = set()

    async def hold(msg):
        id_ = msg.headers["X-Correlation-ID"]
        if id_ in seen:
            return
        seen.add(id_)
        ask = json.loads(msg.data)
        shelf[ask["productId"]] -= ask["quantity"]
        await msg.respond(json.dumps({"left": shelf[ask["productId"]]}).encode())

    await nc.subscribe(subject, cb=hold)
