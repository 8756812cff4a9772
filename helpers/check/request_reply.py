"""The exercises of notebook 03."""

import asyncio
import inspect
import json
import uuid
from collections.abc import Callable

import nats
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from . import Outcome, correct, not_attempted, not_yet

HEADER = "X-Correlation-ID"
ASK = json.dumps({"productId": "1082185", "quantity": 2}).encode()


async def _hold(nc: nats.NATS, id_: str) -> int | str:
    """What is left according to `inventory.hold`, or what is wrong with its answer."""
    try:
        msg = await nc.request("inventory.hold", ASK, timeout=3, headers={HEADER: id_})
    except TimeoutError:
        return "a request was delivered and not answered within 3 s: a retry needs an answer too"
    try:
        return int(json.loads(msg.data)["left"])
    except (ValueError, KeyError, TypeError):
        return f'the answer was {msg.data.decode(errors="replace")!r}, expected {{"left": a number}}'


async def held_once(nc: nats.NATS) -> Outcome:
    """Exercise 1: `inventory.hold` takes 2 units an order, however often the order asks."""
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    try:
        left = [await _hold(nc, id_) for id_ in (one, one, other, one)]
    except NoRespondersError:
        return not_attempted("nobody answers on inventory.hold.")
    for answer in left:
        if isinstance(answer, str):
            return not_yet(answer + ".")
    first, retry, second, late_retry = left
    if retry != first:
        return not_yet(f"an order and its retry, with the same {HEADER}, left {first} and then {retry}.")
    if second != first - 2:
        return not_yet(f"another order for 2 left {second}, after {first}: is it taken for a retry?")
    if late_retry != first:
        return not_yet(f"a retry after another order was told {late_retry} instead of its {first}.")
    return correct("four requests, two orders, each held once and answered every time.")


async def shared(nc: nats.NATS) -> Outcome:
    """Exercise 2: two responders share `inventory.price`, and each answer carries its request's ID."""
    ids, answers = [str(uuid.uuid4()) for _ in range(40)], []
    prefix = "_INBOX.check_" + uuid.uuid4().hex
    inboxes = {f"{prefix}.{n}": id_ for n, id_ in enumerate(ids)}

    async def collect(msg: Msg) -> None:
        answers.append(msg)

    sub = await nc.subscribe(f"{prefix}.*", cb=collect)
    try:
        for inbox, id_ in inboxes.items():
            await nc.publish("inventory.price", ASK, reply=inbox, headers={HEADER: id_})
        for _ in range(100):
            if len(answers) >= len(ids):
                break
            await asyncio.sleep(0.03)
        await asyncio.sleep(0.3)  # a second answer to the same request would follow the first
    finally:
        await sub.unsubscribe()
    if all((msg.headers or {}).get("Status") == "503" for msg in answers) and answers:
        return not_attempted("nobody answers on inventory.price.")
    if len(answers) != len(ids):
        return not_yet(f"{len(ids)} requests got {len(answers)} answers: who receives each request?")
    try:
        names = {json.loads(msg.data)["responder"] for msg in answers}
    except (ValueError, KeyError, TypeError):
        data = answers[0].data.decode(errors="replace")
        return not_yet(f'an answer was {data!r}, expected {{"responder": its name}}.')
    if len(names) != 2:
        return not_yet(
            f"the answers came from {len(names)} responder{'s' * (len(names) != 1)}, not from two."
        )
    kept = sum((msg.headers or {}).get(HEADER) == inboxes[msg.subject] for msg in answers)
    if kept != len(ids):
        return not_yet(f"{kept} of {len(ids)} answers carry the {HEADER} of their request.")
    return correct("40 requests, 40 answers from two responders, every ID in its place.")


async def collects(nc: nats.NATS, ask_all: Callable) -> Outcome:
    """Exercise 3: `ask_all(nc, subject, payload, seconds)` returns the answers that come in time."""
    nobody, subject = (f"check.{uuid.uuid4().hex}" for _ in range(2))
    tasks: set[asyncio.Task] = set()

    async def answer(msg: Msg, delay: float, text: bytes) -> None:
        await asyncio.sleep(delay)
        await nc.publish(msg.reply, text)

    async def receive(msg: Msg) -> None:
        # Three in time, and a fourth that keeps talking until long after.
        said = [(0, b"a"), (0.05, b"b"), (0.1, b"c")]
        said += [(2 + 0.2 * n, b"late") for n in range(20)]
        tasks.update(asyncio.create_task(answer(msg, *what)) for what in said)

    sub = await nc.subscribe(subject, cb=receive)
    try:
        found = ask_all(nc, subject, b"who?", 1.0)
        if not inspect.isawaitable(found):
            return not_yet("ask_all is no coroutine function: write `async def`.")
        async with asyncio.timeout(4):
            found = await found
        if found is None:
            return not_attempted("ask_all returns nothing yet.")
        if sorted(map(bytes, found)) != [b"a", b"b", b"c"]:
            return not_yet(f"three answers came in time, ask_all returned {len(found)}.")
        async with asyncio.timeout(4):
            found = await ask_all(nc, nobody, b"who?", 1.0)
        if list(found):
            return not_yet("nobody listened, and ask_all returned an answer: look at its headers.")
    except TimeoutError:
        return not_yet("ask_all was given 1 s, waited for more than 4, or raised a time-out.")
    except Exception as error:
        return not_yet(f"ask_all raised {type(error).__name__}: {error}.")
    finally:
        await sub.unsubscribe()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return correct("three answers in time, and none where nobody listened.")
