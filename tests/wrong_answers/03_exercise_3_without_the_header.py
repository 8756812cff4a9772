async def serve(nc, subject, stock):
    async def quote(msg):
        answer = await nc.request(stock, msg.data, timeout=5)
        await msg.respond(answer.data)

    await nc.subscribe(subject, cb=tracing.in_tasks(quote))
