await cluster.delete_streams(js, "SHOP_1", "SHOP_2", "SHOP_3")
for n in (1, 2, 3):
    await js.add_stream(name=f"SHOP_{n}", subjects=[f"shop.{n}"], num_replicas=3)
    await cluster.known(f"SHOP_{n}")
shared = None
for name in ("SHOP_1", "SHOP_2"):  # of four nodes two sets of three have two in common
    info = (await js.stream_info(name)).cluster
    held = {info.leader, *(peer.name for peer in info.replicas)}
    shared = held if shared is None else shared & held
for name in ("SHOP_1", "SHOP_2"):
    if await cluster.leader_of(name) != min(shared):
        await cluster.step_down(name, to=min(shared))
