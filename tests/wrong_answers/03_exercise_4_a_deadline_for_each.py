async def ask_all(nc, subject, payload, seconds):
    inbox, found = nc.new_inbox(), []
    sub = await nc.subscribe(inbox)
    await nc.publish(subject, payload, reply=inbox)
    try:
        while True:
            msg = await sub.next_msg(timeout=seconds + 1)
            if msg.headers and msg.headers.get("Status") == "503":
                break
            found.append(msg.data)
    except TimeoutError:
        pass
    finally:
        await sub.unsubscribe()
    return found
