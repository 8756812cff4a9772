await js.add_stream(name="TILLS", subjects=["tills.*"], allow_batched=True)
await bulk.publish(nc, [(f"tills.{o.store}", o.payload(), None) for o in orders(200)])
theirs = [seq for seq, order in enumerate(orders(200), 1) if order.customer == 900]
await js.delete_msg("TILLS", theirs[-1])
