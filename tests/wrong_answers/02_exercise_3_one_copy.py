await cluster.delete_streams(js, "SHOP_1", "SHOP_2", "SHOP_3")
for n in (1, 2, 3):
    place = Placement(tags=[f"nats-server-{n}"])
    await js.add_stream(name=f"SHOP_{n}", subjects=[f"shop.{n}"], placement=place)
