await js.add_stream(name="REPORTS", subjects=["reports"], placement=Placement(tags=["nats-server-4"]))
