"""The external backend: somebody's cluster at NATS_URL. It is used, never harmed."""

import asyncio
import contextlib
import getpass
import os
import socket
import ssl
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nats
import psutil
from nats.js.api import ConsumerConfig, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from .interface import ONE_TRY, Cluster, ClusterError, FaultRefused, Node, Secret, must_be_open, poll

# The first part of every subject that a lesson publishes on, or makes a stream of.
ROOTS = (
    "audit", "cart", "customers", "dead", "hands", "history", "inventory", "ladder", "morning", "new",
    "one", "orders", "payments", "prices", "r1", "reports", "shop", "short", "stores", "till",
)  # fmt: skip
SECRETS = ("NATS_USER", "NATS_PASSWORD", "NATS_CREDS", "NATS_NKEY", "NATS_CA", "NATS_CERT", "NATS_KEY")
MARK = "nats-lessons"  # a stream's metadata: whose kernel made it
WILL_NOT_PASS = (10023, 10039, 10076)  # 503s that are no election: no resources, and JetStream that is off
# Version, and what goes without it. Below the last one nothing was tried.
NEEDED = {
    (2, 14): "bulk publishing, and so a year of orders (lesson 5; what costs and saturates in 1 and 4)",
    (2, 12): "write all or nothing (lesson 1)",
    (2, 11): "time to live (1), tracing (3), pause and priority groups (4)",
}
OLDEST = (2, 10)


class Plaintext(nats.errors.Error):
    """TLS was asked for, and this server does not require it."""

    def __str__(self) -> str:
        return (
            "tls:// was asked for and the server does not require TLS, so nats-py would speak plaintext; no "
            "password was sent"
        )


def _only_over_tls(secret: str) -> Any:
    """The secret as nats-py asks for it, at each connect: refused where the connection is plaintext.

    nats-py takes `tls://` for a wish. What it connected to only the client knows, which is the caller.
    """

    def ask() -> str:
        client = sys._getframe(1).f_locals["self"]
        if not client._server_info.get("tls_required"):
            raise Plaintext
        return secret

    return ask


def _file(name: str) -> str | None:
    """The path that the environment gives by this name; ClusterError where there is no such file."""
    if not (value := os.environ.get(name)):
        return None
    path = Path(value).expanduser()
    try:
        path.read_bytes()
    except OSError as error:
        raise ClusterError(f"{name}={value}: {error.strerror}; correct or unset {name}") from None
    return str(path)


def _address(url: str) -> tuple[str, tuple[str, str | None] | None]:
    """The address without its secrets, and those: a user and a password, or a token and None."""
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    # What follows the host of nats:// is most likely the rest of a password.
    if not host or parts.scheme not in ("nats", "tls", "ws", "wss") or "@" in parts.path + parts.query:
        raise ClusterError(
            "an address in NATS_URL cannot be read (it is not shown, for the password in it): it is written "
            "nats://user:password@host:4222, with / ? # : , @ in user and password as %2F %3F %23 %3A %2C %40"
        ) from None
    host = f"[{host}]" if ":" in host else host
    port = f":{port or 4222}" if parts.scheme in ("nats", "tls") or port else ""
    known = None
    if parts.username is not None:
        known = unquote(parts.username), None if parts.password is None else unquote(parts.password)
    return f"{parts.scheme}://{host}{port}{parts.path if parts.scheme in ('ws', 'wss') else ''}", known


def _mark() -> str:
    """Who makes streams here: the user, the machine, and this kernel among theirs."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no such user on this machine, as in some containers
        user = "somebody"
    return f"{user}@{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"


def _runs(mark: str) -> bool:
    """Whether the kernel that made this mark, on this machine, still runs."""
    _, pid, born = mark.rsplit(" ", 2)
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" == born
    except (psutil.Error, ValueError):
        return False


class _Unpublished(dict[str, None]):
    """The monitoring pages as we have them: none, and whoever asks for a node's hears why."""

    def __missing__(self, node: str) -> None:
        raise FaultRefused(
            "the monitoring pages of a cluster at NATS_URL are its operator's. Unset NATS_URL and restart "
            "the kernel to run this cell"
        )


class External(Cluster):
    """A cluster somebody else runs: no faults, and only what this learner's kernels made is deleted.

    Read from the environment, by the names the `nats` CLI uses: NATS_URL (a comma-separated list,
    with user:password@ or token@ where needed, tls:// for TLS), NATS_USER and NATS_PASSWORD, NATS_CREDS (a
    credentials file), NATS_NKEY (a seed file), NATS_CA, NATS_CERT and NATS_KEY (PEM files), and
    NATS_JS_DOMAIN where the JetStream domain is to be checked. A secret is in no name, error or repr.

    What is made here is marked in the stream's metadata, by `known` and by the next `delete_streams`: the
    cells make streams with plain nats-py, and a list kept elsewhere would outlive a stream that somebody else
    makes under the same name.
    """

    backend = "external"
    domain = None

    def __init__(self) -> None:
        super().__init__()
        self._mine = _mark()
        found = [_address(url.strip()) for url in os.environ.get("NATS_URL", "").split(",") if url.strip()]
        if not found:
            raise ClusterError("NATS_URL names no address: correct or unset it")
        self._urls = list(dict.fromkeys(url for url, _ in found))
        known = {who for _, who in found if who}
        if user := os.environ.get("NATS_USER"):
            known = known or {(user, os.environ.get("NATS_PASSWORD"))}
        if len(known) > 1:
            raise ClusterError("NATS_URL names more than one user: give all its addresses the same")
        self._login = next(iter(known), None)
        self.nodes = tuple(Node(url.partition("://")[2], url, None) for url in self._urls)

    @property
    def _wants_tls(self) -> bool:
        return any(url.startswith(("tls:", "wss:")) for url in self._urls) or bool(
            os.environ.get("NATS_CA") or os.environ.get("NATS_CERT")
        )

    @property
    def options(self) -> dict[str, Any]:
        options = super().options | {"servers": self._urls, "connect_timeout": 2}
        if self._login:
            names = ("token",) if self._login[1] is None else ("user", "password")
            for name, value in zip(names, self._login, strict=False):
                options[name] = _only_over_tls(value) if self._wants_tls else Secret(value)
        if creds := _file("NATS_CREDS"):
            options["user_credentials"] = creds
        if seed := _file("NATS_NKEY"):
            options["nkeys_seed"] = seed
        if self._wants_tls:
            try:
                tls = ssl.create_default_context(cafile=_file("NATS_CA"))
                if certificate := _file("NATS_CERT"):
                    tls.load_cert_chain(certificate, _file("NATS_KEY"))
            except ssl.SSLError as error:
                raise ClusterError(f"NATS_CA, NATS_CERT or NATS_KEY is no PEM file: {error}") from None
            options["tls"] = tls
        return options

    @property
    def operator_options(self) -> dict[str, Any]:
        raise FaultRefused("the system account of a cluster at NATS_URL is its operator's, not ours")

    async def start(self) -> "External":
        await self.wait_ready()
        return self

    def __repr__(self) -> str:
        return f"{super().__repr__()}; at {', '.join(self._urls)}"

    # -- what the lessons do, tried before they do it --------------------------------------------

    async def wait_ready(self, timeout: float = 30) -> None:
        """Returns when all that the lessons do was done once; ClusterError with the server's words if not."""
        refusal = asyncio.get_running_loop().create_future()

        async def hear(error: Exception) -> None:
            # A subject that is forbidden is no answer to the request: it comes beside it, and at once.
            if "permissions violation" in str(error).lower() and not refusal.done():
                refusal.set_result(str(error))

        nc = await self._connected(hear)
        work = asyncio.ensure_future(self._probe(nc, timeout))
        try:
            await asyncio.wait({work, refusal}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClusterError(
                    f"this user may not do what the lessons do, the server says: {refusal.result()}. Ask its "
                    "operator for publish and subscribe on the lessons' subjects, `$JS.>` and `_INBOX.>`, or "
                    "unset NATS_URL for a cluster of your own"
                )
            await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await nc.close()

    async def _connected(self, error_cb: Any) -> nats.NATS:
        where = ", ".join(self._urls)
        try:
            nc = await nats.connect(**self.options | ONE_TRY | {"error_cb": error_cb})
            if self._wants_tls and not nc._server_info.get(
                "tls_required"
            ):  # there was no password to ask for
                await nc.close()
                raise Plaintext
        except ClusterError:
            raise
        except Plaintext as refusal:
            raise ClusterError(f"{where}: {refusal}. Write nats://, or ask its operator for TLS") from None
        except Exception as error:  # also what nkeys says of a seed, and ssl of a certificate
            given = " or ".join(["NATS_URL", *(name for name in SECRETS if os.environ.get(name))])
            raise ClusterError(
                f"no NATS server lets us in at {where} ({str(error) or type(error).__name__}): start it, "
                f"correct {given}, or unset NATS_URL for a cluster of your own"
            ) from None
        return nc

    async def _probe(self, nc: nats.NATS, timeout: float) -> None:
        servers = await self._servers(nc)
        self._check_versions({info["version"] for _, info in servers.values()})
        js = await self._jetstream(nc)
        await self._check_captures(js)
        name = "PROBE_" + nc._nuid.next().decode()
        for ask in (js.stream_info, js.purge_stream, js.delete_stream):  # forbidden? Then before it is needed
            await self._done(lambda ask=ask: _nothing(ask(name)), f"{ask.__name__} of no stream", timeout)
        memory = StreamConfig(name=f"{name}_M", subjects=[f"{name}_M"], storage="memory", num_replicas=1)
        try:
            await self._done(lambda: js.add_stream(memory), "a stream in memory", timeout)
            info = await self._replicated(js, name, timeout)
            await self._done(lambda: js.publish(name, b"ready?"), "publish", timeout)
            durable = ConsumerConfig(durable_name=name, ack_policy="explicit")
            await self._done(lambda: js.add_consumer(name, durable), "add_consumer", timeout)
            sub = await js.pull_subscribe_bind(name, name)
            await self._done(lambda: _acknowledged(sub), "fetch", timeout)
            await self._done(lambda: js.consumer_info(name, name), "consumer_info", timeout)
            await self._done(lambda: js.delete_consumer(name, name), "delete_consumer", timeout)
        finally:
            for stream in (name, memory.name):
                await self._done(
                    lambda stream=stream: _nothing(js.delete_stream(stream)), "delete_stream", timeout
                )
        self._count(servers, info)

    async def _servers(self, nc: nats.NATS) -> dict[str, tuple[str, dict]]:
        """Each server that lets us in: its name, its URL and its INFO. Two spellings of one are one."""

        async def ask(url: str) -> tuple[str, dict] | None:
            try:
                one = await nats.connect(**self.options | ONE_TRY | {"servers": [url]})
            except Exception:
                return None  # nats-py does without it, too
            info = one._server_info
            await one.close()
            return url, info

        found = self._urls + [server.geturl() for server in nc.servers]
        answers = await asyncio.gather(*(ask(url) for url in dict.fromkeys(found)))
        servers: dict[str, tuple[str, dict]] = {}
        for url, info in (answer for answer in answers if answer):
            servers.setdefault(info.get("server_name") or info["server_id"], (url, info))
        return servers

    def _check_versions(self, versions: set[str]) -> None:
        oldest = min(versions, key=_version)
        if _version(oldest) < OLDEST:
            raise ClusterError(
                f"a server at NATS_URL is NATS {oldest}, the lessons need 2.14, and most of them 2.10: "
                "update it, or unset NATS_URL for a cluster of your own"
            )
        without = [what for needed, what in NEEDED.items() if _version(oldest) < needed]
        if without:
            print(f"The lessons need NATS 2.14, a server here is {oldest}. Without it: {'; '.join(without)}.")

    async def _jetstream(self, nc: nats.NATS) -> nats.js.JetStreamContext:
        try:
            self.domain = (await nc.jetstream(timeout=5).account_info()).domain
        except ServiceUnavailableError as error:  # no text of its own where nothing answers
            raise ClusterError(
                "JetStream is off at NATS_URL, or not enabled for this account: start the servers with "
                "`-js`, or ask the operator to enable it"
            ) from error
        except (nats.errors.Error, TimeoutError) as error:
            raise ClusterError(
                f"JetStream at NATS_URL does not say whose account this is: {error!r}"
            ) from None
        wanted = os.environ.get("NATS_JS_DOMAIN")
        if wanted and wanted != self.domain:
            raise ClusterError(
                f"the JetStream domain at NATS_URL is {self.domain!r}, NATS_JS_DOMAIN says {wanted!r}: "
                "correct or unset NATS_JS_DOMAIN"
            )
        return nc.jetstream(domain=self.domain, timeout=2)

    async def _check_captures(self, js: nats.js.JetStreamContext) -> None:
        """Somebody's stream must not store what a lesson publishes."""
        for info in await _streams(js):
            taken = [s for s in info.config.subjects or () if s.partition(".")[0] in (*ROOTS, "*", ">")]
            if taken and not self._ours(info):
                raise ClusterError(
                    f"the stream {info.config.name} at NATS_URL keeps what is published on "
                    f"{', '.join(taken)}, and so would keep what the lessons publish: use an account of your "
                    "own, or unset NATS_URL for a cluster of your own. "
                    f"If it is left over, delete it yourself: {_commands([info.config.name])}"
                )

    async def _replicated(self, js: nats.js.JetStreamContext, name: str, timeout: float) -> StreamInfo:
        """A stream of as many replicas as can be had, five at most; ClusterError where it is not three."""
        for replicas in (5, 4):
            with contextlib.suppress(ClusterError):
                return await self._made(js, name, replicas, timeout)
        return await self._made(js, name, 3, timeout)

    async def _made(self, js: Any, name: str, replicas: int, timeout: float) -> StreamInfo:
        config = StreamConfig(name=name, subjects=[name], num_replicas=replicas)
        what = f"a stream of {replicas} replicas"
        info = await self._done(lambda: js.add_stream(config), what, timeout)
        if not info.cluster or 1 + len(info.cluster.replicas or ()) < replicas:
            raise ClusterError(f"{what} has {info.cluster} at NATS_URL: name a cluster, or unset NATS_URL")
        return info

    async def _done(self, action: Any, what: str, timeout: float) -> Any:
        """What it returns; asked again during an election, and never after a refusal."""

        async def once() -> tuple | None:
            try:
                return (await action(),)
            except APIError as refusal:
                # A fetch from a consumer that its node has not heard of yet has no number at all.
                if isinstance(refusal, ServiceUnavailableError) and refusal.err_code not in WILL_NOT_PASS:
                    return None
                raise ClusterError(
                    f"JetStream at NATS_URL refuses what the lessons do ({what}): {refusal.code}/"
                    f"{refusal.err_code} {refusal.description}. Ask its operator for an account that may, or "
                    "unset NATS_URL for a cluster of your own"
                ) from None
            except (nats.errors.Error, TimeoutError):
                return None

        return (await poll(once, timeout, f"{what} at NATS_URL is not answered"))[0]

    def _count(self, servers: dict[str, tuple[str, dict]], info: StreamInfo) -> None:
        """The nodes: those that let us in, and those that a stream's replicas are on."""
        peers = [info.cluster.leader, *(peer.name for peer in info.cluster.replicas or ())]
        urls = {name: url for name, (url, _) in servers.items()}
        self.nodes = tuple(
            Node(name, urls.get(name, self._urls[0]), None) for name in sorted({*urls, *filter(None, peers)})
        )

    # -- whose stream ------------------------------------------------------------------------------

    def _ours(self, info: StreamInfo) -> bool:
        """Made by a kernel of this user's on this machine, perhaps an earlier one."""
        mark = (info.config.metadata or {}).get(MARK)
        if mark is None:
            return info.config.name in self._claimed
        return mark.rsplit(" ", 2)[0] == self._mine.rsplit(" ", 2)[0]  # a user's name may have a space

    async def _sign(self, js: nats.js.JetStreamContext) -> list[StreamInfo]:
        """Marks the streams that were not there when this kernel looked for them, and are now."""
        found = await _streams(js)
        for info in found:
            if info.config.name in self._claimed and MARK not in (info.config.metadata or {}):
                info.config.metadata = (info.config.metadata or {}) | {MARK: self._mine}
                try:
                    await js.update_stream(info.config)
                except (nats.errors.Error, TimeoutError):
                    break  # not allowed, or no leader: it stays unmarked, and so the next kernel leaves it
        return found

    async def known(self, stream: str, consumer: str | None = None, timeout: float = 10) -> None:
        await super().known(stream, consumer, timeout)
        async with await nats.connect(**self.options) as nc:
            await self._sign(nc.jetstream(domain=self.domain, timeout=2))

    async def delete_streams(self, js: nats.js.JetStreamContext, *streams: str) -> None:
        must_be_open(js)
        there = {info.config.name: info for info in await self._sign(js) if info.config.name in streams}
        theirs = [name for name, info in there.items() if not self._ours(info)]
        if theirs:
            raise ClusterError(
                f"{', '.join(theirs)}: here before this notebook, so left alone. Use another account, unset "
                f"NATS_URL, or delete what is left over yourself: {_commands(theirs)}"
            )
        for name, info in there.items():
            mark = (info.config.metadata or {}).get(MARK, self._mine)
            if mark != self._mine and _runs(mark):
                raise ClusterError(
                    f"{name} belongs to another notebook of yours that is open (process {mark.split()[-2]}): "
                    "shut its kernel down first"
                )
        await super().delete_streams(js, *streams)

    async def pages(self, path: str) -> dict[str, dict | None]:
        return _Unpublished()

    async def states(self) -> dict[str, str]:
        return {node.name: "running" for node in self.nodes}

    async def _refuse(self, *_: object) -> None:
        raise FaultRefused(
            "this cluster is somebody else's (NATS_URL): the notebooks stop, kill and pause only servers "
            "they started. Unset NATS_URL and restart the kernel to run this cell"
        )

    _signal = _start = kill = stop = pause = resume = restart = lame_duck = isolate = _refuse


async def _nothing(request: Awaitable) -> bool:
    """True where there is no such stream, which is an answer, too."""
    with contextlib.suppress(NotFoundError):
        await request
    return True


async def _acknowledged(sub: Any) -> bool:
    [msg] = await sub.fetch(1, timeout=2)
    await msg.ack_sync()
    return True


async def _streams(js: nats.js.JetStreamContext) -> list[StreamInfo]:
    """All of the account's streams; the server gives 256 at a time."""
    found: list[StreamInfo] = []
    while page := await js.streams_info(offset=len(found)):
        found += page
    return found


def _version(text: str) -> tuple[int, int]:
    return tuple(int(part) for part in text.split(".")[:2])


def _commands(streams: list[str]) -> str:
    return ", ".join(f"`nats stream rm {name}`" for name in streams)
