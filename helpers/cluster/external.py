"""The external backend: somebody's cluster at NATS_URL. It is used, never harmed."""

import os
import ssl
from typing import Any

import nats
from nats.js.errors import ServiceUnavailableError

from .interface import ONE_TRY, Cluster, ClusterError, FaultRefused, Node

NODES_NEEDED = 3  # a stream of three replicas needs as many


class External(Cluster):
    """A cluster somebody else runs: no faults, and only what this kernel made is deleted.

    Read from the environment, by the names the `nats` CLI uses: NATS_URL (a comma-separated list,
    with user:password@ or token@ where needed, tls:// for TLS), NATS_CREDS (a credentials file),
    NATS_NKEY (a seed file), NATS_CA, NATS_CERT and NATS_KEY (PEM files), and NATS_JS_DOMAIN where the
    JetStream domain is to be checked.
    """

    backend = "external"
    owned = False

    def __init__(self) -> None:
        super().__init__()
        self._urls = [url.strip() for url in os.environ["NATS_URL"].split(",") if url.strip()]
        self.nodes = tuple(Node(url, url, None) for url in self._urls)

    @property
    def options(self) -> dict[str, Any]:
        options = super().options | {"servers": self._urls, "connect_timeout": 2}
        environment = os.environ
        if creds := environment.get("NATS_CREDS"):
            options["user_credentials"] = creds
        if seed := environment.get("NATS_NKEY"):
            options["nkeys_seed"] = seed
        if environment.get("NATS_CA") or environment.get("NATS_CERT"):
            tls = ssl.create_default_context(cafile=environment.get("NATS_CA"))
            if certificate := environment.get("NATS_CERT"):
                tls.load_cert_chain(certificate, environment.get("NATS_KEY"))
            options["tls"] = tls
        return options

    @property
    def operator_options(self) -> dict[str, Any]:
        raise FaultRefused("the system account of a cluster at NATS_URL is its operator's, not ours")

    async def start(self) -> "External":
        try:
            nc = await nats.connect(**self.options | ONE_TRY)
        except Exception as error:
            raise ClusterError(
                f"no NATS server lets us in at NATS_URL={os.environ['NATS_URL']} ({error}): start it, "
                "correct NATS_URL (and NATS_CREDS), or unset NATS_URL for a cluster of your own"
            ) from error
        try:
            await self._check_jetstream(nc)
            found = {node.url for node in self.nodes} | {server.geturl() for server in nc.servers}
            if len(found) < NODES_NEEDED:
                raise ClusterError(
                    f"{len(found)} node at NATS_URL, the notebooks need {NODES_NEEDED} or more for "
                    "streams of three replicas: name a cluster, or unset NATS_URL"
                )
        finally:
            await nc.close()
        await self.wait_ready()
        return self

    async def _check_jetstream(self, nc: nats.NATS) -> None:
        try:
            self.domain = (await nc.jetstream(timeout=2).account_info()).domain
        except ServiceUnavailableError as error:  # no text of its own where nothing answers
            raise ClusterError(
                "JetStream is off at NATS_URL, or not enabled for this account: start the servers with "
                "`-js`, or ask the operator to enable it"
            ) from error
        wanted = os.environ.get("NATS_JS_DOMAIN")
        if wanted and wanted != self.domain:
            raise ClusterError(
                f"the JetStream domain at NATS_URL is {self.domain!r}, NATS_JS_DOMAIN says {wanted!r}: "
                "correct or unset NATS_JS_DOMAIN"
            )

    async def states(self) -> dict[str, str]:
        return {node.name: "running" for node in self.nodes}

    async def _refuse(self, *_: object) -> None:
        raise FaultRefused(
            "this cluster is somebody else's (NATS_URL): the notebooks stop, kill and pause only servers "
            "they started. Unset NATS_URL and restart the kernel to run this cell"
        )

    _signal = _start = kill = stop = pause = restart = lame_duck = isolate = _refuse
