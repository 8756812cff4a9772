async def serve(nc, subject, stock):
    async def quote(msg):
        global current
        current = msg.headers["X-Correlation-ID"]
        await asyncio.sleep(0)
        answer = await nc.request(stock, msg.data, headers={"X-Correlation-ID": current}, timeout=5)
        await msg.respond(answer.data)

    await nc.subscribe(subject, cb=tracing.in_tasks(quote))
