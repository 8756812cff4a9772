"""A stream as one file: the server's snapshot and restore requests, which nats-py has no call for.

Source of the protocol: github.com/nats-io/nats-architecture-and-design and the server's
`server/jetstream_api.go` (`STREAM.SNAPSHOT`, `STREAM.RESTORE`). The file is one line of JSON (the stream's
configuration and state) and behind it the archive as the server sends it.
"""

import json
from pathlib import Path

import nats

from .lesson import retry

CHUNK = 256 * 1024  # bytes a message; below any server's max_payload


class BackupError(RuntimeError):
    """The server refused or broke off; the message is its own."""


async def save(nc: nats.NATS, stream: str, file: Path, timeout: float = 60) -> int:
    """Writes `stream` with its consumers to `file`; returns the file's size in bytes."""
    await _ask(nc, f"$JS.API.STREAM.INFO.{stream}", b"", timeout)  # else nobody answers the next request
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox)  # before the request: the first chunk may come before its answer
    try:
        request = {"deliver_subject": inbox, "chunk_size": CHUNK}
        head = await _ask(nc, f"$JS.API.STREAM.SNAPSHOT.{stream}", json.dumps(request).encode(), timeout)
        with file.open("wb") as out:
            out.write(json.dumps({"config": head["config"], "state": head["state"]}).encode() + b"\n")
            while (chunk := await subscription.next_msg(timeout)).data:
                out.write(chunk.data)
                if chunk.reply:  # the server waits for it before it sends more than a window
                    await nc.publish(chunk.reply)
            size = out.tell()
    finally:
        await subscription.unsubscribe()
    headers = chunk.headers or {}
    if headers.get("Status", "204") != "204":
        raise BackupError(f"{stream}: {headers['Status']} {headers.get('Description', '')}")
    return size


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
    if nc.is_closed:
        raise nats.errors.ConnectionClosedError
    # Nobody may get it at first: our node has not heard of the subject yet.
    msg = await retry(lambda: nc.request(subject, payload, timeout=timeout), timeout)
    answer = json.loads(msg.data) if msg.data else {}
    if "error" in answer:
        raise BackupError(f"{answer['error']['err_code']} {answer['error']['description']}")
    return answer
