"""Links that can be cut and delayed without root: TCP proxies that the supervisor runs beside the servers.

They run in a thread and an event loop of the supervisor's, so that no busy cell of the kernel slows them.
The supervisor loads this file only for a cluster with links; it needs nothing but the standard library.
"""

import asyncio
import threading

CHUNK = 65536
PATIENCE = 1.0  # seconds in which a server that is just starting may open its port


class Link:
    """One listening port whose connections are carried to `target`, a "host:port".

    Cut, it keeps its connections and carries nothing, like a network that loses every packet: nobody
    is told. Healed, what waited goes on, as TCP would send it again. `delay` is in seconds, each way;
    `hesitation` is how many seconds later each connection is dialled.
    """

    def __init__(self, target: str, delay: float, hesitation: float) -> None:
        self.host, self.port = target.rsplit(":", 1)
        self.delay, self.hesitation = delay, hesitation
        self.whole = asyncio.Event()
        self.whole.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer = None
        try:
            far_reader, far_writer = await self._dial()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._one_way(reader, far_writer))
                both.create_task(self._one_way(far_reader, writer))
        except* (OSError, EOFError):
            pass  # one end is gone, so the other is closed too
        finally:
            writer.close()
            if far_writer:
                far_writer.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        await asyncio.sleep(self.hesitation)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while True:
            await self.whole.wait()
            try:
                return await asyncio.open_connection(self.host, self.port)
            except OSError:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(0.02)

    async def _one_way(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        travelling: asyncio.Queue = asyncio.Queue(256)

        async def deliver() -> None:
            while True:
                due, data = await travelling.get()
                await asyncio.sleep(due - loop.time())
                await self.whole.wait()
                if not data:
                    raise EOFError
                sink.write(data)
                await sink.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            while data := await source.read(CHUNK):
                await travelling.put((loop.time() + self.delay, data))
            await travelling.put((loop.time() + self.delay, b""))


class Links:
    """The links of one cluster, by name, in a loop of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._links: dict[str, tuple[Link, asyncio.Server]] = {}
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def run(self, method: str, *arguments: object) -> object:
        """Runs `add`, `tune` or `close` there, and returns when it is done."""
        work = getattr(self, method)(*arguments)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def add(self, name: str, *settings: object) -> int:
        """Opens a link; the port it listens on, on 127.0.0.1."""
        link = Link(*settings)
        self._links[name] = link, await asyncio.start_server(link.carry, "127.0.0.1", 0)
        return self._links[name][1].sockets[0].getsockname()[1]

    async def tune(self, names: list[str], cut: bool | None, delay: float | None) -> None:
        for link, _ in map(self._links.get, names):
            link.delay = link.delay if delay is None else delay
            if cut is not None:
                (link.whole.clear if cut else link.whole.set)()

    async def close(self) -> None:
        """Once the servers are gone: with them went what was connected."""
        for link, server in self._links.values():
            server.close()
            link.whole.set()  # what waits at a cut goes on, and finds its end gone
        self._links.clear()
