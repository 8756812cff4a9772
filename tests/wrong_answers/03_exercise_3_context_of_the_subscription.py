async def serve(nc, subject, stock):
    tasks = set()

    async def work(msg):
        answer = await nc.request(stock, msg.data, headers=tracing.headers(), timeout=5)
        await msg.respond(answer.data)

    async def quote(msg):
        tasks.add(asyncio.create_task(work(msg)))

    with tracing.correlated("order-0"):
        await nc.subscribe(subject, cb=quote)
