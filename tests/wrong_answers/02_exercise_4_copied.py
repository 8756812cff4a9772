await cluster.delete_streams(js, "REPORTS")
await js.add_stream(name="REPORTS", subjects=["reports"], placement=Placement(tags=["nats-server-1"]))
await cluster.known("REPORTS")
for n in range(500):
    await js.publish("reports", b"%d" % n)
config = (await js.stream_info("REPORTS")).config
await js.update_stream(config, num_replicas=3, placement=Placement())
