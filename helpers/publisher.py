"""The publisher that notebook 01 builds: tries again what may pass, under one message ID."""

import asyncio
import time

from nats.errors import TimeoutError
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError, NoStreamResponseError

NOT_NOW, IN_PROGRESS = 10008, 10158  # no leader; the first try is still on its way


async def keep(
    js: JetStreamContext, subject: str, payload: bytes, msg_id: str, headers: dict[str, str] | None = None
) -> PubAck:
    """Publishes until the stream acknowledges, for at most 20 seconds; then it raises what came last.

    `msg_id` goes into `Nats-Msg-Id`, so that no try is stored twice within the stream's duplicate window.
    An error that will not pass, as a limit that is reached, is raised at once.
    """
    headers = {"Nats-Msg-Id": msg_id} | (headers or {})
    deadline = time.monotonic() + 20
    while True:
        try:
            return await js.publish(subject, payload, 0.5, headers=headers)
        except (NoStreamResponseError, TimeoutError, APIError) as error:
            passing = getattr(error, "err_code", NOT_NOW) in (NOT_NOW, IN_PROGRESS)
            if not passing or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)  # the pause between two tries
