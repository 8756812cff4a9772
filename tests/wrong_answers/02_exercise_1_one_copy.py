await cluster.delete_streams(js, "BASKETS")
await js.add_stream(name="BASKETS", subjects=["baskets.*"], num_replicas=1)
await cluster.known("BASKETS")
info = (await js.stream_info("BASKETS")).cluster
holders = [info.leader, *(peer.name for peer in info.replicas or [])]
others = sorted({node.name for node in cluster.nodes} - set(holders))
stops, survives = [holders[0], others[0]], others[:2]
