from nats.js.api import StreamSource

supercluster = await open_cluster("supercluster")
us = await nats.connect(**supercluster.options_in("us-east"))
js_us = us.jetstream(domain=supercluster.domain, timeout=10)
await supercluster.delete_streams(js_us, "SALES", "SALES_COPY")
home = Placement(cluster="us-east")
await js_us.add_stream(name="SALES", subjects=["sales"], num_replicas=3, placement=home)
await js_us.add_stream(
    name="SALES_COPY",
    mirror=StreamSource(name="SALES"),
    placement=Placement(cluster="eu-west"),
)
