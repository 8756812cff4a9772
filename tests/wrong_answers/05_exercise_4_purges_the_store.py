await js.add_stream(name="TILLS", subjects=["tills.*"], allow_batched=True)
await bulk.publish(nc, [(f"tills.{o.store}", o.payload(), None) for o in orders(200)])
await js.purge_stream("TILLS", subject="tills.330")
