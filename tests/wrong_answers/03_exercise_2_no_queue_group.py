async def quote(msg, name):
    await msg.respond(json.dumps({"responder": name}).encode())


for name in ("one", "two"):
    await nc.subscribe("inventory.price", cb=partial(quote, name=name))
