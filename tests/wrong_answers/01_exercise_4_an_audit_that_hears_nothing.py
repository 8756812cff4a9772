await js.add_stream(name="AUDIT", subjects=["evidence.*"])
await js.add_stream(name="JOBS", subjects=["jobs.*"], retention="workqueue")
