"""What every backend of the cluster offers: nodes, readiness, faults, and errors that say what to do."""

import asyncio
import contextlib
import http.client
import itertools
import json
import urllib.request
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import nats
from nats.js.api import ConsumerConfig, ConsumerInfo, DeliverPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError

# Monitoring pages are on this machine: the environment's proxy has no part in them.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
ONE_TRY = {"allow_reconnect": False, "max_reconnect_attempts": 1}
ROUTES = 4  # between two nodes: a pool of three, the server's default, and one for the system account
ASSETS = "/jsz?accounts=true&streams=true&consumers=true"


# What clients with `options` told their `error_cb`: lost sockets, and what a learner's callbacks raised.
callback_errors: deque[Exception] = deque(maxlen=20)


class ClusterError(RuntimeError):
    """The cluster cannot do what was asked; the message names the cause and the repair."""


class FaultRefused(ClusterError):
    """This fault is not injected here: the servers are not the project's, or the system cannot."""


class Secret(str):
    """A password for nats-py, that no output shows: a frame, a repr and an error say `'...'`."""

    def __repr__(self) -> str:
        return "'...'"


@dataclass(frozen=True)
class Node:
    """One server: its name, client URL, and monitoring URL (None where nobody published one)."""

    name: str
    url: str
    monitor: str | None

    @property
    def cluster(self) -> str:
        """What its name begins with; nodes of one cluster share it, and have routes to each other."""
        return self.name.rpartition("-")[0]


async def poll(probe: Callable[[], Awaitable], seconds: float, what: str, every: float = 0.02) -> Any:
    """The first truthy answer of `probe`; ClusterError(`what`) when none came in time."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    try:
        async with asyncio.timeout_at(deadline):  # for a probe that hangs
            while not (answer := await probe()):
                # Before Python 3.12 `asyncio.wait_for` inside a probe may swallow the time-out above.
                if clock() > deadline:
                    raise TimeoutError
                await asyncio.sleep(every)
            return answer
    except TimeoutError:
        if clock() < deadline:
            raise  # the probe's own
        raise ClusterError(f"{what} (waited {seconds:.0f} s)") from None


async def get_json(url: str, timeout: float = 1.0) -> dict | None:
    """A monitoring page as a dict, or None where nobody answers with JSON and status 200."""

    def get() -> dict | None:
        try:
            with _direct.open(url, timeout=timeout) as response:
                return json.load(response)
        except (OSError, ValueError, http.client.HTTPException):
            return None  # refused, timed out, an HTTP error; half a reply of a server that dies is the last

    return await asyncio.to_thread(get)


def routed(routez: dict[str, dict | None], pairs: Iterable[tuple[str, str]]) -> bool:
    """Whether the pages at `/routez`, by node, show all the routes from each first to each second."""
    count = Counter(
        (node, route["remote_name"])
        for node, page in routez.items()
        for route in (page or {}).get("routes") or []
    )
    return all(count[pair] >= ROUTES for pair in pairs)


def _groups(jsz: dict | None) -> dict[str, dict]:
    """The Raft groups of a node by name, from its page at `ASSETS`; a stream also has its `last_seq`."""
    found = {}
    for account in (jsz or {}).get("account_details") or []:
        for stream in account.get("stream_detail") or []:
            for asset in (stream, *(stream.get("consumer_detail") or [])):
                group = asset.get("cluster") or {}
                if "raft_group" in group:
                    last = asset.get("state", {}).get("last_seq", 0)
                    found[group["raft_group"]] = group | {"last_seq": last}
    return found


def _probe(stream: StreamConfig, consumer: ConsumerInfo | None) -> tuple[str, bytes, dict | None]:
    """Subject, payload and headers of a request that only the leader answers, and refuses."""
    if consumer:
        names = f"{stream.name}.{consumer.name}"
        if consumer.config.deliver_subject:  # push: nobody asks it for messages
            return f"$JS.API.CONSUMER.INFO.{names}", b"", None
        return f"$JS.API.CONSUMER.MSG.NEXT.{names}", b"{", None
    if not stream.subjects or stream.no_ack or stream.mirror:  # nothing of these answers a publish
        return f"$JS.API.STREAM.INFO.{stream.name}", b"", None
    concrete = ".".join("x" if part in "*>" else part for part in stream.subjects[0].split("."))
    return concrete, b"", {"Nats-Expected-Stream": "?"}


def _pending(info: ConsumerInfo) -> int:
    return (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)


async def _selected(js: nats.js.JetStreamContext, info: StreamInfo, config: ConsumerConfig) -> int:
    """How many of the stream's messages a new consumer must see, at least; 0 where nobody can count them."""
    filters = [config.filter_subject] if config.filter_subject else config.filter_subjects
    subjects: dict[str, int] = {}
    for one in filters or [">"]:
        subjects |= (await js.stream_info(info.config.name, subjects_filter=one)).state.subjects or {}
    policy = config.deliver_policy or DeliverPolicy.ALL
    if policy == DeliverPolicy.ALL:
        return sum(subjects.values())
    if policy == DeliverPolicy.LAST_PER_SUBJECT:
        return len(subjects)
    if policy == DeliverPolicy.LAST:
        return min(1, len(subjects))
    if policy == DeliverPolicy.BY_START_SEQUENCE and not filters:
        before = max(0, (config.opt_start_seq or 1) - info.state.first_seq)
        return max(0, info.state.messages - before)  # at least so many: some before it may be deleted
    return 0


def must_be_open(js: nats.js.JetStreamContext) -> None:
    """ClusterError where the notebook has closed this connection."""
    if js._nc.is_closed:
        raise ClusterError("this connection is closed, as after *Clean up*: run *Connect* again")


async def _last(js: nats.js.JetStreamContext, stream: str, subject: str) -> int:
    """The sequence of the last message on a subject of the stream, as its leader says; 0 without one."""
    with contextlib.suppress(NotFoundError):  # no such message: the stream itself has just answered
        return (await js.get_last_msg(stream, subject)).seq or 0
    return 0


class Cluster:
    """A running cluster. Faults take a node's name and return when they have taken effect."""

    backend: str
    nodes: tuple[Node, ...]
    domain: str | None = "enterprise"
    closed = False
    _password: Secret | None = None  # the learner's and the operator's

    def __init__(self) -> None:
        self._leaving: set[asyncio.Task] = set()  # nodes told to go, and perhaps not gone yet
        self._claimed: set[str] = set()

    # -- what a client needs ------------------------------------------------------------------

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments for `nats.connect`: every node, and reconnects quick enough for a lesson."""

        async def no_traceback(error: Exception) -> None:  # as nats-py's default prints for each lost socket
            callback_errors.append(error)

        login = {"user": "learner", "password": self._password} if self._password else {}
        return login | {
            "servers": self.urls,
            "error_cb": no_traceback,
            "connect_timeout": 0.5,
            "reconnect_time_wait": 0.05,
            # Some minutes of outage. Not -1: with that, nats-py's first connect never gives up either.
            "max_reconnect_attempts": 1000,
            "ping_interval": 1,
            "max_outstanding_pings": 2,
        }

    @property
    def operator_options(self) -> dict[str, Any]:
        """The same for the system account, which alone may ask `$SYS` and move the meta leader."""
        return self.options | {"user": "operator"}

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise ClusterError(f"no node {name!r}: the nodes are {', '.join(n.name for n in self.nodes)}")

    def api(self, subject: str) -> str:
        """`$JS.API` as it is called here: with the cluster's JetStream domain."""
        return subject.replace("$JS.API", f"$JS.{self.domain}.API" if self.domain else "$JS.API")

    def __repr__(self) -> str:
        names = ", ".join(node.name for node in self.nodes)
        return f"{len(self.nodes)} nodes, JetStream domain {self.domain}: {names}"

    # -- state --------------------------------------------------------------------------------

    async def states(self) -> dict[str, str]:
        """Each node's name and what became of it: "running", "paused" or "down"."""

    async def pages(self, path: str) -> dict[str, dict | None]:
        """A monitoring page (`/varz`, ...) of every node that has them; None where one does not answer."""
        nodes = [node for node in self.nodes if node.monitor]
        pages = await asyncio.gather(*(get_json(f"{node.monitor}{path}") for node in nodes))
        return {node.name: page for node, page in zip(nodes, pages, strict=True)}

    async def wait_ready(self, timeout: float = 30) -> None:
        """Returns when every node is healthy and routed, and an R3 stream accepted a message."""
        async with await poll(self._client, timeout, f"no node of {self.urls} lets a client in") as nc:
            js = nc.jetstream(domain=self.domain, timeout=0.3)
            # One name for all tries: one that timed out may have made the stream all the same.
            probe = "PROBE_" + nc._nuid.next().decode()
            disagree = "not every node knows the same meta leader: see `monitor.nodes`"
            try:
                await asyncio.gather(
                    poll(lambda: self._accepts(js, probe), timeout, "no R3 stream could be made"),
                    poll(self._healthy, timeout, "not every node reports healthy: see `states()`"),
                    poll(self._routed, timeout, "not every two nodes have all their routes"),
                    poll(self._agreed, timeout, disagree),
                )
                await poll(lambda: self._gone(js, probe), timeout, f"the stream {probe} cannot be deleted")
                await poll(lambda: self._forgotten(probe), timeout, f"not every node has deleted {probe}")
                # Once more: nodes that came back one by one may have elected another leader since.
                await poll(self._agreed, timeout, disagree)
            except BaseException:  # not ready, or interrupted
                await self._gone(js, probe)
                raise

    async def _client(self, **more: Any) -> nats.NATS | None:
        """A connection, or None where the node that was asked does not listen yet."""
        try:
            return await nats.connect(**self.options | ONE_TRY | more)
        except (OSError, nats.errors.Error):
            return None

    async def _let_in(self, options: dict[str, Any], seconds: float = 30) -> nats.NATS:
        """A client that connects again where it must; nats-py's own first try would take a minute."""
        return await poll(
            partial(nats.connect, **options), seconds, f"no node of {self.urls} lets a client in"
        )

    async def _accepts(self, js: nats.js.JetStreamContext, probe: str) -> bool:
        """Whether an R3 publish is acknowledged now; a request may well go to a node without a leader."""
        replicas = min(3, len(self.nodes))
        try:
            await js.add_stream(
                name=probe, subjects=[probe], num_replicas=replicas, storage=StorageType.MEMORY
            )
            await js.publish(probe, b"ready?")
        except Exception:
            return False  # the poll around this asks again, and has a limit
        return True

    async def _gone(self, js: nats.js.JetStreamContext, stream: str) -> bool:
        try:
            await js.delete_stream(stream)
        except NotFoundError:
            pass  # an earlier try, whose answer was lost, deleted it
        except nats.errors.Error as error:
            if isinstance(error, APIError) and error.code not in (500, 503):
                raise  # it will not pass, as a permission that is missing
            return False
        return True

    async def _forgotten(self, stream: str) -> bool:
        """Whether every node answers, and none lists the stream any more.

        With an account's last stream a node removes their folder, a moment later; one that is made there at
        this moment is refused with 10049 (3 of 2,190 fresh clusters under load, 2.14.6).
        """
        return all(page and stream not in str(page) for page in (await self.pages(ASSETS)).values())

    async def _healthy(self) -> bool:
        return all((await self.pages("/healthz")).values())  # with status 200 where all is well only

    async def _routed(self) -> bool:
        """Whether no route is missing between two nodes.

        Two that dial each other at the same moment may hang up on both connections as duplicates, and dial
        again a second later. An account has one of them; meanwhile its requests and replies are lost.
        """
        pairs = itertools.permutations(self.nodes, 2)
        mates = ((a.name, b.name) for a, b in pairs if a.cluster == b.cluster)
        return routed(await self.pages("/routez"), mates)

    async def _meta(self) -> tuple[str | None, set[str]]:
        """Whom every node that answers takes for the meta leader; who is silent, or offline in its eyes.

        A leader that was cut off leads on in its own eyes until a packet of the others gets through, and its
        clients wait in vain. To a node that it has not heard of since one of them came back it gives no
        stream; only its own page lists the others.
        """
        pages = await self.pages("/jsz")
        groups = {name: (page or {}).get("meta_cluster") for name, page in pages.items()}
        groups = {name: group for name, group in groups.items() if group}
        leaders = {group.get("leader") for group in groups.values()}
        leader = leaders.pop() if len(leaders) == 1 else None
        peers = groups.get(leader, {}).get("replicas") or []
        heard = {leader, *(peer["name"] for peer in peers if not peer.get("offline"))}
        return leader, {node.name for node in self.nodes} - (heard & groups.keys())

    async def _agreed(self) -> bool:
        leader, offline = await self._meta()
        return leader is not None and not offline

    async def caught_up(self, name: str | None = None, timeout: float = 30) -> None:
        """Returns when every replica (on node `name`) has what the leader of its stream or consumer has.

        `/healthz` does not tell: a restarted node is healthy before its leader has spoken to it, and so is a
        healed one that led before. Until then, for some seconds, such a node may answer for its stream with
        what it had (seen with 2.14.6). Groups without a leader are passed over.
        """
        behind = f"{name or 'a replica'} does not catch up with its leader"
        level: set[tuple[str, str]] = set()
        await poll(lambda: self._level(name, level), timeout, behind)

    async def _level(self, name: str | None, level: set[tuple[str, str]]) -> bool:
        """Adds to `level` who is level with its leader now; once is enough, for publishing may go on."""
        pages = {node: _groups(page) for node, page in (await self.pages(ASSETS)).items()}
        led, behind = set(), False
        for node, groups in pages.items():
            for raft, group in groups.items():
                if group.get("leader") != node:
                    continue
                if raft in led:
                    level.clear()
                    return False  # two think they lead
                led.add(raft)
                for peer in group.get("replicas") or []:
                    if name in (None, peer["name"]):
                        # What it has in its log may not be in its stream yet.
                        there = pages.get(peer["name"], {}).get(raft, {"last_seq": -1})
                        if peer["current"] and not peer.get("lag") and there["last_seq"] >= group["last_seq"]:
                            level.add((raft, peer["name"]))
                        behind |= (raft, peer["name"]) not in level
        return not behind

    async def known(self, stream: str, consumer: str | None = None, timeout: float = 10) -> None:
        """Returns when a new stream (and consumer) answers through every running node.

        `add_stream` returns as soon as a leader stands; another node may answer 503 for some milliseconds
        more, and so to the first `publish`, `fetch` or `consumer_info`. Each node is asked with a request
        that is refused by whoever leads, so nothing is stored or taken: a publish that expects another
        stream, half a pull request. A consumer also sees all that the stream holds for it, where that can
        be counted. ClusterError where a node lets nobody in, or does not answer so, for `timeout` seconds.
        """
        clients, what = [], f"{consumer} of {stream}" if consumer else stream
        async with contextlib.AsyncExitStack() as stack:
            for node in await self._running():
                client = partial(self._client, servers=[node.url])
                nc = await poll(client, timeout, f"{node.name} lets no client in")
                clients.append(await stack.enter_async_context(nc))
            if not clients:
                raise ClusterError("no node is running: `await cluster.restore_all()` starts them")
            unknown = f"{what} is not known on every node"
            await poll(lambda: self._known(clients, stream, consumer), timeout, unknown)

    async def _known(self, clients: list[nats.NATS], stream: str, consumer: str | None) -> bool:
        try:
            js = clients[0].jetstream(domain=self.domain, timeout=1)
            info = await js.stream_info(stream)
            found = await js.consumer_info(stream, consumer) if consumer else None
            subject, data, headers = _probe(info.config, found)
            answers = await asyncio.gather(
                *(nc.request(self.api(subject), data, timeout=1, headers=headers) for nc in clients)
            )
            if any((answer.headers or {}).get("Status") == "503" for answer in answers):
                return False
            wanted = await _selected(js, info, found.config) if found else 0
            return not found or _pending(await js.consumer_info(stream, consumer)) >= wanted
        except (nats.errors.Error, TimeoutError):  # no leader yet, or one that a node does not know
            return False

    async def settled(self, stream: str, consumer: str, timeout: float = 40) -> None:
        """Returns when `consumer` has delivered all of `stream`, and all was acknowledged or given up.

        Through an outage too: while nobody answers it asks again. ClusterError after `timeout` seconds.
        """

        async def nothing_left() -> bool:
            try:
                info = await js.consumer_info(stream, consumer)
                wanted = info.config.filter_subjects or [info.config.filter_subject or ">"]
                last = max([await _last(js, stream, subject) for subject in wanted])
            except NotFoundError:
                raise ClusterError(f"no consumer {consumer} on a stream {stream}") from None
            except (nats.errors.Error, TimeoutError):
                return False
            # The consumer's leader may not have heard yet of what the stream's acknowledged.
            seen = info.delivered.stream_seq >= last if info.delivered else not last
            return seen and not info.num_pending and not info.num_ack_pending

        async with await self._let_in(self.options, timeout) as nc:
            js = nc.jetstream(domain=self.domain, timeout=2)
            left = f"not everything in {stream} was delivered to {consumer} and settled"
            await poll(nothing_left, timeout, left)

    async def leader_of(self, stream: str) -> str:
        """The name of the node that leads `stream`; waits for one to be elected, up to 30 s."""

        async def leader() -> str | None:
            try:
                return (await js.stream_info(stream)).cluster.leader
            except NotFoundError:
                raise ClusterError(f"no stream {stream}") from None
            except nats.errors.Error:
                return None

        async with await self._let_in(self.options) as nc:
            js = nc.jetstream(domain=self.domain, timeout=1)
            return await poll(leader, 30, f"{stream} has no leader")

    async def step_down(self, group: str, to: str | None = None) -> str:
        """Moves the leadership of a stream, or of the "meta" group, to the node `to` or any other.

        Returns the new leader's name. The meta group's needs the system account.
        """
        meta = group == "meta"
        options = self.operator_options if meta else self.options
        subject = "$JS.API.META" if meta else self.api("$JS.API.STREAM")
        subject += ".LEADER.STEPDOWN" + ("" if meta else f".{group}")
        wish = json.dumps({"placement": {"preferred": self.node(to).name}} if to else {}).encode()

        async def leader() -> str | None:
            return (await self._meta())[0] if meta else await self.leader_of(group)

        async def moved() -> str | None:
            now = await leader()
            if now and (now == to if to else now != old):
                return now
            with contextlib.suppress(nats.errors.Error, TimeoutError):  # in mid-election: ask again
                reply = json.loads((await nc.request(subject, wish, timeout=2)).data)
                error = reply.get("error", {"code": 503})
                # Who was just elected is "already leader", though not every page says so yet.
                if error["code"] not in (500, 503) and "already leader" not in error["description"]:
                    raise ClusterError(f"{group} stays with {old}: {error['description']}")
            return None

        async def all_online() -> bool:
            return not (await self._meta())[1] & {node.name for node in await self._running()}

        old = await poll(leader, 30, f"{group} has no leader")
        if old == to:
            return old
        async with await self._let_in(options) as nc:
            new = await poll(moved, 30, f"{group} does not leave {old}", every=0.1)
            if meta:  # a new leader may not have heard yet of a node that came back
                await poll(all_online, 30, f"{new} leads meta, and takes a running node for offline")
            return new

    async def _running(self) -> list[Node]:
        states = await self.states()
        return [node for node in self.nodes if states[node.name] == "running"]

    # -- faults -------------------------------------------------------------------------------

    async def _signal(self, node: Node, kind: str) -> None:
        """kill, stop, pause, resume or lame_duck, to the server process itself."""

    async def _start(self, node: Node) -> None:
        """Starts a node that is down, with the data it had."""

    async def _down(self, name: str) -> bool:
        return (await self.states())[name] == "down"

    async def _leave(self, name: str, kind: str, seconds: float) -> None:
        """Signals a node to go and waits until it is gone; `restore_all` waits for one interrupted here."""
        node = self.node(name)

        async def gone() -> None:
            await self._signal(node, kind)
            await poll(lambda: self._down(name), seconds, f"{name} is still there")

        task = asyncio.create_task(gone())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        await asyncio.shield(task)

    async def kill(self, name: str) -> None:
        """SIGKILL: the process is gone at once, nothing is flushed, nobody is told."""
        await self._leave(name, "kill", 10)

    async def stop(self, name: str) -> None:
        """SIGTERM: the server hands its leaderships on and exits."""
        await self.resume(name)  # a paused process cannot act on a signal
        await self._leave(name, "stop", 20)

    async def lame_duck(self, name: str) -> None:
        """SIGUSR2: the server hands on its leaderships, asks its clients to leave, then exits."""
        await self.resume(name)
        await self._leave(name, "lame_duck", 60)

    async def pause(self, name: str) -> None:
        """SIGSTOP: the process keeps its sockets and answers nothing, like a machine that hangs."""
        await self._signal(self.node(name), "pause")

    async def resume(self, name: str) -> None:
        """SIGCONT: a paused node goes on where it stood."""
        await self._signal(self.node(name), "resume")

    async def restart(self, name: str) -> None:
        """Starts a node, after a graceful stop where it runs; waits until it is healthy and caught up."""
        node = self.node(name)
        if not await self._down(name):
            await self.stop(name)
        await self._start(node)
        await poll(
            lambda: get_json(f"{node.monitor}/healthz"), 30, f"{name} is not healthy after its restart"
        )
        await self.caught_up(name)

    async def isolate(self, name: str) -> None:
        """Cuts every route of a node to the others; its clients stay connected to it."""

    async def heal(self) -> None:
        """Restores every route that `isolate` cut."""

    async def restore_all(self, timeout: float = 30) -> None:
        """Heals, resumes and starts whatever is not running; all nodes are ready then, and have caught up."""
        await self.heal()
        if self._leaving:  # a cell was stopped while it waited for these to go; Stop here leaves them at it
            _, late = await asyncio.wait(self._leaving, timeout=timeout)
            if late:  # it would go in the middle of what comes next
                raise ClusterError(f"a node that was told to go is still there (waited {timeout:.0f} s)")
        for name, state in (await self.states()).items():
            if state == "paused":
                await self.resume(name)
            elif state == "down":
                await self._start(self.node(name))
        await self.wait_ready(timeout)
        await self.caught_up(timeout=timeout)

    # -- tidying up ---------------------------------------------------------------------------

    async def delete_streams(self, js: nats.js.JetStreamContext, *streams: str) -> None:
        """Deletes these streams where they exist, so that a notebook can run again.

        A stream without a leader, as after a cell that was stopped in an outage, is asked for again. On
        somebody else's cluster a stream that this learner's kernels did not make is left alone: ClusterError
        names it.
        """
        must_be_open(js)
        for name in streams:
            await poll(lambda name=name: self._gone(js, name), 30, f"the stream {name} cannot be deleted")
            self._claimed.add(name)

    async def close(self) -> None:
        """Ends what this backend started. The end of the kernel does the same."""
