world = await open_supercluster(tiebreaker=True)
us = await nats.connect(**world.options_in("us-east"))
js_us = us.jetstream(domain=world.domain, timeout=5)
await world.delete_streams(js_us, "SALES", "SALES_COPY")
home = Placement(cluster="us-east")
await js_us.add_stream(name="SALES", subjects=["sales"], num_replicas=3, placement=home)
await js_us.add_stream(
    name="SALES_COPY",
    mirror=StreamSource(name="SALES"),
    placement=Placement(cluster="eu-west"),
)
