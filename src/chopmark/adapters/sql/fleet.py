# SPDX-License-Identifier: Apache-2.0
"""The fleet's devices, reports and refusals in one SQLite file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from chopmark import canonical
from chopmark.adapters.sql.database import Database, Value, as_bytes, as_int, as_str
from chopmark.artifacts import Digest
from chopmark.clock import format_time, parse_time
from chopmark.errors import VerificationError
from chopmark.fleet.model import Device, Refusal, Standing
from chopmark.fleet.ports import FleetStore, Received
from chopmark.keys import PublicKey
from chopmark.telemetry import SeenLog

_APPLICATION_ID: Final = 0x4348464C  # "CHFL"
_SCHEMA: Final = """
CREATE TABLE devices (id TEXT PRIMARY KEY, keyid TEXT NOT NULL UNIQUE, spki BLOB NOT NULL, name TEXT NOT NULL,
    enrolled INTEGER NOT NULL, challenge TEXT NOT NULL, challenged INTEGER NOT NULL, used TEXT NOT NULL,
    seq INTEGER NOT NULL, head BLOB, rejoin INTEGER NOT NULL, held TEXT NOT NULL, released TEXT NOT NULL,
    tier INTEGER NOT NULL, seen INTEGER, standings TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE reports (digest BLOB PRIMARY KEY, device TEXT NOT NULL REFERENCES devices, seq INTEGER NOT NULL, prev BLOB,
    time INTEGER NOT NULL, data BLOB NOT NULL, answer BLOB NOT NULL) STRICT;
CREATE INDEX reports_by_prev ON reports (device, prev);
CREATE TABLE refusals (number INTEGER PRIMARY KEY, device TEXT NOT NULL REFERENCES devices, alerted INTEGER NOT NULL,
    body TEXT NOT NULL) STRICT;
CREATE INDEX refusals_by_device ON refusals (device, number);
CREATE INDEX refusals_unalerted ON refusals (number) WHERE alerted = 0;
CREATE TABLE checkpoints (origin TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, device TEXT NOT NULL,
    confirmed INTEGER NOT NULL, PRIMARY KEY (origin, size, root)) STRICT, WITHOUT ROWID
"""
_DEVICE: Final = (
    "id, spki, name, enrolled, challenge, challenged, used, seq, head, rejoin, held, released, tier, seen, standings"
)
_MAX_BODY_BYTES: Final = 1024 * 1024
_CONFIRMED: Final = {True: 1, None: 0, False: -1}
"""What the organisation's ledger says of a checkpoint: it agrees, it is not that far, it has another root."""


class _Standing(canonical.Strict, frozen=True, kw_only=True):
    topic: str
    verdict: str
    model: str
    slot: str
    release: str | None
    running: str | None
    time: str
    refusal: int | None


class _Refusal(canonical.Strict, frozen=True, kw_only=True):
    topic: str
    code: str
    step: int
    model: str
    slot: str
    release: str | None
    running: str | None
    message: str
    facts: dict[str, str]
    hint: str
    report: str
    first: str
    last: str
    count: int


def create(path: Path) -> SqliteFleet:
    """Make the store of a fleet without devices.

    Raises:
        UsageError: a file is there already.
        UndecidedError: it cannot be written.
    """
    return SqliteFleet(Database.create(path, application_id=_APPLICATION_ID, schema=_SCHEMA, rows=[]))


def load(path: Path) -> SqliteFleet:
    """Open the store of a fleet.

    Raises:
        UndecidedError: it is missing.
        VerificationError: it is something else.
    """
    return SqliteFleet(Database.open(path, application_id=_APPLICATION_ID))


class SqliteFleet(FleetStore):
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def transaction(self) -> AbstractContextManager[None]:
        return self._db.transaction()

    def devices(self) -> Sequence[Device]:
        return [_device(row) for row in self._db.all(f"SELECT {_DEVICE} FROM devices ORDER BY id")]  # noqa: S608

    def device(self, device: str) -> Device | None:
        row = self._db.one(f"SELECT {_DEVICE} FROM devices WHERE id = ?", (device,))  # noqa: S608
        return None if row is None else _device(row)

    def device_by_key(self, keyid: str) -> Device | None:
        row = self._db.one(f"SELECT {_DEVICE} FROM devices WHERE keyid = ?", (keyid,))  # noqa: S608
        return None if row is None else _device(row)

    def put_device(self, device: Device) -> None:
        values: tuple[Value, ...] = (
            device.id,
            device.key.spki,
            device.name,
            _seconds(device.enrolled),
            device.challenge,
            _seconds(device.challenged),
            device.used,
            device.seq,
            None if device.head is None else device.head.value,
            int(device.rejoin),
            device.held,
            device.released,
            device.tier,
            None if device.seen is None else _seconds(device.seen),
            _encode_standings(device.standings),
            device.key.keyid,
        )
        names = f"{_DEVICE}, keyid"
        marks = ", ".join("?" * len(values))
        changes = ", ".join(f"{name} = excluded.{name}" for name in names.split(", ")[1:])
        sql = f"INSERT INTO devices ({names}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {changes}"  # noqa: S608
        self._db.run(sql, values)

    def add_report(self, report: Received) -> None:
        prev = None if report.prev is None else report.prev.value
        self._db.run(
            "INSERT INTO reports (digest, device, seq, prev, time, data, answer) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                report.digest.value,
                report.device,
                report.seq,
                prev,
                _seconds(report.time),
                report.data,
                report.answer,
            ),
        )

    def report(self, digest: Digest) -> Received | None:
        sql = "SELECT device, seq, prev, time, data, answer FROM reports WHERE digest = ?"
        row = self._db.one(sql, (digest.value,))
        if row is None:
            return None
        device, seq, prev, time, data, answer = row
        return Received(
            digest=digest,
            device=as_str(device),
            seq=as_int(seq),
            prev=_digest(prev),
            time=_time(time),
            data=as_bytes(data),
            answer=as_bytes(answer),
        )

    def successors(self, device: str, prev: Digest | None) -> Sequence[Digest]:
        sql = "SELECT digest FROM reports WHERE device = ? AND prev IS ? ORDER BY rowid"
        rows = self._db.all(sql, (device, None if prev is None else prev.value))
        return [Digest(as_bytes(row[0])) for row in rows]

    def next_refusal(self) -> int:
        return self._db.integer("SELECT coalesce(max(number), 0) + 1 FROM refusals")

    def put_refusal(self, refusal: Refusal) -> None:
        sql = (
            "INSERT INTO refusals (number, device, alerted, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (number) DO UPDATE SET alerted = excluded.alerted, body = excluded.body"
        )
        self._db.run(sql, (refusal.number, refusal.device, int(refusal.alerted), _encode_refusal(refusal)))

    def refusal(self, number: int) -> Refusal | None:
        row = self._db.one("SELECT number, device, alerted, body FROM refusals WHERE number = ?", (number,))
        return None if row is None else _refusal(row)

    def refusals(self, *, device: str | None = None, limit: int = 1000) -> Sequence[Refusal]:
        sql = "SELECT number, device, alerted, body FROM refusals WHERE device = coalesce(?, device) ORDER BY number DESC LIMIT ?"
        return [_refusal(row) for row in self._db.all(sql, (device, limit))]

    def unalerted(self) -> Sequence[Refusal]:
        sql = "SELECT number, device, alerted, body FROM refusals WHERE alerted = 0 ORDER BY number"
        return [_refusal(row) for row in self._db.all(sql)]

    def count_refusals(self) -> int:
        return self._db.integer("SELECT count(*) FROM refusals")

    def see_checkpoint(self, device: str, log: SeenLog, *, agreed: bool | None) -> None:
        sql = (
            "INSERT INTO checkpoints (origin, size, root, device, confirmed) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (origin, size, root) DO UPDATE SET confirmed = excluded.confirmed WHERE confirmed = 0"
        )
        self._db.run(sql, (log.origin, log.size, log.root, device, _CONFIRMED[agreed]))

    def open_checkpoints(self, device: str) -> Sequence[SeenLog]:
        sql = "SELECT origin, size, root FROM checkpoints WHERE device = ? AND confirmed = 0 ORDER BY size LIMIT 64"
        rows = self._db.all(sql, (device,))
        return [SeenLog(origin=as_str(o), size=as_int(s), root=as_bytes(r)) for o, s, r in rows]

    def seen_roots(self, origin: str, size: int, *, confirmed: bool) -> Mapping[bytes, str]:
        sql = "SELECT device, root FROM checkpoints WHERE origin = ? AND size = ? AND confirmed IN (?, 1, ?) ORDER BY root"
        rows = self._db.all(sql, (origin, size, *((1, 1) if confirmed else (0, -1))))
        return {as_bytes(root): as_str(device) for device, root in rows}


def _device(row: tuple[Value, ...]) -> Device:
    named = dict(zip(_DEVICE.split(", "), row, strict=True))
    return Device(
        id=as_str(named["id"]),
        name=as_str(named["name"]),
        key=PublicKey.from_spki(as_bytes(named["spki"])),
        enrolled=_time(named["enrolled"]),
        challenge=as_str(named["challenge"]),
        challenged=_time(named["challenged"]),
        used=as_str(named["used"]),
        seq=as_int(named["seq"]),
        head=_digest(named["head"]),
        rejoin=as_int(named["rejoin"]) != 0,
        held=as_str(named["held"]),
        released=as_str(named["released"]),
        tier=as_int(named["tier"]),
        seen=None if named["seen"] is None else _time(named["seen"]),
        standings=_decode_standings(as_str(named["standings"])),
    )


def _encode_standings(standings: Mapping[str, Standing]) -> str:
    return canonical.encode([_members(standing) for standing in standings.values()]).decode()


def _decode_standings(text: str) -> Mapping[str, Standing]:
    value = canonical.decode(text.encode(), what="standings", max_bytes=_MAX_BODY_BYTES)
    wires = canonical.convert(value, list[_Standing], what="standings")
    return {
        wire.topic: Standing(
            topic=wire.topic,
            verdict=wire.verdict,
            model=wire.model,
            slot=wire.slot,
            release=_parsed(wire.release),
            running=_parsed(wire.running),
            time=parse_time(wire.time, what="standing"),
            refusal=wire.refusal,
        )
        for wire in wires
    }


def _encode_refusal(refusal: Refusal) -> str:
    members = _members(refusal)
    return canonical.encode({k: v for k, v in members.items() if k in _Refusal.__struct_fields__}).decode()


def _refusal(row: tuple[Value, ...]) -> Refusal:
    number, device, alerted, body = row
    wire = canonical.decode_as(as_str(body).encode(), _Refusal, what="refusal", max_bytes=_MAX_BODY_BYTES)
    return Refusal(
        number=as_int(number),
        device=as_str(device),
        alerted=as_int(alerted) != 0,
        topic=wire.topic,
        code=wire.code,
        step=wire.step,
        model=wire.model,
        slot=wire.slot,
        release=_parsed(wire.release),
        running=_parsed(wire.running),
        message=wire.message,
        facts=wire.facts,
        hint=wire.hint,
        report=Digest.parse(wire.report),
        first=parse_time(wire.first, what="refusal"),
        last=parse_time(wire.last, what="refusal"),
        count=wire.count,
    )


def _members(value: Standing | Refusal) -> dict[str, object]:
    return {field.name: _json(getattr(value, field.name)) for field in fields(value)}


def _json(value: object) -> object:
    match value:
        case Digest():
            return str(value)
        case datetime():
            return format_time(value)
        case Mapping():
            return dict(value)
        case _:
            return value


def _parsed(text: str | None) -> Digest | None:
    return None if text is None else Digest.parse(text)


def _digest(value: Value) -> Digest | None:
    return None if value is None else Digest(as_bytes(value))


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _time(value: Value) -> datetime:
    try:
        return datetime.fromtimestamp(as_int(value), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise VerificationError("a time in the fleet's store that cannot be", code="store-corrupt") from error
