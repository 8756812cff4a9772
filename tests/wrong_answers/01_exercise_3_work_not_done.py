await js.add_stream(name="AUDIT", subjects=["evidence.>"])
await js.add_stream(
    name="JOBS",
    subjects=["jobs.*"],
    retention="workqueue",
    republish=RePublish(src="jobs.*", dest="evidence.{{wildcard(1)}}"),
)
for n in range(10):
    await keep("jobs.new", b"", f"job-{n}")
