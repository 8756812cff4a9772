arrivals = []
await js.add_stream(name="PATIENT", subjects=["patient"])
limits = dict(durable_name="patient", backoff=[1, 4], max_deliver=3)
await js.add_consumer("PATIENT", **limits)
