"""Two regions of three nodes, and where wanted a third of one, behind a WAN whose delay can be set."""

from typing import Any

from .embedded import CONFIG, Embedded, all_free, free_ports
from .interface import ClusterError, Node, get_json, poll

WAN = 0.04  # seconds each way, about Virginia to Ireland
TIEBREAKER = "tiebreaker"
START = 30  # seconds: regions find each other only after the first election's time, so a second decides


class Supercluster(Embedded):
    """Embedded clusters joined by gateways, with `config/supercluster.conf`; owned by the kernel.

    Every gateway connection goes through a link: it carries the delay, and can be cut. `settings` are
    those of `Embedded`.
    """

    backend = "embedded supercluster"
    config = CONFIG.with_name("hub.conf")
    base = "lessons-regions"
    first_election = grace = START

    def __init__(
        self,
        regions: tuple[str, ...] = ("us-east", "eu-west"),
        nodes: int = 3,
        tiebreaker: bool = False,
        wan: float = WAN,
        **settings: Any,
    ) -> None:
        """`nodes` in each region; `tiebreaker` adds a third site of one node; `wan` in seconds."""
        sizes = dict.fromkeys(regions, nodes) | ({TIEBREAKER: 1} if tiebreaker else {})
        self._homes = [(region, i + 1) for region, size in sizes.items() for i in range(size)]
        self._delay = wan
        self._leaves: dict[str, Node] = {}
        super().__init__(size=len(self._homes), links=True, **settings)

    @property
    def regions(self) -> dict[str, tuple[Node, ...]]:
        """The nodes of each region, by its name."""
        return {
            region: tuple(node for node in self.nodes if self._region[node.name] == region)
            for region in dict.fromkeys(self._region.values())
        }

    def options_in(self, *regions: str) -> dict[str, Any]:
        """Keyword arguments for `nats.connect` to these regions, the first one's nodes first."""
        return self.options | {
            "servers": [node.url for region in regions for node in self.regions[region]],
            "dont_randomize": True,
        }

    async def _lay_out(self) -> None:
        names = [f"{region}-{number}" for region, number in self._homes]
        self._region = dict(zip(names, (region for region, _ in self._homes), strict=True))
        ports = free_ports(5 * self._size)
        preferred_ports = [base + i for i in range(self._size) for base in (4232, 8232)]
        if all_free(preferred_ports):
            clients, monitors = preferred_ports[::2], preferred_ports[1::2]
        else:
            clients, monitors = ports[: self._size], ports[self._size : 2 * self._size]
        routes = [f"127.0.0.1:{port}" for port in ports[2 * self._size : 3 * self._size]]
        gateways = [f"127.0.0.1:{port}" for port in ports[3 * self._size : 4 * self._size]]
        self._leaf_ports = dict(zip(names, ports[4 * self._size :], strict=True))
        self.nodes = tuple(
            Node(name, f"nats://127.0.0.1:{client}", f"http://127.0.0.1:{monitor}")
            for name, client, monitor in zip(names, clients, monitors, strict=True)
        )
        self._links.clear()
        remotes = await self._gateways(dict(zip(names, gateways, strict=True)))
        self._environments = {
            name: self._environment(name, f"zone:{'abc'[number - 1]}", clients[i], monitors[i])
            | {
                "REGION": region,
                "ROUTE": routes[i],
                "ROUTE_ADVERTISE": routes[i],
                # A site of one node lists itself: JetStream in a cluster demands a route.
                "ROUTES": self._list(
                    (
                        routes[j]
                        for j, (other, _) in enumerate(self._homes)
                        if other == region and (j != i or region == TIEBREAKER)
                    ),
                    "route",
                ),
                "LEAF": f"127.0.0.1:{self._leaf_ports[name]}",
                "GATEWAY": gateways[i],
                "GATEWAY_ADVERTISE": f"127.0.0.1:{i + 1}",  # dead, or gossip would lead around the links
                "GATEWAYS": f"[{', '.join(remotes[region])}]",
            }
            for i, (name, (region, number)) in enumerate(zip(names, self._homes, strict=True))
        }

    async def _gateways(self, addresses: dict[str, str]) -> dict[str, list[str]]:
        """For each region, the entries of its `gateways` setting: the other regions behind links."""
        entries: dict[str, list[str]] = {}
        for region in dict.fromkeys(self._region.values()):
            behind: dict[str, list[str]] = {}
            for name, address in addresses.items():
                if self._region[name] != region:
                    link = await self._link(region, name, address, delay=self._delay)
                    behind.setdefault(self._region[name], []).append(link)
            entries[region] = [
                f"{{ name: {other}, urls: {self._list(urls, 'gateway')} }}" for other, urls in behind.items()
            ]
        return entries

    async def wait_ready(self, timeout: float = 30) -> None:
        """Also waits until each node has a gateway to every other region."""
        await poll(self._joined, timeout, "the regions did not find each other")
        await super().wait_ready(timeout)

    def _peers(self, node: Node) -> int:
        return len(self.regions[self._region[node.name]]) - 1

    async def _joined(self) -> bool:
        others = len(self.regions) - 1
        pages = (await self.pages("/gatewayz")).values()
        return all(page and len(page.get("outbound_gateways") or {}) >= others for page in pages)

    async def leaf(self, name: str, region: str, domain: str) -> Node:
        """One more server, a leaf node of `region` with a JetStream domain of its own; once a name."""
        exited = (await self._ask("status"))["exited"]
        if name in self._leaves and exited.get(name, 0) is None:
            return self._leaves[name]
        hubs = [f"127.0.0.1:{self._leaf_ports[n.name]}" for n in self.regions[region]]
        client, monitor = free_ports(2)
        node = Node(name, f"nats://127.0.0.1:{client}", f"http://127.0.0.1:{monitor}")
        environment = self._environment(name, "", client, monitor) | {
            "DOMAIN": domain,
            "HUB": self._list(hubs, "learner").replace("nats:", "nats-leaf:"),
        }
        config = str(self.config.with_name("leaf.conf"))
        await self._ask("spawn", name=name, argv=[self._server, "-c", config], env=environment)
        await poll(lambda: self._joined_hub(node), 10, f"the leaf {name} does not reach {region}")
        self._leaves[name] = node
        return node

    async def _joined_hub(self, leaf: Node) -> bool:
        page = await get_json(f"{leaf.monitor}/leafz")
        return bool(page and page.get("leafs"))

    def _between(self, *regions: str) -> list[str]:
        """The links that have one end in one of `regions` and the other in none."""
        unknown = set(regions) - set(self.regions)
        if unknown:
            raise ClusterError(f"no region {min(unknown)!r}: the regions are {', '.join(self.regions)}")
        return [
            name
            for name, (source, sink) in self._links.items()
            if (source in regions) != (self._region[sink] in regions)
        ]

    async def wan(self, delay: float) -> None:
        """Sets how many seconds a byte takes from region to region, each way."""
        await self._tune(list(self._links), delay=delay)

    async def split(self, *regions: str) -> None:
        """Cuts the WAN between these regions and all others; inside a region all goes on."""
        await self._tune(self._between(*regions), cut=True)

    async def isolate(self, name: str) -> None:
        raise ClusterError("in a supercluster it is regions that are cut off: use `split(region)`")

    async def kill_region(self, region: str) -> None:
        """SIGKILL to every node of a region at once."""
        self._between(region)
        for node in self.regions[region]:
            await self.kill(node.name)


_open: dict[tuple, Supercluster] = {}


async def open_supercluster(**settings: Any) -> Supercluster:
    """The supercluster of this kernel, ready, on local processes. Called again, the same one, restored.

    `settings` are those of `Supercluster`. The first call takes about six seconds.
    """
    key = tuple(sorted(settings.items()))
    if key in _open and not (world := _open[key]).closed:
        await world.restore_all()
        return world
    _open[key] = await Supercluster(**settings).start()
    return _open[key]
