at_first = Placement(tags=["nats-server-1"])
await js.add_stream(name="REPORTS", subjects=["reports"], placement=at_first)
for n in range(500):
    await keep(js, "reports", b"", f"report-{n}")
config = (await js.stream_info("REPORTS")).config
await js.update_stream(config, placement=Placement(tags=["zone:a"]))
