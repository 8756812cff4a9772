await js.add_stream(name="DESK", subjects=["desk"])
for n in range(8):
    await publish_with_retry(js, "desk", b"", f"desk-{n}")
