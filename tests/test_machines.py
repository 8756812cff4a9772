"""Odd addresses, credentials and servers behind NATS_URL: what is in the way, and what a person reads.

docs/machines.md is made of this table: python tests/test_machines.py
"""

import asyncio
import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import nkeys
import pytest
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import ServiceUnavailableError
from test_cluster import client, embedded, known_there, lone_server

from helpers import responders
from helpers.cluster import ClusterError, open_cluster
from helpers.cluster.embedded import free_ports
from helpers.cluster.external import MARK, SECRETS, External

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "machines.md"
HEAD = """# What is in the way, and what you read

Made of the table in `tests/test_machines.py`, which tries each line: `python tests/test_machines.py` writes
this page. `make doctor` looks at the machine itself; this is about a cluster of your own, at `NATS_URL`.

| what is in the way | what you read |
| --- | --- |
"""
SECRET = "s3cr3t"  # stands in most rows, and in no message


class Row(NamedTuple):
    """`server` is None (nothing is started), or the arguments of one, or "cluster" for three of ours."""

    what: str
    reads: str
    url: str = "nats://{host}"
    server: tuple[str, ...] | str | None = ()
    environment: dict[str, str] | None = None
    config: str = ""
    stream: str | None = None


NO_JETSTREAM = "JetStream is off at NATS_URL, or not enabled for this account"  # so the login went well
LOGIN = "authorization {{ user: ann, password: " + SECRET + " }}"
FORBIDDEN = (
    "authorization {{ users: [ {{ user: ann, password: " + SECRET + ", permissions: {{ {what} }} }} ] }}"
)

ACCOUNT = (
    "accounts {{ A: {{ users: [ {{ user: ann, password: " + SECRET + " }} ], jetstream: {{ {what} }} }} }}"
)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def pair(prefix: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))


def token(issuer: nkeys.KeyPair, subject: str, kind: str) -> str:
    """A JWT as NATS reads it: signed by its issuer with Ed25519."""
    claims = {"iat": int(time.time()), "iss": issuer.public_key.decode(), "sub": subject, "name": kind}
    # Minus one is "no limit"; a zero would let nobody in.
    none = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    limits = none if kind == "account" else dict.fromkeys(("subs", "data", "payload"), -1)
    claims["nats"] = {"type": kind, "version": 2}
    if kind == "account":
        claims["nats"]["limits"] = limits | {"wildcards": True}
    elif kind == "user":
        claims["nats"] |= limits
    digest = hashlib.sha256(json.dumps(claims).encode()).digest()
    claims["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    head = encoded(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    text = f"{head}.{encoded(json.dumps(claims).encode())}"
    return f"{text}.{encoded(issuer.sign(text.encode()))}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What stands in braces in a row: files of secrets, and what a server must know of them."""
    folder = tmp_path_factory.mktemp("secrets")
    operator, account, user = map(
        pair, (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER)
    )
    names = {key: pair_.public_key.decode() for key, pair_ in (("account", account), ("user", user))}
    signed = token(account, names["user"], "user")
    files = {
        "creds": f"-----BEGIN NATS USER JWT-----\n{signed}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n",
        "seed": user.seed.decode(),
        "garbage": "garbage",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="ascii")
    operated = (
        f"operator: {token(operator, operator.public_key.decode(), 'operator')}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {names['account']}: {token(operator, names['account'], 'account')} }}"
    )
    return {name: str(folder / name) for name in files} | {"operated": operated, "public": names["user"]}


ROWS = [
    Row("an address of another protocol", "an address in NATS_URL cannot be read", "http://{host}", None),
    Row(
        "a `/` in the password",
        "with / ? # : , @ in user and password as %2F %3F %23 %3A %2C %40",
        f"nats://ann:{SECRET}/x@{{host}}",
        None,
    ),
    Row("a list of nothing", "NATS_URL names no address: correct or unset it", " , ", None),
    Row(
        "two users in one list",
        "NATS_URL names more than one user: give all its addresses the same",
        f"nats://ann:{SECRET}@{{host}},nats://ben:{SECRET}@{{host}}",
        None,
    ),
    Row("nobody listens there", "start it, correct NATS_URL, or unset NATS_URL for a cluster", server=None),
    Row(
        "a credentials file that is not there",
        "No such file or directory; correct or unset NATS_CREDS",
        server=None,
        environment={"NATS_CREDS": "/nowhere/x.creds"},
    ),
    Row(
        "a certificate that is none",
        "NATS_CA, NATS_CERT or NATS_KEY is no PEM file",
        server=None,
        environment={"NATS_CA": "{garbage}"},
    ),
    Row(
        "the wrong password",
        "correct NATS_URL, or unset NATS_URL",
        f"nats://ann:{SECRET}x@{{host}}",
        config=LOGIN,
    ),
    Row(
        "the wrong password, in the environment",
        "correct NATS_URL or NATS_USER or NATS_PASSWORD",
        environment={"NATS_USER": "ann", "NATS_PASSWORD": f"{SECRET}x"},
        config=LOGIN,
    ),
    Row("a seed that is none", "correct NATS_URL or NATS_NKEY", environment={"NATS_NKEY": "{garbage}"}),
    Row(
        "`tls://`, and a server without TLS",
        "no password was sent. Write nats://, or ask its operator for TLS",
        f"tls://ann:{SECRET}@{{host}}",
        config=LOGIN,
    ),
    Row("no JetStream", NO_JETSTREAM),
    Row(
        "no JetStream, and a password with `@` as %40",
        NO_JETSTREAM,
        f"nats://ann:{SECRET}%40home@{{host}}",
        config=LOGIN.replace(SECRET, f'"{SECRET}@home"'),
    ),
    Row(
        "no JetStream, and a seed in NATS_NKEY",
        NO_JETSTREAM,
        environment={"NATS_NKEY": "{seed}"},
        config="authorization {{ users: [ {{ nkey: {public} }} ] }}",
    ),
    Row(
        "no JetStream, and credentials of an operator in NATS_CREDS",
        NO_JETSTREAM,
        environment={"NATS_CREDS": "{creds}"},
        config="{operated}",
    ),
    Row(
        "an account without memory storage",
        "(a stream in memory): 500/10028 insufficient memory resources available. Ask its operator",
        f"nats://ann:{SECRET}@{{host}}",
        ("-js",),
        config=ACCOUNT.replace("{what}", "max_mem: 0, max_file: 1GB"),
    ),
    Row(
        "an account whose streams must have `max_bytes`",
        "400/10113 account requires a stream config to have max bytes set. Ask its operator",
        f"nats://ann:{SECRET}@{{host}}",
        ("-js",),
        config=ACCOUNT.replace("{what}", "max_mem: 1GB, max_file: 1GB, max_bytes_required: true"),
    ),
    Row("one server with JetStream", "10074 replicas > 1 not supported", server=("-js",)),
    Row(
        "a user who may not delete streams",
        "this user may not do what the lessons do, the server says: nats: permissions violation for publish",
        f"nats://ann:{SECRET}@{{host}}",
        ("-js",),
        config=FORBIDDEN.replace("{what}", 'publish: {{ deny: "$JS.API.STREAM.DELETE.>" }}'),
    ),
    Row(
        "a user without an inbox",
        "this user may not do what the lessons do, the server says: nats: permissions violation for sub",
        f"nats://ann:{SECRET}@{{host}}",
        ("-js",),
        config=FORBIDDEN.replace("{what}", 'subscribe: {{ deny: "_INBOX.>" }}'),
    ),
    Row(
        "another JetStream domain than NATS_JS_DOMAIN",
        "is 'enterprise', NATS_JS_DOMAIN says 'elsewhere': correct or unset NATS_JS_DOMAIN",
        server="cluster",
        environment={"NATS_JS_DOMAIN": "elsewhere"},
    ),
    Row(
        "a stream of somebody's on our subjects",
        "the stream THEIRS at NATS_URL keeps what is published on orders.>, and so would keep what",
        server="cluster",
        stream="orders.>",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.what for row in ROWS])
def test_what_a_person_reads(row, made, monkeypatch, tmp_path):
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    for name, value in (row.environment or {}).items():
        monkeypatch.setenv(name, value.format(**made))

    async def said(address):
        monkeypatch.setenv("NATS_URL", address)
        began = time.monotonic()
        with pytest.raises(ClusterError) as raised:
            await External().start()
        assert time.monotonic() - began < 10  # connecting may take 2 s, an answer 5 s
        return str(raised.value)

    async def run():
        if row.server is None:
            return await said(row.url.format(host=f"127.0.0.1:{free_ports(1)[0]}"))
        if row.server == "cluster":
            async with embedded(size=3) as theirs, client(theirs) as (_, js):
                if row.stream:
                    await js.add_stream(name="THEIRS", subjects=[row.stream])
                return await said(known_there(theirs))
        (tmp_path / "server.conf").write_text(row.config.format(**made), encoding="ascii")
        arguments = (*row.server, "-c", str(tmp_path / "server.conf"), "-sd", str(tmp_path / "store"))
        async with lone_server(*arguments) as url:
            return await said(row.url.format(host=url.removeprefix("nats://")))

    message = asyncio.run(run())
    assert row.reads in message
    assert SECRET not in message and Path(made["seed"]).read_text(encoding="ascii") not in message


@pytest.mark.parametrize(("scheme", "sent"), [("tls", False), ("nats", True)])
def test_a_password_goes_to_no_server_without_tls_where_tls_was_asked_for(
    scheme, sent, monkeypatch, tmp_path
):
    """As the server traces it; it blackens the password, not its name."""
    config, log = tmp_path / "server.conf", tmp_path / "log"
    config.write_text(LOGIN.format(), encoding="ascii")

    async def run():
        async with lone_server("-c", str(config), "-V", "-l", str(log)) as url:
            monkeypatch.setenv("NATS_URL", url.replace("nats://", f"{scheme}://ann:{SECRET}@"))
            with pytest.raises(ClusterError):
                await External().start()
        return '"pass": "[REDACTED]"' in log.read_text(encoding="utf-8")

    assert asyncio.run(run()) is sent


def test_the_inventory_services_take_part(monkeypatch):
    async def run():
        async with embedded(size=3) as theirs, client(theirs) as (nc, _):
            monkeypatch.setenv("NATS_URL", known_there(theirs))
            team = await responders.start(await External().start(), "inventory-1")
            try:
                return json.loads((await nc.request("inventory.check", b'{"productId": ""}')).data)
            finally:
                team.close()

    assert asyncio.run(run()) == {"responder": "inventory-1", "available": 0}


def test_external_without_an_address_says_so(monkeypatch):
    monkeypatch.delenv("NATS_URL", raising=False)
    with pytest.raises(ClusterError, match="names no address"):
        asyncio.run(open_cluster("external"))


def test_people_whose_first_names_are_the_same_are_two(monkeypatch):
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:4222")
    monkeypatch.setattr("getpass.getuser", lambda: "John Doe")
    ours, theirs = External(), StreamInfo(StreamConfig(metadata={MARK: "John Smith@elsewhere 1 2"}), None)
    assert not ours._ours(theirs)
    theirs.config.metadata[MARK] = ours._mine
    assert ours._ours(theirs)


MAKES = """
import asyncio, nats, sys
from helpers.cluster import open_cluster
async def main():
    cluster = await open_cluster()
    nc = await nats.connect(**cluster.options)
    js = nc.jetstream(domain=cluster.domain, timeout=10)
    await cluster.delete_streams(js, "ORDERS")
    await js.add_stream(name="ORDERS", subjects=["orders.>"], num_replicas=3)
    await cluster.known("ORDERS")
    print("made", flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


def test_the_streams_of_a_kernel_that_ended_are_ours_and_those_of_one_that_runs_are_left(monkeypatch):
    async def run():
        async with embedded(size=3) as theirs, client(theirs) as (_, js):
            monkeypatch.setenv("NATS_URL", known_there(theirs))
            with subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                [sys.executable, "-c", MAKES],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as other:
                assert await asyncio.to_thread(other.stdout.readline) == "made\n"
                cluster = await External().start()
                with pytest.raises(ClusterError, match=f"open .process {other.pid}.: shut its kernel down"):
                    await cluster.delete_streams(js, "ORDERS")
                other.stdin.close()
            await cluster.delete_streams(js, "ORDERS")
            assert await js.streams_info() == []

    asyncio.run(run())


def test_a_fetch_before_its_consumer_is_known_is_asked_again(monkeypatch):
    """Nobody is there to answer it: a 503 without a number, as on a node that has not heard of it yet."""

    async def run():
        async with embedded(size=3) as theirs, client(theirs) as (_, js):
            monkeypatch.setenv("NATS_URL", known_there(theirs))
            await js.add_stream(name="ORDERS", subjects=["orders"])
            await theirs.known("ORDERS")
            await js.publish("orders")
            sub = await js.pull_subscribe_bind("late", "ORDERS")

            async def ask():
                try:
                    return await sub.fetch(1, timeout=1)
                except ServiceUnavailableError:
                    await js.add_consumer("ORDERS", durable_name="late")
                    raise

            assert len(await External()._done(ask, "fetch", 20)) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("version", "reads"),
    [
        ("2.9.25", "need 2.14, and most of them 2.10"),
        ("2.10.0", "time to live (1)"),
        ("2.12.1", "bulk publishing"),
    ],
)
def test_an_older_server_is_named_with_what_goes_without(version, reads, monkeypatch, capsys):
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:4222")
    try:
        External()._check_versions({"2.14.0", version})
    except ClusterError as refusal:
        assert version == "2.9.25" and reads in str(refusal)
    else:
        assert reads in capsys.readouterr().out and version != "2.9.25"


def page():
    return HEAD + "".join(f"| {row.what} | … {row.reads} … |\n" for row in ROWS)


def test_the_page_is_made_of_the_table():
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/test_machines.py writes it again"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
