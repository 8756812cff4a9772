"""Every `nats ...` line of the notebooks and the README, and the mission's checks, with the real CLI."""

import ast
import asyncio
import json
import os
import re
import shlex
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats
import nats.micro
import nbformat
import pytest
from nats.js.api import AckPolicy, ConsumerConfig
from programs import connected, tool

from helpers import orders
from helpers.cluster.embedded import Embedded
from helpers.cluster.interface import poll

pytestmark = pytest.mark.cli
ROOT = Path(__file__).parents[1]


def lines(text: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("nats ")]


def documents() -> dict[str, list[str]]:
    """Each document's name and its CLI lines, in their order."""
    found = defaultdict(list)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                found[path.stem] += lines(cell.source)
    for path in sorted(ROOT.glob("*.md")):
        found[path.stem] += lines(path.read_text(encoding="utf-8"))
    return {name: commands for name, commands in found.items() if commands}


DOCUMENTS = documents()


@asynccontextmanager
async def lesson():
    """A cluster as the notebooks leave it: ORDERS with its consumers, and the Inventory Service."""
    cluster = await Embedded().start()
    try:
        # On the node that the CLI asks: what is subscribed there, it finds at once.
        nc, js = await connected(cluster, servers=cluster.urls[:1])
        await js.add_stream(name="ORDERS", subjects=["orders.*"], num_replicas=3, allow_direct=True)
        await cluster.known("ORDERS")
        for order in orders.orders(1100):
            await js.publish_async("orders.new", order.payload())
        await js.publish_async_completed()
        explicit = ConsumerConfig(filter_subject="orders.payment", ack_policy=AckPolicy.EXPLICIT)
        await js.add_consumer("ORDERS", explicit, durable_name="payment-processor")
        await js.add_consumer(
            "ORDERS",
            ConsumerConfig(opt_start_seq=1000),
            durable_name="order-replay",
            deliver_policy="by_start_sequence",
            ack_policy="none",
        )
        service = await nats.micro.add_service(nc, name="inventory", version="1.0.0")
        group = service.add_group(name="inventory")
        await group.add_endpoint(name="check", handler=lambda r: r.respond(b'{"stock": 15}'))
        for store in range(4):

            async def stock(msg, store=store):
                await msg.respond(b"%d" % store)

            await nc.subscribe("stores.stock", cb=stock)
        await nc.flush()
        yield cluster, nc, js
        await nc.close()
    finally:
        await cluster.close()


def here(command: str, cluster) -> list[str]:
    """The command's words, as the learner types them where this cluster has the usual ports."""
    words = shlex.split(command.replace("--context lessons", f"--context {cluster.context}"))
    words = [cluster.urls[0] if word == "localhost:4222" else word for word in words]
    return [tool("nats"), *words[1:]]


async def run(command: str, cluster, seconds: float = 30) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *here(command, cluster),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        out, _ = await process.communicate()
        pytest.fail(f"{command} did not end in {seconds} s:\n{out.decode()}")
    return process.returncode, out.decode()


@asynccontextmanager
async def running(command: str, cluster):
    """A command on a terminal, ended afterwards; yields a function that waits for what it prints."""
    import pty  # there is none on Windows, where these tests are collected all the same

    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *here(command, cluster), stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    seen, reader = "", asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(master, "rb", 0)
    )

    async def printed(pattern: str, seconds: float = 20) -> None:
        nonlocal seen
        try:
            async with asyncio.timeout(seconds):
                while not re.search(pattern, seen):
                    chunk = await reader.read(4096)
                    assert chunk, f"{command} ended:\n{seen}"
                    seen += chunk.decode()
        except TimeoutError:
            raise TimeoutError(f"{command} never printed {pattern!r}:\n{seen}") from None

    try:
        yield printed
    finally:
        process.kill()
        await process.wait()
        transport.close()


# These go on until somebody ends them: what each prints when it has begun.
ENDLESS = {
    "sub": "Subscribing on",
    "subscribe": "Subscribing (on|to)",
    "reply": "Listening on",
    "stream view": r"\[1\] Subject:",
}


def test_there_are_lines_to_run():
    assert DOCUMENTS, "no ```bash block of a notebook or the README holds a `nats` line"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_line_runs(name):
    async def each():
        async with lesson() as (cluster, _, _):
            for command in DOCUMENTS[name]:
                assert "--context lessons" in command, f"not the notebook's cluster: {command}"
                endless = [text for verb, text in ENDLESS.items() if command.startswith(f"nats {verb} ")]
                if endless:
                    async with running(command, cluster) as printed:
                        await printed(endless[0])
                    continue
                code, out = await run(command, cluster)
                assert code == 0, f"{command}\n{out}"

    asyncio.run(each())


def cheat_sheet() -> list[tuple[list[str], list[str]]]:
    """The rows of the welcome's cheat sheet: the calls of nats-py, the `nats` command of the same."""
    cells = nbformat.read(ROOT / "notebooks" / "welcome.ipynb", as_version=4).cells
    [text] = [cell.source for cell in cells if cell.source.startswith("## Cheat sheet")]
    rows = [row.split(" | ")[1:] for row in text.splitlines() if row.startswith("| ") and "`" in row]
    found = [tuple(re.findall(r"`([^`]+)`", column) for column in row) for row in rows[1:]]
    # What makes something stands before what uses it, and who answers before who asks.
    return sorted(found, key=lambda row: not re.search(r"add_stream|add_consumer|queue=", " ".join(row[0])))


def test_the_cheat_sheet_does_what_it_says():
    async def each():
        cluster = await Embedded().start()
        try:
            nc, js = await connected(cluster)
            rows = cheat_sheet()
            assert len(rows) >= 12
            await in_python(rows, cluster, nc, js)
            async with AsyncExitStack() as stack:
                for command in [command for _, commands in rows for command in commands]:
                    if not command.startswith("nats "):
                        assert command == "Ctrl+C"  # drain: nothing to run
                        continue
                    command += " --context lessons"
                    if "--count 10" in command:  # so that there are ten
                        await run("nats pub --jetstream orders.new {} --count 10 --context lessons", cluster)
                    endless = [text for verb, text in ENDLESS.items() if command.startswith(f"nats {verb} ")]
                    if endless:
                        printed = await stack.enter_async_context(running(command, cluster))
                        await printed(endless[0])
                        continue
                    code, out = await run(command, cluster)
                    assert code == 0, f"{command}\n{out}"
        finally:
            await cluster.close()

    asyncio.run(each())


async def in_python(rows, cluster, nc, js):
    """The same twelve with nats-py; afterwards ORDERS is gone."""

    async def answer(msg):
        await msg.respond(b"yes")

    names = {"nc": nc, "js": js, "data": b"{}", "answer": answer}
    for call in [call for calls, _ in rows for call in calls]:
        if call.startswith("headers="):
            call = f'await js.publish("orders.new", data, {call})'
        code = compile(call, call, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if (found := eval(code, names)) is not None:
            await found
        if "add_stream" in call:
            await cluster.known("ORDERS")
            await js.publish("orders.new", b"{}")
        if "add_consumer" in call:
            await cluster.known("ORDERS", "payment-processor")
        if "drain()" in call:
            assert nc.is_closed
    other = await nats.connect(**cluster.options)
    await cluster.delete_streams(other.jetstream(domain=cluster.domain), "ORDERS")
    await other.close()


# -- the mission's three tests, to the letter, and what they really show ----------------------------


def test_mission_1_publish_and_list():
    """`nats pub` is core publish: it does not wait for JetStream, yet the stream stores the message."""

    async def check():
        async with lesson() as (cluster, _, js):
            before = (await js.stream_info("ORDERS")).state.messages
            pub = """nats pub orders.new '{"id": "12345", "amount": 150.00}' --context lessons"""
            code, out = await run(pub, cluster)
            assert code == 0 and "Published" in out

            async def stored():
                return (await js.stream_info("ORDERS")).state.messages == before + 1

            await poll(stored, 10, "ORDERS did not store what `nats pub` published")
            code, out = await run("nats stream list --context lessons", cluster)
            assert code == 0 and "ORDERS" in out
            # It says "Published" just as well where nothing listens and nothing stores.
            code, out = await run("nats pub nobody.there x --context lessons", cluster)
            assert code == 0 and "Published" in out
            code, out = await run("nats pub nobody.there x --jetstream --context lessons", cluster)
            assert code != 0, "with --jetstream it waits for the acknowledgement that nobody sends"

    asyncio.run(check())


def test_mission_2_a_queue_subscription_is_not_the_durable_consumer():
    async def check():
        async with lesson() as (cluster, _, js):
            sub = "nats sub orders.payment --queue payment-group --context lessons"
            async with running(sub, cluster) as printed:
                await printed("Subscribing on orders.payment")
                while True:  # the interest takes a moment to travel from node to node
                    await js.publish("orders.payment", b"order 12345")
                    try:
                        await printed("order 12345", seconds=1)
                        break
                    except TimeoutError:
                        continue
            info = await js.consumer_info("ORDERS", "payment-processor")
            # The subscriber saw the order; to the durable consumer it is as undelivered as before.
            assert info.num_pending >= 1 and info.delivered.consumer_seq == 0
            command = "nats consumer info ORDERS payment-processor --context lessons"
            code, out = await run(command, cluster)
            assert code == 0 and re.search(r"Unprocessed Messages: [1-9]", out), out
            code, out = await run(command.replace(" --context", " --json --context"), cluster)
            assert json.loads(out)["num_pending"] == info.num_pending

    asyncio.run(check())


def test_mission_3_request_and_report():
    """`nats server report` alone is a menu; its reports are the system account's."""

    async def check():
        async with lesson() as (cluster, _, _):
            req = """nats req inventory.check '{"productId": "ABC123"}' --context lessons"""
            code, out = await run(req, cluster)
            assert code == 0 and '"stock": 15' in out
            code, out = await run("nats server report --context lessons", cluster)
            assert code != 0 and "a subcommand from the list below is required" in out, out
            report = "nats server report jetstream --context lessons"
            code, out = await run(f"{report}-system", cluster)
            assert code == 0 and all(f"nats-server-{i}" in out for i in range(1, 5)), out
            code, out = await run(report, cluster)
            assert code != 0, "an ordinary client got the system account's report"

    asyncio.run(check())
