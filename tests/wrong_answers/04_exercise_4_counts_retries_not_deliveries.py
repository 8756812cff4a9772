arrivals = []
await js.add_stream(name="PATIENT", subjects=["patient"])
limits = dict(durable_name="patient", backoff=[1, 3], max_deliver=4)
await js.add_consumer("PATIENT", **limits)
