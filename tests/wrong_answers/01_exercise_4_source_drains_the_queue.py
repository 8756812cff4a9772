from nats.js.api import StreamSource

await js.add_stream(name="JOBS", subjects=["jobs.*"], retention="workqueue")
await js.add_stream(name="AUDIT", sources=[StreamSource("JOBS")])
await cluster.known("JOBS")
for n in range(10):
    await js.publish("jobs.new", b"%d" % n)


async def drained():
    return (await js.stream_info("JOBS")).state.messages == 0


await poll(drained, 20, "the source did not drain the queue")
