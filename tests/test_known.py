"""After `known`, the first publish, fetch and consumer_info work through whichever node a client is on."""

import asyncio
import re
from contextlib import asynccontextmanager
from pathlib import Path

import nbformat
import pytest
from nats.js.api import ConsumerConfig, StreamSource
from programs import connected

from helpers.cluster import ClusterError, open_cluster
from helpers.cluster import interface as stage

SUBJECTS = [f"orders.{n % 4}" for n in range(20)]
STREAMS = {
    "R3": {"subjects": ["NAME.*"], "num_replicas": 3},
    "R1": {"subjects": ["NAME.>"]},
    "memory": {"subjects": ["NAME"], "storage": "memory"},
    "work queue": {"subjects": ["NAME.*.x"], "retention": "workqueue", "num_replicas": 3},
    "no ack": {"subjects": ["NAME.*"], "no_ack": True},
    "mirror": {"mirror": StreamSource(name="SOURCE")},
    "source": {"sources": [StreamSource(name="SOURCE")], "num_replicas": 3},
}
CONSUMERS = {
    "plain": ({}, 20),
    "a filter": ({"filter_subject": "orders.1"}, 5),
    "several filters": ({"filter_subjects": ["orders.1", "orders.2"]}, 10),
    "overlapping": ({"filter_subjects": ["orders.1", "orders.3"]}, 10),
    "from a sequence": ({"deliver_policy": "by_start_sequence", "opt_start_seq": 16}, 5),
    "last of each": ({"deliver_policy": "last_per_subject", "filter_subject": "orders.*"}, 4),
    "last": ({"deliver_policy": "last"}, 1),
    "new": ({"deliver_policy": "new"}, 0),
    "in memory, one replica": ({"mem_storage": True, "num_replicas": 1}, 20),
}


@asynccontextmanager
async def clients(cluster):
    """A JetStream context on each node."""
    found, contexts = zip(
        *[await connected(cluster, servers=[node.url]) for node in cluster.nodes], strict=True
    )
    try:
        yield contexts
    finally:
        await asyncio.gather(*(nc.close() for nc in found))


@pytest.fixture(scope="module")
def cluster():
    cluster = asyncio.run(open_cluster("embedded"))
    yield cluster
    asyncio.run(cluster.close())


@pytest.fixture
def run(cluster):
    """Runs `scene(contexts)` with a source of 20 orders; its streams are deleted before and after."""

    def running(scene):
        async def with_clients():
            async with clients(cluster) as contexts:
                js = contexts[0]
                await cluster.delete_streams(js, *(s.config.name for s in await js.streams_info()))
                await js.add_stream(name="SOURCE", subjects=["orders.*"], num_replicas=3)
                await cluster.known("SOURCE")
                for subject in SUBJECTS:
                    await js.publish(subject, b"")
                return await scene(contexts)

        return asyncio.run(with_clients())

    return running


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_is_known_on_every_node_and_nothing_is_stored(kind, cluster, run):
    config = STREAMS[kind]

    async def scene(contexts):
        for n in range(5):
            subjects = [s.replace("NAME", f"n{n}") for s in config.get("subjects", [])] or None
            await contexts[n % 4].add_stream(name=f"S{n}", **config | {"subjects": subjects})
            await cluster.known(f"S{n}")
            for js in contexts:
                info = await js.stream_info(f"S{n}")
                if subjects:
                    assert info.state.last_seq == 0
            if subjects and not config.get("no_ack"):
                subject = subjects[0].replace("*", "one").replace(">", "one")
                assert [(await js.publish(subject, b"")).seq for js in contexts] == [1, 2, 3, 4]

    run(scene)


@pytest.mark.parametrize("kind", CONSUMERS)
def test_a_consumer_is_known_on_every_node_and_sees_all_that_it_selects(kind, cluster, run):
    config, pending = CONSUMERS[kind]

    async def scene(contexts):
        for n in range(5):
            name = f"c{n}"
            await contexts[n % 4].add_consumer(
                "SOURCE", ConsumerConfig(durable_name=name, ack_policy="explicit", **config)
            )
            await cluster.known("SOURCE", name)
            infos = [await js.consumer_info("SOURCE", name) for js in contexts]
            assert [info.num_pending for info in infos] == [pending] * 4
            assert {info.delivered.consumer_seq for info in infos} == {0}, "the probe took a message"
            if pending:
                sub = await contexts[-1].pull_subscribe_bind(name, "SOURCE")
                assert len(await sub.fetch(pending)) == pending

    run(scene)


def test_from_a_time_after_a_purge_and_push(cluster, run):
    async def scene(contexts):
        js = contexts[0]
        since = (await js.get_msg("SOURCE", 11)).time
        await js.purge_stream("SOURCE", keep=3)
        await js.delete_msg("SOURCE", 19)
        time = ConsumerConfig(durable_name="time", deliver_policy="by_start_time", opt_start_time=since)
        await js.add_consumer("SOURCE", time)
        await js.add_consumer("SOURCE", durable_name="purged", ack_policy="explicit")
        push = ConsumerConfig(durable_name="push", deliver_subject="pushed", ack_policy="explicit")
        await js.add_consumer("SOURCE", push)
        for name in ("time", "purged", "push"):
            await cluster.known("SOURCE", name)
            assert {(await one.consumer_info("SOURCE", name)).num_pending for one in contexts} == {2}

    run(scene)


def test_a_node_that_is_down_is_not_waited_for(cluster, run):
    async def scene(contexts):
        await cluster.kill("nats-server-4")
        try:
            await cluster.known("SOURCE")
        finally:
            await cluster.restore_all()

    run(scene)


def test_what_is_never_known_is_said(cluster, run):
    async def scene(contexts):
        with pytest.raises(ClusterError, match="NOWHERE is not known on every node"):
            await cluster.known("NOWHERE", timeout=0.5)
        with pytest.raises(ClusterError, match="nobody of SOURCE is not known"):
            await cluster.known("SOURCE", "nobody", timeout=0.5)

    run(scene)


def test_the_count_is_waited_for(cluster, run, monkeypatch):
    """A consumer's count is waited for: with a stream that seems to hold more, it never comes."""

    async def scene(contexts):
        await contexts[0].add_consumer("SOURCE", durable_name="c", ack_policy="explicit")
        monkeypatch.setattr(stage, "_pending", lambda info: info.num_pending - 1)
        with pytest.raises(ClusterError, match="c of SOURCE"):
            await cluster.known("SOURCE", "c", timeout=0.5)

    run(scene)


def test_settled_waits_for_the_last_acknowledgement(cluster, run):
    async def scene(contexts):
        js = contexts[0]
        await js.add_consumer("SOURCE", durable_name="c")
        await cluster.known("SOURCE", "c")
        with pytest.raises(ClusterError, match="not everything in SOURCE was delivered to c and settled"):
            await cluster.settled("SOURCE", "c", timeout=0.3)
        sub = await js.pull_subscribe_bind("c", "SOURCE")
        messages = await sub.fetch(20)
        with pytest.raises(ClusterError, match="c and settled"):  # all is delivered, nothing acknowledged
            await cluster.settled("SOURCE", "c", timeout=0.3)
        waiting = asyncio.create_task(cluster.settled("SOURCE", "c"))
        for msg in messages:
            assert not waiting.done()
            await msg.ack_sync()
        await waiting
        with pytest.raises(ClusterError, match="no consumer nobody"):
            await cluster.settled("SOURCE", "nobody")

    run(scene)


# -- in what a learner runs, and what the tests run for one ------------------------------------------

ROOT = Path(__file__).parents[1]
STEPS = re.compile(
    r"(?P<made>\b(?:add_consumer|pull_subscribe)\((?:[^)]*?durable(?:_name)?=\"(?P<name>[\w-]+))?)"
    r"|(?P<known>\bknown\([^),]*, *\"?(?P<who>[^)\"]*))|(?P<deleted>\bdelete_streams\()"
    r"|(?P<taken>\.fetch\(|\bconsumers_info\()"
)


def unknown(code: str, names: set[str]) -> list[str]:
    """The lines that fetch from a consumer just made, or list it, which another node may not know yet.

    `names` are those that cells before have waited for: a durable made again is there already.
    """
    found, made = [], None
    for step in STEPS.finditer(code):
        if step["deleted"]:
            names.clear()
        elif step["known"]:
            names.add(step["who"])
        elif step["taken"] and made:
            found.append(f"{made} … {code[step.start() :].splitlines()[0]}")
        made = step["made"] if step["made"] and step["name"] not in names else None
    return found


def pieces():
    """Each code cell, each piece of Python in a text, each wrong answer; with what was known before it."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        names: set[str] = set()
        for i, cell in enumerate(nbformat.read(path, as_version=4).cells):
            if cell.cell_type == "code":
                yield f"{path.name}, cell {i}", cell.source, names
            for piece in re.findall(r"```python\n(.*?)```", cell.source, re.DOTALL):
                yield f"{path.name}, cell {i}", piece, set()
    for path in sorted((ROOT / "tests" / "wrong_answers").glob("*.py")):
        yield path.name, path.read_text(encoding="utf-8"), set()


def test_a_new_consumer_is_known_before_it_is_asked():
    found = {where: lines for where, code, names in pieces() if (lines := unknown(code, names))}
    assert not found


def test_one_that_is_not_known_is_seen():
    made = 'await js.add_consumer("TILL", durable_name="till")\n'
    known = 'await cluster.known("TILL", "till")\n'
    assert unknown(made + "await sub.fetch(1)", set())
    assert not unknown(made + known + "await sub.fetch(1)", set())
    assert unknown(made + 'await cluster.known("TILL")\nawait sub.fetch(1)', set())
    assert not unknown(made + "await sub.fetch(1)", {"till"})
    assert unknown('await cluster.delete_streams(js, "TILL")\n' + made + "await sub.fetch(1)", {"till"})


SEVERAL = re.compile(r"publish(?:_orders)?\((?P<between>(?:(?!publish)[\s\S])*?)\.fetch\((?!1[,)])")


def behind(code: str) -> bool:
    """Whether it fetches several just published, from a consumer that was there before, on three replicas.

    The consumer may live on another node than the stream's leader, whose acknowledgement is all that a
    publish waits for: it hands out what it has (two of three, in one run of ten on two busy cores).
    """
    begun = "start_over(" in code and "def start_over" not in code
    replicated = begun or "num_replicas=3" in code
    return replicated and any("known(" not in found["between"] for found in SEVERAL.finditer(code))


def test_a_consumer_has_heard_of_what_is_fetched():
    found = [where for where, code, _ in pieces() if where.startswith("04") and behind(code)]
    assert not found


def test_one_that_may_lag_behind_is_seen():
    code = "await start_over()\nawait js.publish('orders.new')\n{}await sub.fetch(3)"
    assert behind(code.format(""))
    assert not behind(code.format("await cluster.known('ORDERS', 'c')\n"))
    assert not behind(code.format("").replace("fetch(3)", "fetch(1)"))


REFUSED = re.compile(
    r"with refused\(\):\n +await js\.add_consumer\((?P<stream>[^,]+), durable_name=\"(?P<name>[\w-]+)"
)


def taken_again(code: str) -> list[str]:
    """Consumers that were refused, and are made again under the same name.

    The server removes the refused one's assignment a moment later: a second try under its name often gets no
    answer (160 of 200 on a work queue, 0 of 200 with a name of its own; nats-server 2.14.6).
    """
    found = []
    for first in REFUSED.finditer(code):
        before, after = code[: first.start()], code[first.end() :]
        again = f'add_consumer({first["stream"]}, durable_name="{first["name"]}"'
        if again in after.split("delete_streams(")[0] and again not in before.split("delete_streams(")[-1]:
            found.append(again)
    return found


def test_a_refused_name_is_not_tried_again():
    code = {path.name: [] for path in (ROOT / "notebooks").glob("*.ipynb")}
    for name, lines in code.items():
        cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
        lines += [cell.source for cell in cells if cell.cell_type == "code"]
    assert not {name: again for name, lines in code.items() if (again := taken_again("\n".join(lines)))}


def test_a_refused_name_that_is_tried_again_is_seen():
    tried = 'with refused():\n    await js.add_consumer("ORDERS", durable_name="late")\n'
    assert taken_again(tried + tried)
    assert not taken_again(tried + 'await cluster.delete_streams(js, "ORDERS")\n' + tried)
    assert not taken_again(tried + tried.replace("late", "part"))


def test_a_fetch_that_is_to_fail_asks_for_one():
    """nats-py raises TimeoutError or returns an empty list from a fetch of more, as the clocks have it."""
    several = re.compile(r"with refused\(\):\n +(?:await )?[\w.]+\.fetch\((?!1[,)])")
    assert several.search("with refused():\n    await sub.fetch(10, timeout=0.3)")
    assert not [where for where, code, _ in pieces() if several.search(code)]
