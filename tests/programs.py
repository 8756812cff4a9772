"""What several tests need: a client that was heard, and the programs of others."""

import os
import shutil
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext

from helpers.lesson import retry

ROOT = Path(__file__).parents[1]
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
