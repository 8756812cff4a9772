async def ask_all(nc, subject, payload, seconds):
    try:
        return [(await nc.request(subject, payload, timeout=seconds)).data]
    except (TimeoutError, nats.errors.NoRespondersError):
        return []
