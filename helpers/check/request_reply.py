"""The exercises of notebook 03: each check calls `serve` with a connection and a subject of its own."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable

import nats
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from ..cluster import Cluster
from ..tracing import HEADER, in_tasks
from . import Outcome, exercise, need

ASK = json.dumps({"productId": "1082185", "quantity": 2}).encode()


@contextlib.asynccontextmanager
async def _served(
    cluster: Cluster, serve: Callable | None, *more: str, late: str = "a request got no answer in time."
) -> AsyncIterator[tuple]:
    """The connection on which `serve` has subscribed, and the subject; `late` is said of a time-out."""
    async with await nats.connect(**cluster.options) as nc:
        subject = f"inventory.{nc.new_inbox()}"
        if serve:
            await serve(nc, subject, *more)
        try:
            yield nc, subject
        except NoRespondersError:
            raise Outcome("not attempted", "nobody is subscribed to the subject.") from None
        except TimeoutError:
            raise Outcome("not yet", late) from None


def _said(msg: Msg, name: str) -> str | int:
    """What an answer says under `name`."""
    try:
        return json.loads(msg.data)[name]
    except (ValueError, KeyError, TypeError):
        raise Outcome("not yet", f"an answer was {msg.data!r}, expected JSON with {name!r}.") from None


@exercise
async def held_once(cluster: Cluster, serve: Callable | None) -> str:
    """Exercise 1: the service takes 2 units an order, however often the order asks."""
    left, late = [], "a request got no answer: a retry needs an answer, too."
    async with _served(cluster, serve, late=late) as (nc, subject):
        for id_ in ("order-1", "order-1", "order-2", "order-1"):
            answer = await nc.request(subject, ASK, timeout=3, headers={HEADER: id_})
            left.append(int(_said(answer, "left")))
    first, retry, second, late = left
    need(retry == first, f"an order and its retry, with the same {HEADER}, left {first} and then {retry}.")
    need(second == first - 2, f"another order for 2 left {second}, after {first}: is it taken for a retry?")
    need(late == first, f"a retry after another order was told {late} instead of its {first}.")
    return "four requests, two orders, each held once and answered every time."


@exercise
async def shared(cluster: Cluster, serve: Callable | None) -> str:
    """Exercise 2: two responders share the subject, and each answer carries its request's ID."""
    answers = []
    async with _served(cluster, serve) as (nc, subject):
        await nc.request(subject, ASK, timeout=3, headers={HEADER: "somebody answers"})
        inbox = nc.new_inbox()
        sub = await nc.subscribe(f"{inbox}.*")
        for n in range(40):
            await nc.publish(subject, ASK, reply=f"{inbox}.order-{n}", headers={HEADER: f"order-{n}"})
        with contextlib.suppress(TimeoutError):  # what comes: until half a second brings nothing
            while True:
                answers.append(await sub.next_msg(timeout=0.5 if answers else 3))
    need(len(answers) == 40, f"40 requests got {len(answers)} answers: who receives each request?")
    names = {_said(msg, "responder") for msg in answers}
    need(len(names) == 2, f"the answers came from {sorted(names)}, not from two responders.")
    kept = sum((msg.headers or {}).get(HEADER) == msg.subject.split(".")[-1] for msg in answers)
    need(kept == 40, f"{kept} of 40 answers carry the {HEADER} of their request.")
    return "40 requests, 40 answers from two responders, every ID in its place."


@exercise
async def passed_on(cluster: Cluster, serve: Callable | None) -> str:
    """Exercise 3: the service in the middle asks on under each order's own ID, for many at once."""
    seen, busy, most = [], 0, 0

    async def stock(msg: Msg) -> None:
        nonlocal busy, most
        seen.append(str((msg.headers or {}).get(HEADER)))
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.05)  # in place of a database
        busy -= 1
        await nc.publish(msg.reply, msg.data)

    asked, ids = f"inventory.{uuid.uuid4().hex}", [f"order-{n}" for n in range(20)]
    async with _served(cluster, serve, asked) as (nc, subject):
        await nc.subscribe(asked, cb=in_tasks(stock))
        requests = (nc.request(subject, id_.encode(), timeout=5, headers={HEADER: id_}) for id_ in ids)
        answers = [msg.data.decode() for msg in await asyncio.gather(*requests)]
    need(answers == ids, "an answer is not what the stock service said about that order.")
    known = len(set(ids) & set(seen))
    need(sorted(seen) == sorted(ids), f"the stock service saw {known} of 20 orders by their own {HEADER}.")
    need(most > 1, "every ID is right, but one order waits for the other: what holds up the callback?")
    return "20 orders at once, and each was asked about under its own ID."


@exercise
async def collects(cluster: Cluster, ask_all: Callable | None) -> str:
    """Exercise 4: `ask_all(nc, subject, payload, seconds)` returns the answers that come in time."""
    need(ask_all, "ask_all is still to be written.", "not attempted")

    async def answer(msg: Msg) -> None:  # three in time, and one after the second that is given
        for delay, text in ((0, b"a"), (0.05, b"b"), (0.05, b"c"), (1.4, b"late")):
            await asyncio.sleep(delay)
            await msg.respond(text)

    async with await nats.connect(**cluster.options) as nc:
        await nc.subscribe(subject := f"inventory.{nc.new_inbox()}", cb=answer)
        try:
            async with asyncio.timeout(6):  # for both
                found = await ask_all(nc, subject, b"who?", 1.0)
                came = sorted(map(bytes, found)) == [b"a", b"b", b"c"]
                need(came, f"three answers came in time, ask_all returned {len(found)}.")
                nobody = await ask_all(nc, nc.new_inbox(), b"who?", 1.0)
                need(not nobody, "nobody listened, and ask_all returned an answer: look at its headers.")
        except TimeoutError:
            need(False, "ask_all was given 1 s, and waited for much longer, or raised a time-out.")
    return "three answers in time, and none where nobody listened."
