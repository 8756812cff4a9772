"""The instructor's view: a row a student, what each has done, who asks for help; and a student's reset."""

import asyncio
import json
import os
from datetime import UTC
from pathlib import Path

import nats
import pandas as pd
from nats.js.api import StorageType

from ..cluster.interface import ClusterError, get_json
from ..lesson import NO_ANSWER, retry
from . import folder, servers

STREAM = "CLASS"
SIGNS = {"correct": "✓", "not yet": "…", "not attempted": "-"}


class Room:
    """The class in `path`, which must be running; `table` is what is shown, `reset` starts a student over."""

    def __init__(self, path: Path) -> None:
        self.class_ = folder.load(path)
        self._nc: nats.NATS | None = None

    def __repr__(self) -> str:
        return f"a class of {len(self.class_.members) - 1} students"

    async def open(self) -> "Room":
        boss = self.class_.members[0]
        options = servers.options(self.class_, f"{boss.name}-report", boss.report_password)
        self._nc = await nats.connect(**options)
        self._js = self._nc.jetstream(timeout=2)
        return self

    async def close(self) -> None:
        if self._nc:
            await self._nc.close()

    async def reports(self) -> pd.DataFrame:
        """A row a report, by time: student, lesson, exercise, outcome, time (UTC)."""
        rows = []
        info = await self._js.stream_info(STREAM, subjects_filter=">")
        for subject in info.state.subjects or {}:  # the last of each subject is what holds now
            rows.append(json.loads((await self._js.get_last_msg(STREAM, subject)).data))
        columns = ["student", "lesson", "exercise", "outcome", "time"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.assign(time=pd.to_datetime(frame["time"], utc=True)).sort_values(
            "time", ignore_index=True
        )

    async def table(self) -> pd.DataFrame:
        """A row a student: a sign an exercise (✓ correct, … not yet), minutes since the last sign of life,
        what help is asked about, connections, messages sent, and MB stored (replicas counted)."""
        reports, load = await self.reports(), await self.load()
        names = [member.name for member in self.class_.members[1:]]
        done = reports[reports["lesson"] != "help"]
        signs = done.assign(
            sign=done["outcome"].map(SIGNS).fillna("?"),
            column=done["lesson"] + " " + done["exercise"].str.replace("_", " "),
        )
        table = signs.pivot_table("sign", "student", "column", aggfunc="last").reindex(names).fillna("")
        last = reports.groupby("student")["time"].max().reindex(names)
        table["minutes ago"] = ((pd.Timestamp.now(UTC) - last).dt.total_seconds() / 60).round()
        helps = reports[reports["lesson"] == "help"].set_index("student")["outcome"]
        table["help"] = helps.reindex(names).fillna("")
        return table.join(load)

    async def watch(self, seconds: float) -> None:
        """Shows the table, and renews it in place for so many seconds; Stop ends it earlier."""
        from IPython.display import display

        handle = display(await self.table(), display_id=True)
        for _ in range(round(seconds / 2)):
            await asyncio.sleep(2)  # the pace of the picture
            handle.update(await self.table())

    async def load(self) -> pd.DataFrame:
        """A row a student: connections, messages (sent by its clients), MB (stored), over all nodes."""
        rows = pd.DataFrame(
            0.0, index=[m.name for m in self.class_.members[1:]], columns=["connections", "messages", "MB"]
        )
        for port in servers.monitors(self.class_):
            statz = await get_json(f"http://127.0.0.1:{port}/accstatz?unused=true")
            jsz = await get_json(f"http://127.0.0.1:{port}/jsz?accounts=true")
            for account in (statz or {}).get("account_statz") or []:
                if (name := account["acc"]) in rows.index:
                    rows.loc[name, "connections"] += account["conns"]
                    rows.loc[name, "messages"] += account["received"]["msgs"]
            for account in (jsz or {}).get("account_details") or []:
                if (name := account["name"]) in rows.index:
                    rows.loc[name, "MB"] += account["storage"] / 1e6
        return rows.round(1)

    async def reset(self, student: str) -> None:
        """Deletes all streams and consumers of one student, and nobody else's; and what was reported."""
        if student not in {member.name for member in self.class_.members[1:]}:
            raise ClusterError(f"no student {student!r} in this class")
        boss = self.class_.members[0]
        async with await nats.connect(**servers.options(self.class_, boss.name, boss.password)) as system:
            reply = await system.request(f"$JS.API.ACCOUNT.PURGE.{student}", b"", timeout=5)
        answer = json.loads(reply.data)
        if "error" in answer:
            raise ClusterError(f"{student} was not reset: {answer['error']['description']}")
        await self._js.purge_stream(STREAM, subject=f"class.{student}.>")


async def keep_reports(class_: folder.Class) -> None:
    """Makes the stream into which the class reports, for a day; there already is fine."""
    boss = class_.members[0]
    settings = {"num_replicas": 3, "storage": StorageType.FILE, "max_age": 24 * 3600}
    user = servers.options(class_, f"{boss.name}-report", boss.report_password)
    async with await nats.connect(**user) as nc:
        js = nc.jetstream(timeout=2)
        try:
            # Who makes it may not have heard yet of a new connection's inbox: the first answer is then lost.
            await retry(lambda: js.add_stream(name=STREAM, subjects=["class.>"], **settings), 40)
        except NO_ANSWER as error:
            raise ClusterError(f"the stream of reports, {STREAM}, cannot be made: {error!r}") from error


def of_environment() -> Path:
    """The class's folder: CLASS_FOLDER, else `classroom` here or above."""
    places = [parent / "classroom" for parent in (Path.cwd(), *Path.cwd().parents)]
    if "CLASS_FOLDER" in os.environ:
        places = [Path(os.environ["CLASS_FOLDER"])]
    for place in places:
        if (place / "members.json").exists():
            return place
    raise ClusterError("no class here: run `make class STUDENTS=30`, or set CLASS_FOLDER")
