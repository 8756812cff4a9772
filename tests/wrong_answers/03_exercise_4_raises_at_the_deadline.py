async def ask_all(nc, subject, payload, seconds):
    inbox, found = nc.new_inbox(), []
    sub = await nc.subscribe(inbox)
    await nc.publish(subject, payload, reply=inbox)
    async with asyncio.timeout(seconds):
        while True:
            found.append((await sub.next_msg(timeout=seconds)).data)
    return found
