"""The class's folder: who is in it, with which password; the servers' configuration; what is handed out."""

import csv
import html
import json
import os
import secrets
import socket
import string
from dataclasses import asdict, dataclass
from pathlib import Path

# A student's account, replicas counted: the lessons hold at most some twenty streams at a time, and the year
# of orders (lesson 5) three times over.
LIMITS = {"max_memory": "128MB", "max_file": "2GB", "max_streams": 60, "max_consumers": 300}
FILE_MB, MEMORY_MB = 2048, 128
NODES, LISTEN = 4, "127.0.0.1"
ALPHABET = string.ascii_letters + string.digits
CONFIG = """\
# Written by `python -m helpers.classroom start`; the accounts are beside it.
server_name: $NODE
server_tags: [ $NODE, $ZONE ]
listen: $CLIENT
client_advertise: $ADVERTISE
http: $MONITOR
max_payload: 2MB
{tls}
jetstream {{ store_dir: $STORE, domain: enterprise, max_memory_store: {memory}MB, max_file_store: {file}MB }}
cluster {{ name: nats-cluster, listen: $ROUTE, routes: $ROUTES }}
include accounts.conf
"""
PAGE = """\
<section><h1>{student}</h1>
<p>The cluster of this class: <code>{address}</code></p>
<p>In the folder of the course, with the file <code>ca.pem</code> you were given beside it:</p>
<pre>{command}</pre>
<p>On Windows, in PowerShell: <br><code>{windows}</code></p></section>
"""
STYLE = "section{page-break-after:always;font-family:sans-serif;margin:2em}pre,code{white-space:pre-wrap}"


@dataclass(frozen=True)
class Member:
    """A student (or the instructor): the name is also the account's."""

    name: str
    password: str
    report_password: str


@dataclass(frozen=True)
class Class:
    """`folder` holds it all; `listen` is 127.0.0.1 or where the class reaches it, `host` the name it uses."""

    folder: Path
    listen: str
    host: str
    port: int  # of the first node; monitoring is 4,000 and routes are 2,000 above
    members: tuple[Member, ...]

    @property
    def tls(self) -> bool:
        return self.listen != LISTEN

    @property
    def clients(self) -> list[str]:
        scheme = "tls" if self.tls else "nats"
        return [f"{scheme}://{self.host}:{self.port + n}" for n in range(NODES)]

    def url(self, member: Member) -> str:
        """NATS_URL of a student: one node is enough, the others are learned from it."""
        scheme, rest = self.clients[0].split("://")
        return f"{scheme}://{member.name}:{member.password}@{rest}"

    def report_url(self, member: Member) -> str:
        scheme, rest = self.clients[0].split("://")
        return f"{scheme}://{member.name}-report:{member.report_password}@{rest}"


def make(
    folder: Path, students: int, listen: str | None = None, host: str | None = None, port: int | None = None
) -> Class:
    """Writes the folder, or brings it up to `students`: whoever is in it keeps the account and password.

    What is None stays as it was, TLS with it; at first it is 127.0.0.1, that or this machine's name, 4222.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="ascii")
    before = load(folder) if made(folder) else Class(folder, LISTEN, "", 4222, ())
    known = {member.name: member for member in before.members}
    names = ["instructor", *(f"student{n:02}" for n in range(1, students + 1))]
    members = tuple(known.get(name) or Member(name, _password(), _password()) for name in names)
    members += tuple(member for name, member in known.items() if name not in names)
    port = port or before.port
    if listen in (None, before.listen):
        listen, host = before.listen, host or before.host
    host = host or (socket.gethostname() if listen in ("0.0.0.0", "::") else listen)
    found = Class(folder, listen, host, port, members)
    settings = {"listen": listen, "host": host, "port": port, "members": [asdict(m) for m in members]}
    _private(folder / "members.json", json.dumps(settings, indent=1))
    _private(folder / "accounts.conf", _accounts(members))
    tls = _certificate(found) if found.tls else ""
    memory, file = (64 + size * len(members) for size in (MEMORY_MB, FILE_MB))
    _private(folder / "class.conf", CONFIG.format(tls=tls, memory=memory, file=file))
    _handouts(found)
    return found


def made(folder: Path) -> bool:
    return (folder / "members.json").exists()


def load(folder: Path) -> Class:
    """The class that `make` wrote; FileNotFoundError where there is none."""
    settings = json.loads((folder / "members.json").read_text(encoding="utf-8"))
    members = tuple(Member(**one) for one in settings.pop("members"))
    return Class(folder=folder, members=members, **settings)


def _password() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(16))


def _private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _hashed(password: str) -> str:
    import bcrypt

    # The cheapest cost: a password of 95 random bits needs none, and each connection of a class pays for it.
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=4)).decode()


def _accounts(members: tuple[Member, ...]) -> str:
    """An account a student; CLASS, into which each may report as itself; SYS, which is the instructor's."""
    limits = ", ".join(f"{name}: {value}" for name, value in LIMITS.items())
    lines = ["accounts {"]
    for member in members[1:]:
        user = f'{{ user: {member.name}, password: "{_hashed(member.password)}" }}'
        lines.append(f"  {member.name} {{ jetstream: {{ {limits} }}, users: [ {user} ] }}")
    reports = [
        f'    {{ user: {member.name}-report, password: "{_hashed(member.report_password)}", permissions: '
        f'{{ publish: "class.{member.name}.>", subscribe: "_INBOX.>" }} }}'
        for member in members[1:]
    ]
    boss = members[0]
    reports.append(f'    {{ user: {boss.name}-report, password: "{_hashed(boss.report_password)}" }}')
    lines += ["  CLASS {", f"    jetstream: {{ {limits} }}", "    users: [", *reports, "    ]", "  }"]
    lines.append(f'  SYS {{ users: [ {{ user: {boss.name}, password: "{_hashed(boss.password)}" }} ] }}\n}}')
    return "\n".join([*lines, "system_account: SYS", ""])


def _certificate(class_: Class) -> str:
    """A certificate for the names by which the class reaches the servers; kept while these stay the same."""
    import trustme

    names = sorted({class_.host, class_.listen, "localhost", "127.0.0.1"} - {"0.0.0.0", "::"})
    noted = class_.folder / "names.json"
    if not noted.exists() or json.loads(noted.read_text(encoding="utf-8")) != names:
        ca = trustme.CA(organization_name="NATS class")
        served = ca.issue_cert(*names)
        ca.cert_pem.write_to_path(class_.folder / "ca.pem")
        _private(class_.folder / "key.pem", served.private_key_pem.bytes().decode())
        chain = b"".join(pem.bytes() for pem in served.cert_chain_pems)
        (class_.folder / "cert.pem").write_bytes(chain)
        noted.write_text(json.dumps(names), encoding="utf-8")
    cert, key = (
        json.dumps(str(class_.folder.resolve() / f"{name}.pem"), ensure_ascii=False)
        for name in ("cert", "key")
    )
    return f"tls {{ cert_file: {cert}, key_file: {key} }}\n"


def _handouts(class_: Class) -> None:
    rows, pages = [], [f"<!doctype html><meta charset=utf-8><title>Handouts</title><style>{STYLE}</style>"]
    for member in class_.members[1:]:
        settings = {"NATS_URL": class_.url(member), "CLASS_URL": class_.report_url(member)}
        settings |= {"NATS_CA": "ca.pem"} if class_.tls else {}
        command = " ".join(f"{name}='{value}'" for name, value in settings.items()) + " make lab"
        windows = "; ".join(f"$env:{name}='{value}'" for name, value in settings.items())
        windows += "; .venv\\Scripts\\python -m helpers lab"
        rows.append({"student": member.name, **settings, "command": command})
        texts = {"student": member.name, "address": class_.clients[0], "command": command, "windows": windows}
        pages.append(PAGE.format(**{name: html.escape(text) for name, text in texts.items()}))
    _private(class_.folder / "handouts.html", "\n".join(pages))
    _private(class_.folder / "handouts.csv", "")
    with open(class_.folder / "handouts.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
