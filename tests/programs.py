"""The programs that some tests need: Compose on a project of the tests' own, the CLI, Prometheus."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext

from helpers.lesson import retry

ROOT = Path(__file__).parents[1]
# Of their own, so that `down --volumes` at the end deletes no data of the learner's cluster.
PROJECT = "nats-enterprise-patterns-test"
PROFILES = ("supercluster", "monitoring", "tools")


# Seconds: a new group of replicas elects its leader at once, or, where the first vote is lost (2 of 3,000
# under load), after the 4 to 9 s of a follower's patience.
ELECTION = 10


async def connected(cluster, **more) -> tuple[nats.NATS, JetStreamContext]:
    """A client, and JetStream, after a first round trip.

    A stream of one replica is made by a node that may hear of it before it hears of the client's inbox: its
    answer to the first request of all is then lost (5 of 2,190 under load).
    """
    nc = await nats.connect(**cluster.options | more)
    await retry(nc.jetstream(domain=cluster.domain, timeout=1).account_info)
    return nc, nc.jetstream(domain=cluster.domain, timeout=ELECTION)


def compose_command() -> list[str]:
    """`docker compose`, else `docker-compose`; or what COMPOSE says."""
    if os.environ.get("COMPOSE"):
        return shlex.split(os.environ["COMPOSE"])
    plugin = ["docker", "compose"]
    if shutil.which("docker") and not subprocess.run([*plugin, "version"], capture_output=True).returncode:
        return plugin
    return ["docker-compose"]


class Project:
    """`docker compose` on the tests' project."""

    def __init__(self) -> None:
        self._command = compose_command()
        self.environment = os.environ | {"COMPOSE_PROJECT_NAME": PROJECT}

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{' '.join([*self._command, *arguments])}:\n{done.stderr}"
        return done.stdout

    def up(self, *services: str, profile: str | None = None) -> None:
        self(*(["--profile", profile] if profile else []), "up", "-d", *services)

    def down(self, *options: str) -> None:
        profiles = [argument for name in PROFILES for argument in ("--profile", name)]
        self(*profiles, "down", "--remove-orphans", *options)


INSTALL = {
    "nats": "go install github.com/nats-io/natscli/nats@latest",
    "prometheus-nats-exporter": "go install github.com/nats-io/prometheus-nats-exporter@v0.20.1",
    "prometheus": "apt-get install prometheus",
}


def tool(name: str) -> str:
    """The path of a command-line program, on PATH or where Go installs; failing says how to get it."""
    go = Path(os.environ.get("GOBIN") or Path(os.environ.get("GOPATH") or Path.home() / "go") / "bin")
    found = shutil.which(name) or shutil.which(name, path=str(go))
    if not found:
        pytest.fail(f"no {name} on PATH: {INSTALL[name]}")
    return found
