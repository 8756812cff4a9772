async def serve(nc, subject, stock):
    async def quote(msg):
        await msg.respond(msg.data)

    await nc.subscribe(subject, cb=tracing.in_tasks(quote))
