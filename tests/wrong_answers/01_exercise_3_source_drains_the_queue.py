await js.add_stream(name="JOBS", subjects=["jobs.*"], retention="workqueue")
await js.add_stream(name="AUDIT", sources=[StreamSource("JOBS")])
for n in range(10):
    await keep("jobs.new", b"", f"job-{n}")


async def drained():
    return (await js.stream_info("JOBS")).state.messages == 0


await poll(drained, 20, "the source did not drain the queue")
