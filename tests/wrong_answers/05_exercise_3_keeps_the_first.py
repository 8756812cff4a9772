await js.add_stream(name="TILLS", subjects=["tills.*"], allow_batched=True)
await bulk.publish(nc, [(f"tills.{o.store}", o.payload(), None) for o in orders(200)])
theirs = [seq for seq, o in enumerate(orders(200), 1) if o.store == 381]
for seq in theirs[3:]:
    await js.delete_msg("TILLS", seq)
