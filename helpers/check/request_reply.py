"""The exercises of notebook 03: each check calls `serve` with a connection and a subject of its own."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import nats
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from ..cluster import Cluster
from . import Outcome, correct, exercise, not_attempted, not_yet

HEADER = "X-Correlation-ID"
ASK = json.dumps({"productId": "1082185", "quantity": 2}).encode()
NOBODY = not_attempted("nobody is subscribed to the subject.")


def _subject() -> str:
    return f"inventory.exercise_{uuid.uuid4().hex}"


@asynccontextmanager
async def _served(
    cluster: Cluster, serve: Callable | None, *more: str
) -> AsyncIterator[tuple[nats.NATS, str]]:
    """The connection on which `serve` has subscribed, and the subject."""
    nc, subject = await nats.connect(**cluster.options), _subject()
    try:
        if serve:
            await serve(nc, subject, *more)
        yield nc, subject
    finally:
        await nc.close()


async def _all(sub: nats.aio.subscription.Subscription) -> list[Msg]:
    """What comes: within 3 s at first, then until half a second brings nothing."""
    found = []
    try:
        while True:
            found.append(await sub.next_msg(timeout=0.5 if found else 3))
    except TimeoutError:
        return found


@exercise
async def held_once(cluster: Cluster, serve: Callable | None) -> Outcome:
    """Exercise 1: the service takes 2 units an order, however often the order asks."""
    left = []
    async with _served(cluster, serve) as (nc, subject):
        for id_ in ("order-1", "order-1", "order-2", "order-1"):
            try:
                msg = await nc.request(subject, ASK, timeout=3, headers={HEADER: id_})
                left.append(int(json.loads(msg.data)["left"]))
            except NoRespondersError:
                return NOBODY
            except TimeoutError:
                return not_yet("a request got no answer within 3 s: a retry needs an answer, too.")
            except (ValueError, KeyError, TypeError):
                return not_yet(f'an answer was {msg.data!r}, expected {{"left": a number}}.')
    first, retry, second, late_retry = left
    if retry != first:
        return not_yet(f"an order and its retry, with the same {HEADER}, left {first} and then {retry}.")
    if second != first - 2:
        return not_yet(f"another order for 2 left {second}, after {first}: is it taken for a retry?")
    if late_retry != first:
        return not_yet(f"a retry after another order was told {late_retry} instead of its {first}.")
    return correct("four requests, two orders, each held once and answered every time.")


@exercise
async def shared(cluster: Cluster, serve: Callable | None) -> Outcome:
    """Exercise 2: two responders share the subject, and each answer carries its request's ID."""
    async with _served(cluster, serve) as (nc, subject):
        inbox = nc.new_inbox()
        sub = await nc.subscribe(f"{inbox}.*")
        for n in range(40):
            await nc.publish(subject, ASK, reply=f"{inbox}.order-{n}", headers={HEADER: f"order-{n}"})
        answers = await _all(sub)
    headers = [msg.headers or {} for msg in answers]
    if answers and all(each.get("Status") == "503" for each in headers):
        return NOBODY
    if len(answers) != 40:
        return not_yet(f"40 requests got {len(answers)} answers: who receives each request?")
    try:
        names = {json.loads(msg.data)["responder"] for msg in answers}
    except (ValueError, KeyError, TypeError):
        return not_yet(f'an answer was {answers[0].data!r}, expected {{"responder": its name}}.')
    if len(names) != 2:
        return not_yet(f"the answers came from {sorted(names)}, not from two responders.")
    kept = sum(h.get(HEADER) == msg.subject.split(".")[-1] for h, msg in zip(headers, answers, strict=True))
    if kept != 40:
        return not_yet(f"{kept} of 40 answers carry the {HEADER} of their request.")
    return correct("40 requests, 40 answers from two responders, every ID in its place.")


@exercise
async def passed_on(cluster: Cluster, serve: Callable | None) -> Outcome:
    """Exercise 3: the service in the middle asks on under each order's own ID, for many at once."""
    seen, busy, most, tasks = [], set(), 0, []

    async def stock(msg: Msg) -> None:
        nonlocal most
        seen.append(str((msg.headers or {}).get(HEADER)))
        busy.add(msg.reply)
        most = max(most, len(busy))
        await asyncio.sleep(0.05)  # in place of a database
        busy.remove(msg.reply)
        await nc.publish(msg.reply, msg.data)

    async def receive(msg: Msg) -> None:
        tasks.append(asyncio.create_task(stock(msg)))

    asked, ids = _subject(), [f"order-{n}" for n in range(20)]
    async with _served(cluster, serve, asked) as (nc, subject):
        await nc.subscribe(asked, cb=receive)
        requests = (nc.request(subject, id_.encode(), timeout=5, headers={HEADER: id_}) for id_ in ids)
        try:
            answers = [msg.data for msg in await asyncio.gather(*requests)]
        except NoRespondersError:
            return NOBODY
        except TimeoutError:
            return not_yet(f"an order got no answer within 5 s; {len(seen)} of 20 were asked about.")
    if answers != [id_.encode() for id_ in ids]:
        return not_yet("an answer is not what the stock service said about that order.")
    if sorted(seen) != sorted(ids):
        return not_yet(
            f"the stock service saw {len(set(ids) & set(seen))} of 20 orders by their own {HEADER}."
        )
    if most == 1:
        return not_yet("every ID is right, but one order waits for the other: what holds up the callback?")
    return correct("20 orders at once, and each was asked about under its own ID.")


@exercise
async def collects(cluster: Cluster, ask_all: Callable | None) -> Outcome:
    """Exercise 4: `ask_all(nc, subject, payload, seconds)` returns the answers that come in time."""
    tasks = []

    async def answer(msg: Msg, delay: float, text: bytes) -> None:
        await asyncio.sleep(delay)
        await msg.respond(text)

    async def receive(msg: Msg) -> None:  # three in time, and a fourth that talks on until long after
        said = [(0, b"a"), (0.05, b"b"), (0.1, b"c")] + [(2 + n / 5, b"late") for n in range(20)]
        tasks.extend(asyncio.create_task(answer(msg, *what)) for what in said)

    async def serve(nc: nats.NATS, subject: str) -> None:
        await nc.subscribe(subject, cb=receive)

    if ask_all is None:
        return not_attempted("ask_all is still to be written.")
    try:
        async with _served(cluster, serve) as (nc, subject), asyncio.timeout(6):
            found = await ask_all(nc, subject, b"who?", 1.0)
            if sorted(map(bytes, found)) != [b"a", b"b", b"c"]:
                return not_yet(f"three answers came in time, ask_all returned {len(found)}.")
            if await ask_all(nc, _subject(), b"who?", 1.0):
                return not_yet("nobody listened, and ask_all returned an answer: look at its headers.")
    except TimeoutError:
        return not_yet("ask_all was given 1 s, and waited for much longer, or raised a time-out.")
    finally:
        for task in tasks:
            task.cancel()
    return correct("three answers in time, and none where nobody listened.")
