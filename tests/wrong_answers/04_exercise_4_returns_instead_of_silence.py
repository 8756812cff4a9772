import time

await js.add_stream(name="PATIENT", subjects=["patient"])
limits = dict(durable_name="patient", backoff=[1, 3], max_deliver=3)
await js.add_consumer("PATIENT", **limits)
await cluster.known("PATIENT", "patient")
await publish_with_retry(js, "patient", b"", "the only one")
sub = await js.pull_subscribe_bind("patient", "PATIENT")
arrivals = []
while len(arrivals) < 3:
    for msg in await sub.fetch(1, timeout=10):
        arrivals.append(time.perf_counter())
        await msg.nak()
await sub.unsubscribe()
