await js.add_stream(name="REPORTS", subjects=["reports"])
for n in range(500):
    await keep(js, "reports", b"", f"report-{n}")
await js.update_stream((await js.stream_info("REPORTS")).config, num_replicas=3)
