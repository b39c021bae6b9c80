# SPDX-License-Identifier: Apache-2.0
"""A log of its own with tokens, and its server in a process of its own."""

from __future__ import annotations

import http.client
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from urllib.parse import urlsplit

from chopmark.apps.cli.wiring import create_log
from chopmark.ledger.place import LogPlace
from chopmark.ledger.submit import KnownLog
from chopmark.ledger.tokens import SECRET_BYTES, TOKENS, AppendToken, add_token, hash_of, make_token
from unit.service.kit import running

ENTRY = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Log:
    """A log in a folder; *tokens* are by name."""

    place: LogPlace
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> KnownLog:
        return KnownLog(origin=self.place.origin, require=self.place.require, policy=self.place.policy)

    def give(self, name: str, *, per_minute: int = 0) -> str:
        self.tokens[name] = make_token(secrets.token_bytes(SECRET_BYTES))
        kept = AppendToken(
            name=name, sha256=hash_of(self.tokens[name]), created="2026-11-24T12:00:00Z", per_minute=per_minute
        )
        add_token(self.place.path(TOKENS), kept)
        return self.tokens[name]


def make_log(folder: Path, *, origin: str = "log.example/served") -> Log:
    made = Log(create_log(folder, origin=origin, once=True))
    made.give("ci")
    return made


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    log: Log
    process: Popen[str]
    url: str

    @property
    def address(self) -> tuple[str, int]:
        here = urlsplit(self.url)
        return str(here.hostname), int(here.port or 0)

    def ask(self, method: str, path: str, body: object = None, *, chunked: bool = False, **headers: str) -> Answer:
        """Send one request; headers are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        with closing(connection):
            connection.request(method, path, body, named, encode_chunked=chunked)
            got = connection.getresponse()
            return Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())

    def append(self, entry: bytes, *, token: str | None = None, **headers: str) -> Answer:
        """Send one entry as a client ought to."""
        authorization = f"Bearer {token or self.log.tokens['ci']}"
        return self.ask("POST", "/append", entry, **{"Authorization": authorization, **ENTRY, **headers})


@contextmanager
def serving(log: Log, *options: str) -> Iterator[Served]:
    with running("ledger", "--workspace", str(log.place.folder), *options) as (process, url):
        yield Served(log, process, url)
