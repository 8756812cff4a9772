"""Messages handed on as they are parsed.

nats-py makes a `Msg` of what it has parsed, puts it into a queue and wakes a task that calls the callback:
of a small message's cost, a large part. The client's `msg_class` is there to be replaced
(github.com/nats-io/nats.py, pull request 18), and where it returns None the message goes no further.
"""

from collections.abc import Callable

import nats
from nats.aio.msg import Msg

Take = Callable[[str, str, bytes, dict[str, str] | None], None]


class Taps(dict[int, Take]):
    """The message class of a connection: a subscription's number, and what takes its messages."""

    def __init__(self, plain: Callable[..., Msg]) -> None:
        super().__init__()
        self.plain = plain

    def __call__(
        self,
        subject: str,
        reply: str,
        data: bytes,
        headers: dict[str, str] | None,
        _client: nats.NATS,
        _sid: int,
    ) -> Msg | None:
        if _sid not in self:
            return self.plain(
                subject=subject, reply=reply, data=data, headers=headers, _client=_client, _sid=_sid
            )
        self[_sid](subject, reply, data, headers)
        return None


def tap(nc: nats.NATS, sid: int, take: Take) -> None:
    """From now on `take(subject, reply, data, headers)` gets the messages of subscription `sid`.

    It runs in the client's read loop: it must neither raise nor take long.
    """
    if not isinstance(nc.msg_class, Taps):
        nc.msg_class = Taps(nc.msg_class)
    nc.msg_class[sid] = take


def untap(nc: nats.NATS, sid: int) -> None:
    """Gives the subscription's messages back to its callback; none of ours left, the class too."""
    taps = nc.msg_class
    if isinstance(taps, Taps):
        taps.pop(sid, None)
        if not taps:
            nc.msg_class = taps.plain
