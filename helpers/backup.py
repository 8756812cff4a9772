"""A stream as one file: the server's snapshot and restore requests, which nats-py has no call for.

Source of the protocol: github.com/nats-io/nats-architecture-and-design and the server's
`server/jetstream_api.go` (`STREAM.SNAPSHOT`, `STREAM.RESTORE`). The file is one line of JSON (the stream's
configuration and state) and behind it the archive as the server sends it.
"""

import asyncio
import json
from pathlib import Path

import nats
from nats.aio.msg import Msg

CHUNK = 256 * 1024  # bytes a message; below any server's max_payload


class BackupError(RuntimeError):
    """The server refused or broke off; the message is its own."""


async def save(nc: nats.NATS, stream: str, file: Path, timeout: float = 60) -> int:
    """Writes `stream` with its consumers to `file`; returns the file's size in bytes."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    inbox = nc.new_inbox()
    with file.open("wb") as out:

        async def on_chunk(msg: Msg) -> None:
            if msg.data:
                out.write(msg.data)
                if msg.reply:  # the server waits for it before it sends more than a window
                    await nc.publish(msg.reply)
            elif not done.done():
                status = (msg.headers or {}).get("Status", "204")
                if status == "204":
                    done.set_result(None)
                else:
                    reason = (msg.headers or {}).get("Description", "")
                    done.set_exception(BackupError(f"{stream}: {status} {reason}"))

        subscription = await nc.subscribe(inbox, cb=on_chunk)
        try:
            request = {"deliver_subject": inbox, "chunk_size": CHUNK}
            head = await _ask(nc, f"$JS.API.STREAM.SNAPSHOT.{stream}", json.dumps(request).encode(), timeout)
            out.write(json.dumps({"config": head["config"], "state": head["state"]}).encode() + b"\n")
            await asyncio.wait_for(done, timeout)
            return out.tell()
        finally:
            await subscription.unsubscribe()


async def restore(nc: nats.NATS, file: Path, timeout: float = 60) -> str:
    """Makes the stream in `file` again, which must not exist; returns its name."""
    with file.open("rb") as source:
        head = source.readline()
        name = json.loads(head)["config"]["name"]
        answer = await _ask(nc, f"$JS.API.STREAM.RESTORE.{name}", head.strip(), timeout)
        while chunk := source.read(CHUNK):
            await _ask(nc, answer["deliver_subject"], chunk, timeout)
        await _ask(nc, answer["deliver_subject"], b"", timeout)
    return name


async def _ask(nc: nats.NATS, subject: str, payload: bytes, timeout: float) -> dict:
    msg = await nc.request(subject, payload, timeout=timeout)
    answer = json.loads(msg.data) if msg.data else {}
    if "error" in answer:
        raise BackupError(f"{answer['error']['err_code']} {answer['error']['description']}")
    return answer
