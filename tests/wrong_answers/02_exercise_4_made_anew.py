await cluster.delete_streams(js, "REPORTS")
await js.add_stream(name="REPORTS", subjects=["reports"], placement=Placement(tags=["nats-server-4"]))
