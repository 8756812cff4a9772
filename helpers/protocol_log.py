"""What a client really sends: a listener between it and its server that notes the protocol's verbs.

The protocol is text, a verb at the start of each line (https://docs.nats.io/reference/reference-protocols/nats-protocol).
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

VERB = re.compile(rb"(?:^|(?<=\r\n))(CONNECT|PING|PONG|SUB|UNSUB|PUB|HPUB)\b", re.MULTILINE)


class Wire:
    """`url` to connect to, and the `verbs` a client sent through it, in their order."""

    def __init__(self) -> None:
        self.url = ""
        self.sent = bytearray()

    @property
    def verbs(self) -> list[str]:
        return [verb.decode() for verb in VERB.findall(bytes(self.sent))]


@asynccontextmanager
async def tapped(server: str) -> AsyncIterator[Wire]:
    """Listens on 127.0.0.1 and passes everything on to `server` (a `nats://` URL) and back."""
    wire, tasks = Wire(), set()
    target = urlsplit(server)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: bool) -> None:
        try:
            while data := await reader.read(65_536):
                if note:
                    wire.sent += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # one side hung up
        finally:
            writer.close()

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(target.hostname, target.port)
        for task in (pump(reader, there[1], True), pump(there[0], writer, False)):
            tasks.add(asyncio.create_task(task))

    listener = await asyncio.start_server(passed_on, "127.0.0.1", 0)
    wire.url = f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
