shelf = {"1082185": 339}


async def serve(nc, subject):
    seen = set()

    async def hold(msg):
        ask, id_ = json.loads(msg.data), msg.headers["X-Correlation-ID"]
        if id_ not in seen:
            seen.add(id_)
            shelf[ask["productId"]] -= ask["quantity"]
        await msg.respond(json.dumps({"left": shelf[ask["productId"]]}).encode())

    await nc.subscribe(subject, cb=hold)
