"""`python -m helpers.classroom start --students 30 [--listen ADDRESS] [--host NAME] | end | status`."""

import argparse
import asyncio
import ipaddress
import sys
from pathlib import Path

from ..cluster.interface import ClusterError
from . import folder, room, servers


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m helpers.classroom", description=__doc__)
    parser.add_argument("verb", choices=("start", "end", "status"))
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--listen", default="127.0.0.1", help="an address of this machine, 0.0.0.0 for all")
    parser.add_argument("--host", help="the name or address by which the class reaches this machine")
    parser.add_argument("--port", type=int, default=4222, help="of the first node")
    parser.add_argument("--folder", type=Path, default=Path("classroom"))
    asked = parser.parse_args()
    if not 1 <= asked.students <= 200:
        parser.error("1 to 200 students")
    try:
        ipaddress.ip_address(asked.listen)
    except ValueError:
        parser.error(f"--listen is an address of this machine, as 192.0.2.7 or 0.0.0.0, not {asked.listen!r}")
    try:
        return {"start": start, "end": end, "status": status}[asked.verb](asked)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1


def start(asked: argparse.Namespace) -> int:
    class_ = folder.make(asked.folder, asked.students, asked.listen, asked.host, asked.port)
    asyncio.run(opened(class_))
    print(f"{len(class_.members) - 1} students on {', '.join(class_.clients)}")
    print(f"TLS: {'yes, hand out ca.pem' if class_.tls else 'no, for this machine only; LISTEN= for a room'}")
    print(f"hand out: {asked.folder / 'handouts.html'} (a page each), {asked.folder / 'handouts.csv'}")
    print("end it: make class-end")
    return 0


async def opened(class_: folder.Class) -> None:
    await servers.start(class_)
    await room.keep_reports(class_)


def end(asked: argparse.Namespace) -> int:
    print(f"{servers.end(asked.folder)} servers ended; accounts and data stay in {asked.folder}")
    return 0


def status(asked: argparse.Namespace) -> int:
    count = len(servers.running(asked.folder.resolve()))
    students = len(folder.load(asked.folder).members) - 1 if folder.made(asked.folder) else 0
    print(f"{count} of {folder.NODES} servers run, {students} students")
    return 0 if count == folder.NODES else 1


if __name__ == "__main__":
    sys.exit(main())
