"""Two regions of three nodes, and a third of one, behind a WAN whose delay can be set."""

import asyncio
from typing import Any

from .embedded import CONFIG, Embedded, _node, free_ports
from .interface import ClusterError, FaultRefused, Node, get_json, poll

WAN = 0.04  # seconds each way, about Virginia to Ireland
REGIONS = {"us-east": 3, "eu-west": 3, "tiebreaker": 1}
START = 30  # seconds: regions find each other only after the first election's time, so a second decides


class Supercluster(Embedded):
    """Embedded clusters joined by gateways, with `config/hub.conf`; owned by the kernel.

    Every gateway connection goes through a link: it carries the delay, and can be cut.
    """

    backend = "supercluster"
    config = CONFIG.with_name("hub.conf")
    first_ports = (4232, 8232)
    zones = "abc"
    base = "lessons-regions"
    first_election = grace = START

    def __init__(self) -> None:
        super().__init__()
        self._names = [f"{region}-{n}" for region, size in REGIONS.items() for n in range(1, size + 1)]
        self._leaves: dict[str, Node] = {}

    @property
    def regions(self) -> dict[str, tuple[Node, ...]]:
        """The nodes of each region, by its name."""
        return {region: tuple(node for node in self.nodes if node.cluster == region) for region in REGIONS}

    def options_in(self, *regions: str) -> dict[str, Any]:
        """Keyword arguments for `nats.connect` to these regions, the first one's nodes first."""
        servers = [node.url for region in regions for node in self.regions[region]]
        return self.options | {"servers": servers, "dont_randomize": True}

    async def _joined_by(self, node: Node) -> dict[str, str]:
        behind: dict[str, list[str]] = {}
        for other in self.nodes:
            if other.cluster != node.cluster:
                link = await self._link(node.name, other.name, self._gateways[other.name], delay=WAN)
                behind.setdefault(other.cluster, []).append(link)
        gateways = [
            f"{{ name: {name}, urls: {self._list(urls, 'gateway')} }}" for name, urls in behind.items()
        ]
        return await super()._joined_by(node) | {
            "REGION": node.cluster,
            "LEAF": self._hubs[node.name],
            "GATEWAY": self._gateways[node.name],
            # A dead address, or gossip would lead around the links.
            "GATEWAY_ADVERTISE": f"127.0.0.1:{1 + self._names.index(node.name)}",
            "GATEWAYS": f"[{', '.join(gateways)}]",
        }

    async def wait_ready(self, timeout: float = 30) -> None:
        """Also waits until each node has a gateway to every other region."""
        await poll(self._joined, timeout, "the regions did not find each other")
        await super().wait_ready(timeout)

    async def _joined(self) -> bool:
        pages = (await self.pages("/gatewayz")).values()
        return all(page and len(page.get("outbound_gateways") or {}) >= len(REGIONS) - 1 for page in pages)

    async def leaf(self, name: str, region: str, domain: str) -> Node:
        """One more server, a leaf node of `region` with a JetStream domain of its own; once a name."""
        if (await self._ask("status")).get(name) != "running":
            node = self._leaves[name] = _node(name, *free_ports(2))
            hubs = self._list((self._hubs[n.name] for n in self.regions[region]), "learner")
            more = {"DOMAIN": domain, "HUB": hubs.replace("nats:", "nats-leaf:")}
            self._environments[name] = self._environment(node) | more
            await self._start(node, self.config.with_name("leaf.conf"))

        async def joined() -> list | None:
            return (await get_json(f"{self._leaves[name].monitor}/leafz") or {}).get("leafs")

        await poll(joined, 10, f"the leaf {name} does not reach {region}")
        return self._leaves[name]

    async def wan(self, delay: float) -> None:
        """Sets how many seconds a byte takes from region to region, each way."""
        await self._ask("tune", names=list(self._links), delay=delay)

    def _of(self, region: str) -> tuple[Node, ...]:
        if region not in REGIONS:
            raise ClusterError(f"no region {region!r}: the regions are {', '.join(REGIONS)}")
        return self.regions[region]

    async def isolate(self, name: str) -> None:
        raise FaultRefused("in a supercluster it is regions that are cut off: use `split(region)`")

    async def split(self, region: str) -> None:
        """Cuts the WAN between this region and all others; inside a region all goes on."""
        inside = {node.name for node in self._of(region)}
        cut = [name for name, (source, sink) in self._links.items() if (source in inside) != (sink in inside)]
        await self._ask("tune", names=cut, cut=True)

    async def kill_region(self, region: str) -> None:
        """SIGKILL to every node of a region at once."""
        await asyncio.gather(*(self.kill(node.name) for node in self._of(region)))
