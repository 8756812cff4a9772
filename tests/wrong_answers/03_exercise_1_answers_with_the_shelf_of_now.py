seen = set()


async def hold_stock(msg):
    ask, id_ = json.loads(msg.data), msg.headers["X-Correlation-ID"]
    if id_ not in seen:
        seen.add(id_)
        shelf[ask["productId"]] -= ask["quantity"]
    await msg.respond(json.dumps({"left": shelf[ask["productId"]]}).encode())


await nc.subscribe("inventory.hold", cb=hold_stock)
