"""Correlation IDs: carried, kept apart, put back, written into log records, and turned into spans."""

import asyncio
import re
import uuid

from nats.aio.msg import Msg

from helpers import tracing
from helpers.tracing import HEADER, NONE, correlated, correlation_id

ONE, TWO = "7a1d0f0e-2f2b-5b1c-9d3a-0c1e5f6a7b8c", "order-2"


def message(id_: str | None) -> Msg:
    return Msg(_client=None, headers=None if id_ is None else {HEADER: id_})


def test_without_an_id_nothing_is_sent():
    assert tracing.headers() == {}


def test_the_header_and_w3c_traceparent():
    with correlated(ONE):
        sent = tracing.headers()
    assert sent[HEADER] == ONE
    version, trace, parent, flags = sent["traceparent"].split("-")
    assert (version, trace, flags) == ("00", ONE.replace("-", ""), "01")
    assert re.fullmatch("[0-9a-f]{16}", parent) and parent != "0" * 16


def test_an_id_that_is_no_uuid_gets_a_trace_id_of_its_own_and_always_the_same():
    assert uuid.UUID(tracing.traceparent(TWO).split("-")[1])
    assert tracing.traceparent(TWO).split("-")[1] == tracing.traceparent(TWO).split("-")[1]
    assert tracing.traceparent(TWO) != tracing.traceparent(TWO)  # the parent differs


def test_blocks_nest_and_put_back_what_was():
    with correlated(ONE):
        with correlated({HEADER: TWO}):
            assert correlation_id.get() == TWO
        assert correlation_id.get() == ONE
    assert correlation_id.get() == NONE


def test_put_back_after_an_exception_too():
    try:
        with correlated(ONE):
            raise ValueError
    except ValueError:
        pass
    assert correlation_id.get() == NONE


def test_a_thousand_tasks_do_not_mix():
    async def one(n: int) -> bool:
        with correlated(f"order-{n}"):
            for _ in range(5):
                await asyncio.sleep(0)
                if correlation_id.get() != f"order-{n}":
                    return False
        return True

    async def run():
        return await asyncio.gather(*(one(n) for n in range(1_000)))

    assert all(asyncio.run(run()))


def test_callbacks_in_one_task_see_their_own_message_and_do_not_leak():
    """nats-py calls them so: one task, one message after the other."""
    seen = []

    async def handle(msg: Msg) -> None:
        with correlated(msg.headers):
            seen.append(correlation_id.get())

    async def run():
        for id_ in (ONE, None, TWO):
            await handle(message(id_))

    asyncio.run(run())
    assert seen == [ONE, NONE, TWO]


def test_in_tasks_works_on_several_at_once_each_under_its_own_id():
    started, seen = [], []

    async def run():
        gate = asyncio.Event()

        async def handle(msg: Msg) -> None:
            started.append(msg)
            await gate.wait()
            seen.append(correlation_id.get())

        receive = tracing.in_tasks(handle)
        async with asyncio.timeout(5):
            for id_ in (ONE, None, TWO):
                await receive(message(id_))
        await asyncio.sleep(0)
        assert len(started) == 3, "a callback that waits holds up the next"
        assert correlation_id.get() == NONE
        gate.set()
        while len(seen) < 3:
            await asyncio.sleep(0)

    asyncio.run(run())
    assert seen == [ONE, NONE, TWO]


def test_every_log_record_carries_the_id(capsys):
    log, records = tracing.logger("test of tracing")
    log.info("before")
    with correlated(ONE):
        log.info("during %s", "it")
    assert [(r.getMessage(), r.correlation_id) for r in records] == [("before", NONE), ("during it", ONE)]
    assert capsys.readouterr() == ("", "")


def test_asking_for_the_same_logger_again_does_not_log_twice():
    tracing.logger("twice")
    log, records = tracing.logger("twice")
    log.info("once")
    assert len(records) == len(log.handlers) == 1 and not log.propagate


def test_spans_by_their_start_with_the_time_they_took():
    spans = tracing.Spans()
    with correlated(ONE), spans.span("order", "place"):
        with spans.span("payment", "charge"):
            pass
    frame = spans.frame
    assert list(frame["operation"]) == ["place", "charge"]
    assert set(frame["correlation_id"]) == {ONE}
    assert frame["seconds"][0] >= frame["seconds"][1] >= 0


def test_no_spans_is_an_empty_frame():
    assert tracing.Spans().frame.empty and "seconds" in tracing.Spans().frame


def test_a_span_that_failed_is_there_too():
    spans = tracing.Spans()
    try:
        with spans.span("payment", "charge"):
            raise ValueError
    except ValueError:
        pass
    assert len(spans.frame) == 1
