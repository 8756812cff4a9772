"""An error as an output: what must fail fails, and says so in the server's words."""

import asyncio

import nats.errors
import pytest
from nats.js.errors import BadRequestError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from helpers.lesson import end, refused, retry

FULL = BadRequestError(code=400, err_code=10077, description="maximum messages exceeded")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FULL, "BadRequestError 10077: maximum messages exceeded\n"),
        (NoStreamResponseError(), "NoStreamResponseError\n"),
        (nats.errors.TimeoutError(), "TimeoutError\n"),
        (TimeoutError(), "TimeoutError\n"),
        (nats.errors.MaxPayloadError(), "MaxPayloadError\n"),
    ],
)
def test_an_error_is_an_output(error, said, capsys):
    with refused():
        raise error
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        nats.errors.NoRespondersError(),
        NoStreamResponseError(),
        ServiceUnavailableError(code=503, err_code=10008, description="no leader"),
    ],
)
def test_under_faults_the_same_loss_has_one_word(error, capsys):
    with refused("no answer"):
        raise error
    assert capsys.readouterr().out == "no answer\n"


def test_what_is_not_refused_fails():
    with pytest.raises(AssertionError, match="nothing was refused"), refused():
        pass
    with pytest.raises(NameError), refused():
        nobody_knows_this_name  # noqa: B018, F821
    with pytest.raises(TypeError), refused():
        len(1)
    with pytest.raises(BadRequestError), refused("no answer"):
        raise FULL
    with pytest.raises(ValueError, match="no answer"), refused("none"):
        pass


def test_a_retry_waits_for_an_answer_and_passes_a_refusal_on():
    tried = []

    async def action():
        tried.append(1)
        if len(tried) < 3:
            raise NoStreamResponseError
        return len(tried)

    async def refusing():
        tried.append(1)
        raise NotFoundError(code=404)

    assert asyncio.run(retry(action)) == 3
    tried.clear()
    with pytest.raises(NotFoundError):
        asyncio.run(retry(refusing))
    assert len(tried) == 1
    tried.clear()

    async def never():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        asyncio.run(retry(never, seconds=0.2))


def test_the_end_of_a_task_is_seen_and_a_swallowed_cancellation_is_repeated():
    async def stubborn():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    async def broken():
        raise ValueError("what a worker raises")

    async def run():
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        await end(task)
        failed = asyncio.create_task(broken())
        await asyncio.wait([failed])
        with pytest.raises(ValueError, match="what a worker raises"):
            await end(task, failed)

    asyncio.run(run())
