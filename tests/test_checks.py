"""Whatever a learner's answer does, a check says "not yet", with what it did and where."""

import asyncio
import inspect
import json

import nats
import pandas as pd
import pytest

from helpers import check
from helpers.check import exercise, need
from helpers.cluster import open_cluster


@exercise
async def positive(answer) -> str:
    """The answer, a coroutine function, returns a positive number as JSON."""
    need(json.loads(await answer())["left"] > 0, "it is not.")
    return "it is"


ANSWERS = {
    "nothing": ("async def answer(): pass", "TypeError"),
    "no JSON": ("async def answer(): return 'left'", "JSONDecodeError"),
    "a list": ("async def answer(): return '[1]'", "TypeError"),
    "text": ('async def answer(): return \'{"left": "many"}\'', "TypeError"),
    "binary": ("async def answer(): return bytes([255, 0])", "Error: "),
    "a data frame": ("async def answer(): return frame", "TypeError"),
    "synchronous": ("def answer(): return '{\"left\": 1}'", "TypeError"),
    "it raises": ("async def answer():\n    return 1 / 0", "ZeroDivisionError: division by zero in line 2"),
    "it is cancelled": (
        "async def answer():\n    asyncio.current_task().cancel()\n    await asyncio.sleep(0)",
        "cancelled",
    ),
    "it never returns": ("async def answer():\n    await asyncio.Event().wait()", "no end after"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_breaks_is_not_yet(name, monkeypatch):
    source, told = ANSWERS[name]
    names = {"asyncio": asyncio, "frame": pd.DataFrame({"left": [1]})}
    exec(compile(source, "<cell>", "exec"), names)
    monkeypatch.setattr(check, "PATIENCE", 0.5)
    outcome = asyncio.run(positive(names["answer"]))
    assert outcome.state == "not yet" and told in outcome.message, outcome


def test_stop_ends_the_answer_too():
    async def run():
        begun, ended = asyncio.Event(), asyncio.Event()

        async def answer():
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        cell = asyncio.create_task(positive(answer))
        await begun.wait()
        cell.cancel()
        await asyncio.wait_for(ended.wait(), 5)

    asyncio.run(run())


def test_an_answer_that_holds_is_correct():
    async def answer():
        return json.dumps({"left": 1e400}) if inspect.iscoroutinefunction(answer) else ""

    assert asyncio.run(positive(answer)).state == "correct"


def test_what_a_callback_raises_is_told():
    @exercise
    async def answered(nc) -> str:
        try:
            return (await nc.request("ask", b"", timeout=0.5)).data.decode()
        except TimeoutError:
            need(False, "nobody answered.")

    async def run():
        cluster = await open_cluster()
        nc = await nats.connect(**cluster.options)
        try:
            names: dict = {}
            exec(compile("async def reply(msg):\n    msg.no_such_thing", "<cell>", "exec"), names)
            await nc.subscribe("ask", cb=names["reply"])
            return await answered(nc)
        finally:
            await nc.close()

    outcome = asyncio.run(run())
    assert outcome.state == "not yet"
    assert (
        "nobody answered. A callback raised AttributeError" in outcome.message
        and "in line 2" in outcome.message
    )
