"""`python -m helpers.classroom start --students 30 [--listen ADDRESS] [--host NAME] | end`."""

import argparse
import asyncio
import ipaddress
import sys
from pathlib import Path

from ..cluster.interface import ClusterError
from . import folder, room, servers


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m helpers.classroom", description=__doc__)
    parser.add_argument("verb", choices=("start", "end"))
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--listen", help="an address of this machine, 0.0.0.0 for all; 127.0.0.1 at first")
    parser.add_argument("--host", help="the name or address by which the class reaches this machine")
    parser.add_argument("--port", type=int, help="of the first node, 4222 at first")
    parser.add_argument("--folder", type=Path, default=Path("classroom"))
    asked = parser.parse_args()
    if not 1 <= asked.students <= 200:
        parser.error("1 to 200 students")
    try:
        ipaddress.ip_address(asked.listen or folder.LISTEN)
    except ValueError:
        parser.error(f"--listen is an address of this machine, as 192.0.2.7 or 0.0.0.0, not {asked.listen!r}")
    if asked.verb == "end":
        print(f"{servers.end(asked.folder)} servers ended; accounts and data stay in {asked.folder}")
        return
    try:
        class_ = folder.make(asked.folder, asked.students, asked.listen, asked.host, asked.port)
        asyncio.run(opened(class_))
    except ClusterError as error:
        sys.exit(str(error))
    print(f"{len(class_.members) - 1} students on {', '.join(class_.clients)}")
    print(f"TLS: {'yes, hand out ca.pem' if class_.tls else 'no, for this machine only; LISTEN= for a room'}")
    print(f"hand out: {asked.folder / 'handouts.html'} (a page each), {asked.folder / 'handouts.csv'}")
    print("end it: make class-end")


async def opened(class_: folder.Class) -> None:
    await servers.start(class_)
    await room.keep_reports(class_)


main()
