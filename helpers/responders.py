"""Inventory responders as processes of their own, so that one can join, leave, or really be killed.

Each holds a pipe from the kernel and ends when it closes, however the kernel goes. This file is also the
process: run by path, it reads its settings as one line of JSON, says "ready", and then waits for one of
the words of `Responder.leave`.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterable

import nats
from nats.errors import NoRespondersError

SUBJECT, QUEUE, HEADER = "inventory.check", "inventory", "X-Correlation-ID"


class Responder:
    """One process: in the queue group `inventory` on `inventory.check`, alone on `inventory.check.<name>`.

    The answer is `{"responder", "productId", "available"}`. A request with a correlation ID is also noted on
    `log.<name>`, under the same header, at the moment it is received.
    """

    def __init__(self, name: str, settings: dict) -> None:
        self.name = name
        self._work = settings["work"]
        detached = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
            if os.name == "nt"
            else {"start_new_session": True}  # the Stop button interrupts the kernel's whole session
        )
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            **detached,
        )
        print(json.dumps(settings | {"name": name}), file=self._process.stdin, flush=True)

    async def _started(self, nc: nats.NATS) -> None:
        said = (await asyncio.to_thread(self._process.stdout.readline)).strip()
        if said != "ready":
            raise RuntimeError(f"{self.name} did not start: {said or 'no word from it'}")
        # Its interest travels from node to node. What it subscribed to last is here: so is the rest.
        async with asyncio.timeout(10):
            while True:
                try:
                    await nc.request(f"{SUBJECT}.{self.name}", b"{}", timeout=1 + self._work)
                    return
                except (NoRespondersError, TimeoutError):
                    await asyncio.sleep(0.01)

    async def leave(self, how: str) -> None:
        """Returns when the process has ended.

        "drain": takes no more requests, answers those it has, goes. "unsubscribe": takes no more requests
        and goes, as a process does that was never told how to stop. "kill": SIGKILL, no word to anybody.
        """
        if how == "kill":
            self._process.kill()
        else:
            print(how, file=self._process.stdin, flush=True)
        await asyncio.to_thread(self._process.wait, 30)
        self.close()

    def close(self) -> None:
        """Ends the process where it still runs."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


async def start(
    nc: nats.NATS,
    urls: list[str],
    names: Iterable[str],
    shelf: dict[str, int],
    work: float,
    at_once: int = 1_000,
) -> dict[str, Responder]:
    """Starts a responder a name, each on the next of `urls`; returns when `nc` can reach them all.

    `shelf` is product ID to units. Each request takes `work` seconds of waiting, as for a database, `at_once`
    of them at a time. Raises RuntimeError with what a process said that did not start.
    """
    settings = {"shelf": shelf, "work": work, "at_once": at_once}
    team = {
        name: Responder(name, settings | {"servers": [urls[i % len(urls)]]}) for i, name in enumerate(names)
    }
    try:
        await asyncio.gather(*(responder._started(nc) for responder in team.values()))
    except BaseException:
        close(team)
        raise
    return team


def close(team: dict[str, Responder]) -> None:
    """Ends them all."""
    for responder in team.values():
        responder.close()


async def ask_each(nc: nats.NATS, ids: Iterable[str], ask: bytes, timeout: float) -> dict[str, str | None]:
    """One request an ID, all at once: who answered it, or None where that took longer than `timeout` (s)."""

    async def one(id_: str) -> str | None:
        try:
            msg = await nc.request(SUBJECT, ask, timeout, headers={HEADER: id_})
        except TimeoutError:
            return None
        return json.loads(msg.data)["responder"]

    ids = list(ids)
    return dict(zip(ids, await asyncio.gather(*map(one, ids)), strict=True))


async def serve(name: str, servers: list[str], shelf: dict[str, int], work: float, at_once: int) -> None:
    """The process: answers until it is told to leave, or until the pipe closes."""

    async def no_traceback(error: Exception) -> None:
        pass

    # nats-py 2.16 writes the PING of a flush, and so of a drain, ahead of what waits in its buffer; a
    # buffer of one byte never lets anything wait, so that the UNSUB of a drain goes first, as it must.
    nc = await nats.connect(
        servers=servers, name=name, error_cb=no_traceback, pending_size=1,
        connect_timeout=1, reconnect_time_wait=0.05, max_reconnect_attempts=20,
    )  # fmt: skip
    tasks: set[asyncio.Task] = set()
    turn = asyncio.Semaphore(at_once)

    async def answer(msg: nats.aio.msg.Msg) -> None:
        async with turn:
            await asyncio.sleep(work)
            product = json.loads(msg.data).get("productId")
            reply = {"responder": name, "productId": product, "available": shelf.get(product, 0)}
            await msg.respond(json.dumps(reply).encode())  # nats-py sends the request's headers back

    async def receive(msg: nats.aio.msg.Msg) -> None:
        if msg.headers and HEADER in msg.headers:
            await nc.publish(f"log.{name}", headers={HEADER: msg.headers[HEADER]})
        task = asyncio.create_task(answer(msg))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    shared = await nc.subscribe(SUBJECT, queue=QUEUE, cb=receive)
    await nc.subscribe(f"{SUBJECT}.{name}", cb=receive)
    await nc.flush()
    print("ready", flush=True)
    how = (await asyncio.to_thread(sys.stdin.readline)).strip()
    if how == "drain":
        await shared.drain()  # no new request, and none on its way
        while tasks:
            await asyncio.wait(tasks)
        await nc.drain()
    elif how == "unsubscribe":
        await shared.unsubscribe()
    # A pipe that closed without a word means that the kernel is gone; either way it is time to go.
    os._exit(0)


if __name__ == "__main__":
    try:
        asyncio.run(serve(**json.loads(sys.stdin.readline())))
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
