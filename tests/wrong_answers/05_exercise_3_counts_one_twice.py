snapshot, total = {"seq": 150, "cents": 432390}, None
await js.add_stream(name="BOOKS", subjects=["books"], allow_batched=True)
await bulk.publish(nc, [("books", o.payload(), None) for o in orders(200)])
start = {"deliver_policy": "by_start_sequence", "opt_start_seq": 150}
await js.add_consumer("BOOKS", durable_name="tail", ack_policy="none", **start)
await cluster.known("BOOKS", "tail")
tail = await js.pull_subscribe_bind("tail", "BOOKS")
amounts = [json.loads(msg.data)["amount"] for msg in await tail.fetch(60, timeout=2)]
total = snapshot["cents"] + sum(round(amount * 100) for amount in amounts)
