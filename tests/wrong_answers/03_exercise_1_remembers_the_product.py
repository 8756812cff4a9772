held_before = {}


async def hold_stock(msg):
    ask = json.loads(msg.data)
    if ask["productId"] not in held_before:
        shelf[ask["productId"]] -= ask["quantity"]
        held_before[ask["productId"]] = json.dumps({"left": shelf[ask["productId"]]}).encode()
    await msg.respond(held_before[ask["productId"]])


await nc.subscribe("inventory.hold", cb=hold_stock)
