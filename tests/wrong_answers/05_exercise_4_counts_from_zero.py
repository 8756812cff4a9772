await js.add_stream(name="TILLS", subjects=["tills.*"], allow_batched=True)
await bulk.publish(nc, [(f"tills.{o.store}", o.payload(), None) for o in orders(200)])
for place, order in enumerate(orders(200)):
    if order.customer == 900 and place:
        await js.delete_msg("TILLS", place)
