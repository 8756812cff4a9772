"""Contexts of the `nats` command line: `nats --context lessons` finds the cluster, whatever its port.

The password stands in a file that only this user may read, as the command line keeps its own.
"""

import json
import os
from pathlib import Path

USUAL = ("4222", "4232")  # of the four nodes, of the regions
SYSTEM = "-system"  # what the name of the system account's context ends in


def name(url: str, base: str = "lessons") -> str:
    """The context of the cluster at this URL: where the usual port was taken, it has the port in its name."""
    port = url.rpartition(":")[2]
    return base if port in USUAL else f"{base}-{port}"


def write(context: str, urls: list[str], password: str) -> list[str]:
    """Writes the learner's context and the operator's; their paths. OSError where that cannot be."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    folder = Path(home) / "nats" / "context"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for user, end in (("learner", ""), ("operator", SYSTEM)):
        path = folder / f"{context}{end}.json"
        path.unlink(missing_ok=True)  # an older one may be readable by others
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            what = f"the {user} of NATS enterprise patterns, while the notebook is open"
            json.dump({"description": what, "url": ",".join(urls), "user": user, "password": password}, file)
        paths.append(str(path))
    return paths
