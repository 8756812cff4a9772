"""What a student's kernel tells the class, where CLASS_URL is set: exercise and outcome, nothing else."""

import asyncio
import json
import os
import ssl
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import nats

PATIENCE = 1.0  # seconds a report may take; the lesson goes on without it
STATEMENT = (
    "CLASS_URL is set: each check tells the class's server your name, the lesson, the exercise and the "
    "outcome; no code, no output. Unset CLASS_URL and restart the kernel to keep it to yourself."
)
_connections: dict[asyncio.AbstractEventLoop, nats.NATS] = {}


def student() -> str:
    """The name that stands in CLASS_URL; an empty one where it is not set."""
    return unquote(urlsplit(os.environ.get("CLASS_URL", "")).username or "").removesuffix("-report")


async def tell(lesson: str, exercise: str, outcome: str) -> bool:
    """Sends one line to the class's stream, in at most a second; whether it was acknowledged.

    Nothing that goes wrong here is an error of the lesson, so none is raised.
    """
    if not student():
        return False
    try:
        async with asyncio.timeout(PATIENCE):
            nc = await _connection()
            line = {"student": student(), "lesson": lesson, "exercise": exercise, "outcome": outcome}
            line["time"] = datetime.now(UTC).isoformat(timespec="seconds")
            subject = f"class.{student()}.{lesson}.{exercise}"
            await nc.jetstream().publish(subject, json.dumps(line).encode(), timeout=PATIENCE)
    except (OSError, nats.errors.Error):  # OSError: TimeoutError too
        return False
    return True


async def ask_for_help(about: str = "") -> str:
    """Puts your hand up in the instructor's view; `about` in a few words."""
    heard = await tell("help", "asked", about[:80] or "?")
    return "the instructor sees it" if heard else "nobody heard it: is CLASS_URL set, and the class running?"


async def _connection() -> nats.NATS:
    loop = asyncio.get_running_loop()
    if loop not in _connections or _connections[loop].is_closed:
        tls = {}
        if os.environ["CLASS_URL"].startswith("tls:"):
            tls["tls"] = ssl.create_default_context(cafile=os.environ.get("NATS_CA"))

        async def silent(error: Exception) -> None:
            pass

        _connections[loop] = await nats.connect(
            os.environ["CLASS_URL"], error_cb=silent, connect_timeout=1, allow_reconnect=False, **tls
        )
    return _connections[loop]
