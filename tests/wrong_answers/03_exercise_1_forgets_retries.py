async def hold_stock(msg):
    ask = json.loads(msg.data)
    shelf[ask["productId"]] -= ask["quantity"]
    await msg.respond(json.dumps({"left": shelf[ask["productId"]]}).encode())


await nc.subscribe("inventory.hold", cb=hold_stock)
