"""Looks at this machine before a lesson does: a check a line, and what is amiss comes with its repair."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
PORTS = [*range(4222, 4226), *range(8222, 8226)]
SERVER = (2, 14)  # the first with batches that are acknowledged in their course
NEEDED = 0.5  # GB of memory: four servers, JupyterLab, a kernel
FREE = 2.0  # GB of disk: lesson 5 keeps a year of orders three times, and their copies


@dataclass(frozen=True)
class Check:
    """`found` is one word or figure, `about` its unit or what it is for; without a `repair` all is well."""

    name: str
    found: str
    about: str = ""
    note: str = ""
    repair: str = ""

    @property
    def line(self) -> str:
        said = f"{'repair' if self.repair else 'ok':<8}{self.name:<13}{self.found} {self.about}".rstrip()
        return f"{said}: {self.repair or self.note}" if self.repair or self.note else said


def python() -> Check:
    return Check("Python", sys.version.split()[0])


def packages() -> Check:
    pinned = re.compile(
        r'^([\w-]+)(?:\[\w+\])?==(\S+)(?: *; python_version (<|>=) "3\.(\d+)")?', re.MULTILINE
    )
    wanted = [
        (name, version)
        for name, version, than, minor in pinned.findall(REQUIREMENTS.read_text(encoding="utf-8"))
        if not than or (sys.version_info < (3, int(minor))) == (than == "<")
    ]
    have = {d.metadata["Name"].lower(): d.version for d in metadata.distributions() if d.metadata["Name"]}
    missing = [name for name, _ in wanted if name.lower() not in have]
    other = [f"{name} {have[name.lower()]}" for name, version in wanted
             if have.get(name.lower(), version) != version]  # fmt: skip
    if missing:
        return Check("packages", "incomplete", repair=f"{', '.join(missing)} missing: run `make install`, or "
                     f"`{sys.executable} -m pip install -r requirements.txt`")  # fmt: skip
    note = f"{', '.join(other)}: not the version of requirements.txt" if other else ""
    return Check("packages", "complete", note=note)


def server() -> Check:
    from .cluster.embedded import find_server

    said = subprocess.run([find_server(), "--version"], capture_output=True, text=True, timeout=10)
    version = re.search(r"(\d+)\.(\d+)\.\S+", said.stdout)
    if not version:
        return Check("nats-server", "broken", repair=f"it says {said.stdout + said.stderr!r}: `make install`")
    old = (int(version[1]), int(version[2])) < SERVER
    newer = "2.14 or newer is needed: `pip install -r requirements.txt`, or a newer one on PATH"
    return Check("nats-server", version[0], repair=newer if old else "")


def ports() -> Check:
    from .cluster.embedded import all_free

    taken = [port for port in PORTS if not all_free([port])]
    note = f"{', '.join(map(str, taken))}: the cluster takes others, and `cluster.urls` says which"
    return Check("ports", "taken" if taken else "free", "(4222-4225, 8222-8225)", note=note if taken else "")


def docker() -> Check:
    from .cluster import compose
    from .cluster.interface import ClusterError

    try:
        with contextlib.closing(compose.connect()) as client:
            return Check("Docker", client.version()["Version"], "(optional)")
    except ClusterError as problem:
        return Check("Docker", "none", "(optional)", note=str(problem))


def cluster() -> Check:
    """Which cluster a notebook opens."""
    from .cluster import compose

    if os.environ.get("NATS_URL"):
        note = (
            "not started here, so nothing that stops a server runs; unset NATS_URL for a cluster of your own"
        )
        return Check("cluster", "NATS_URL", note=note)
    if compose.up():
        return Check("cluster", "Compose", note="`make cluster-down` ends it")
    return Check("cluster", "embedded")


def memory() -> Check:
    import psutil

    free = psutil.virtual_memory().available / 1e9
    much = f"at least {NEEDED} GB are needed: close other programs"
    return Check("memory", f"{free:.1f}", "GB available", repair=much if free < NEEDED else "")


def disk() -> Check:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / 1e9
    much = f"at least {FREE} GB are needed: make room in {folder}, or set TMPDIR to a folder that has it"
    return Check("disk", f"{free:.1f}", "GB free", repair=much if free < FREE else "")


def proxy() -> Check:
    found = {scheme for scheme in urllib.request.getproxies() if scheme in ("http", "https", "all")}
    note = ""
    if found and not urllib.request.proxy_bypass("127.0.0.1"):
        note = ("the lessons go around it; for a browser, curl or nats that does not: "
                "`export NO_PROXY=127.0.0.1,localhost`")  # fmt: skip
    return Check("proxy", "set" if found else "none", note=note)


CHECKS = (python, packages, server, ports, docker, cluster, memory, disk, proxy)


def checked(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # whatever it is, the other lines are wanted too
        missing = isinstance(error, ModuleNotFoundError)
        repair = "run `make install`" if missing else "the message is the cause"
        said = str(error) or type(error).__name__
        return Check(check.__name__, "unknown", repair=said if "`" in said else f"{said}: {repair}")


def look() -> list[Check]:
    """All checks, none of which raises."""
    return [checked(check) for check in CHECKS]


def main(as_json: bool = False) -> int:
    """Prints a line a check; the number to exit with is 1 where something is to be repaired."""
    found = look()
    if as_json:
        print(json.dumps([asdict(check) for check in found], indent=1))
    else:
        print("\n".join(check.line for check in found))
    return int(any(check.repair for check in found))
