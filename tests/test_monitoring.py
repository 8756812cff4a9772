"""The monitoring profile: what the dashboard asks, answered by the real exporter and Prometheus."""

import asyncio
import json
import math
import re
import subprocess
import urllib.parse
import urllib.request
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import yaml
from nats.js.api import ConsumerConfig
from programs import connected, tool

from helpers.cluster.embedded import Embedded, free_ports
from helpers.cluster.interface import get_json, poll

ROOT = Path(__file__).parents[1]
DASHBOARD = json.loads((ROOT / "config/grafana/dashboards/nats-cluster.json").read_text())
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]
METRIC = re.compile(r"\b(?:gnatsd|jetstream)_\w+")


def test_the_dashboard_covers_what_the_issue_names():
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Cluster health", "Streams", "Consumer lag", "Performance"]
    titles = {panel["title"] for panel in DASHBOARD["panels"]}
    assert {"Messages", "Bytes", "Messages stored per second"} <= titles
    assert {"Pending", "Ack pending", "Redelivered"} <= titles
    assert {"Healthy nodes", "Routes", "Meta leader", "Stream leaders", "JetStream API errors"} <= titles
    assert {"Messages per second", "Bytes per second", "Slow consumers"} <= titles
    for panel in DASHBOARD["panels"]:
        assert panel["type"] == "row" or panel["description"], f"{panel['title']} says nothing of itself"


def test_the_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_grafana_is_provisioned_with_what_compose_mounts():
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    for name in ("exporter", "prometheus", "grafana", "nats-ui"):
        assert services[name]["profiles"] == ["monitoring"]
        for volume in services[name].get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists(), volume
    source = yaml.safe_load((ROOT / "config/grafana/datasource.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == source["uid"]
    assert services["nats-ui"]["ports"] == ["127.0.0.1:8080:31311"]


# -- with the exporter and Prometheus, from their packages -------------------------------------------


@contextmanager
def process(arguments: list[str], log: Path):
    with open(log, "wb") as file:
        started = subprocess.Popen(arguments, stdout=file, stderr=file)
    try:
        yield
    finally:
        started.terminate()
        started.wait(10)


class Watched:
    """A cluster with traffic, and the Prometheus that watches it."""

    def __init__(self, cluster: Embedded, prometheus: str, exporter: str) -> None:
        self.cluster, self.prometheus, self.exporter = cluster, prometheus, exporter

    async def ask(self, query: str) -> list[tuple[dict, float]]:
        """Prometheus's answer to an instant query: labels and value of each series."""
        url = f"{self.prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        page = await get_json(url, timeout=5) or {"data": {"result": []}}
        return [(series["metric"], float(series["value"][1])) for series in page["data"]["result"]]


def exporter_options() -> list[str]:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    return [option for option in services["exporter"]["command"] if option.startswith("-")]


@asynccontextmanager
async def watched(directory: Path):
    """As the profile has it, but for the addresses and a scrape each second."""
    cluster = await Embedded().start()
    export, scrape = free_ports(2)
    config = yaml.safe_load((ROOT / "config/prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "1s"
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{export}"]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    servers = [f"{node.name},{node.monitor}" for node in cluster.nodes]
    try:
        with (
            process(
                [
                    tool("prometheus-nats-exporter"),
                    "-addr=127.0.0.1",
                    f"-port={export}",
                    *exporter_options(),
                    *servers,
                ],
                directory / "exporter.log",
            ),
            process(
                [
                    tool("prometheus"),
                    f"--config.file={directory}/prometheus.yml",
                    f"--storage.tsdb.path={directory}/tsdb",
                    f"--web.listen-address=127.0.0.1:{scrape}",
                ],
                directory / "prometheus.log",
            ),
        ):
            yield Watched(cluster, f"http://127.0.0.1:{scrape}", f"http://127.0.0.1:{export}")
    finally:
        await cluster.close()


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """ORDERS with 200 messages, of which payment-processor acked 50, has 20 open, 10 of them again."""
    with asyncio.Runner() as runner:
        context = watched(tmp_path_factory.mktemp("monitoring"))
        system = runner.run(context.__aenter__())
        try:
            runner.run(fill(system.cluster))
            yield runner, system
        finally:
            runner.run(context.__aexit__(None, None, None))


async def fill(cluster) -> None:
    nc, js = await connected(cluster)
    await js.add_stream(name="ORDERS", subjects=["orders.*"], num_replicas=3)
    await cluster.known("ORDERS")
    # With 20 held the consumer gives nothing new: what is fetched after the naks are the returned ones.
    config = ConsumerConfig(max_ack_pending=20)
    worker = await js.pull_subscribe("orders.*", durable="payment-processor", config=config)
    for number in range(200):
        await js.publish("orders.new", b"%d" % number)

    async def fetched(count):  # a fetch may bring fewer
        messages = []
        while len(messages) < count:
            messages += await worker.fetch(count - len(messages), timeout=10)
        return messages

    for _ in range(5):
        for msg in await fetched(10):
            await msg.ack_sync()
    for msg in await fetched(20):
        await msg.nak()
    await fetched(10)

    async def settled():
        info = await js.consumer_info("ORDERS", "payment-processor")
        return (info.num_pending, info.num_ack_pending, info.num_redelivered) == (130, 20, 10)

    await poll(settled, 20, "the consumer is not where the test wants it")
    await nc.close()


@pytest.mark.cli
@pytest.mark.parametrize("query", QUERIES)
def test_every_panel_has_a_value(lesson, query):
    runner, system = lesson

    async def answered():
        return [v for _, v in await system.ask(query) if math.isfinite(v)]

    assert runner.run(poll(answered, 60, f"no value for {query}", every=0.5))


@pytest.mark.cli
def test_every_metric_of_the_dashboard_is_the_exporters(lesson):
    _, system = lesson
    with urllib.request.urlopen(f"{system.exporter}/metrics") as response:
        exported = set(METRIC.findall(response.read().decode()))
    asked = {metric for param in QUERIES for metric in METRIC.findall(param.values[0])}
    assert asked <= exported, asked - exported


def expression(title: str) -> str:
    return next(p["targets"][0]["expr"] for p in DASHBOARD["panels"] if p["title"] == title)


@pytest.mark.cli
@pytest.mark.parametrize(
    ("title", "value"),
    [("Messages", 200), ("Pending", 130), ("Ack pending", 20), ("Redelivered", 10), ("Healthy nodes", 4)],
)
def test_the_figures_are_the_servers(lesson, title, value):
    runner, system = lesson

    async def agrees():
        return [v for _, v in await system.ask(expression(title))] == [value]

    runner.run(poll(agrees, 60, f"{title} is not {value}", every=0.5))


@pytest.mark.cli
def test_a_dead_node_shows(lesson):
    """The exporter repeats a dead node's last figures, so each panel must leave them out."""
    runner, system = lesson
    victim = system.cluster.nodes[3].name

    async def three():
        return [v for _, v in await system.ask(expression("Healthy nodes"))] == [3]

    async def gone():
        routes = {labels["server_id"]: v for labels, v in await system.ask(expression("Routes"))}
        leaders = await system.ask(expression("Meta leader"))
        return victim not in routes and set(routes.values()) == {8.0} and len(leaders) == 1

    runner.run(system.cluster.kill(victim))
    runner.run(poll(three, 60, "the dashboard still counts four", every=0.5))
    runner.run(poll(gone, 60, "the dead node's routes still show", every=0.5))
    runner.run(system.cluster.restore_all())
