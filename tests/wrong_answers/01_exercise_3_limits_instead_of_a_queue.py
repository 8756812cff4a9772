await js.add_stream(name="JOBS", subjects=["jobs.*"])
for n in range(10):
    await keep("jobs.new", b"", f"job-{n}")
