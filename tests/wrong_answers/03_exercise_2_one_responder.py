async def quote(msg, name):
    await msg.respond(json.dumps({"responder": name}).encode())


await nc.subscribe("inventory.price", queue="price", cb=partial(quote, name="one"))
