from nats.js.api import RePublish

await js.add_stream(name="AUDIT", subjects=["evidence.*"])
await js.add_stream(
    name="JOBS",
    subjects=["jobs.*"],
    retention="workqueue",
    republish=RePublish(src="jobs.*", dest="evidence.{{wildcard(1)}}"),
)
await cluster.known("JOBS")
await cluster.known("AUDIT")
for n in range(10):
    await js.publish("jobs.new", b"%d" % n)
