await js.add_stream(name="JOBS", subjects=["jobs.*"], retention="workqueue")
await cluster.known("JOBS")
for n in range(10):
    await js.publish("jobs.new", b"%d" % n)
