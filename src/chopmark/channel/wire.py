# SPDX-License-Identifier: Apache-2.0
"""Bytes and JSON members <-> release, status, channel file, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.channel.model import BUCKETS, Assignment, Release, RuntimeNeed, Status, StatusEntry
from chopmark.clock import format_time, parse_time
from chopmark.errors import DecodeError
from chopmark.statements import PredicateType, Statement, Subject, decode_statement
from chopmark.trust import EXTENSION

MODEL_PREFIX = "model/"


class _Sha256(canonical.Strict, frozen=True, kw_only=True):
    sha256: str
    length: int


class _Library(canonical.Strict, frozen=True, kw_only=True):
    name: str
    sha256: str


class _Runtime(canonical.Strict, frozen=True, kw_only=True):
    name: str
    range: str
    libraries: list[_Library]


class _Release(canonical.Strict, frozen=True, kw_only=True):
    v: int
    workspace: str
    model: str
    version: str
    channels: list[str]
    counter: int
    epoch: int
    manifest: _Sha256
    sealed: None
    fallbacks: list[str]
    runtime: _Runtime
    abi: str
    min_app: str
    min_tier: int
    check_class: str
    self_test: str
    vsa: str
    evidence: list[str]


class _Entry(canonical.Strict, frozen=True, kw_only=True):
    reason: str
    since: str
    release: str | None = None
    manifest: str | None = None


class _Status(canonical.Strict, frozen=True, kw_only=True):
    v: int
    issued: str
    revoked: list[_Entry]
    min_epoch: dict[str, int]
    holds: list[_Entry]


class _Assignment(canonical.Strict, frozen=True, kw_only=True):
    model: str
    runtime: str
    buckets: tuple[int, int]
    release: str


class _Channel(canonical.Strict, frozen=True, kw_only=True):
    v: int
    assign: list[_Assignment]


def release_predicate(release: Release) -> dict[str, object]:
    """Return the predicate of the release envelope; ``digest`` is not part of it."""
    return {
        "v": 1,
        "workspace": release.workspace,
        "model": release.model,
        "version": release.version,
        "channels": list(release.channels),
        "counter": release.counter,
        "epoch": release.epoch,
        "manifest": {"sha256": release.manifest.hex, "length": release.manifest_length},
        "sealed": None,
        "fallbacks": [str(digest) for digest in release.fallbacks],
        "runtime": {
            "name": release.runtime.name,
            "range": release.runtime.range,
            "libraries": [{"name": n, "sha256": d.hex} for n, d in sorted(release.runtime.libraries.items())],
        },
        "abi": release.abi,
        "min_app": release.min_app,
        "min_tier": release.min_tier,
        "check_class": release.check_class,
        "self_test": str(release.self_test),
        "vsa": str(release.vsa),
        "evidence": [str(digest) for digest in release.evidence],
    }


def release_statement(release: Release) -> Statement:
    """Return the statement that approvers sign; its payload's digest is the release hash."""
    return Statement(
        subjects=(Subject(MODEL_PREFIX + release.model, release.manifest),),
        predicate_type=PredicateType.RELEASE,
        predicate=release_predicate(release),
    )


def decode_release(payload: bytes) -> Release:
    """Read the payload of a release envelope.

    Raises:
        DecodeError: not a release, or subject and predicate name different models or packages.
    """
    statement = decode_statement(payload)
    if statement.predicate_type != PredicateType.RELEASE or len(statement.subjects) != 1:
        raise DecodeError("release: not a release of one package")
    wire = canonical.convert(statement.predicate, _Release, what="release")
    release = _release(wire, Digest.of(payload))
    if statement.subject != Subject(MODEL_PREFIX + release.model, release.manifest):
        raise DecodeError("release: subject and predicate name different packages")
    return release


def _release(wire: _Release, digest: Digest) -> Release:
    if wire.v != 1 or min(wire.counter, wire.epoch, wire.manifest.length) < 1 or wire.min_tier < 0:
        raise DecodeError("release: an unknown version, or a number out of range")
    for name in (wire.workspace, wire.model, wire.check_class, *wire.channels):
        canonical.decode_name(name, what="release")
    return Release(
        digest=digest,
        workspace=wire.workspace,
        model=wire.model,
        version=wire.version,
        channels=tuple(wire.channels),
        counter=wire.counter,
        epoch=wire.epoch,
        manifest=Digest.from_hex(wire.manifest.sha256),
        manifest_length=wire.manifest.length,
        fallbacks=tuple(Digest.parse(text) for text in wire.fallbacks),
        runtime=RuntimeNeed(
            name=wire.runtime.name,
            range=wire.runtime.range,
            libraries={library.name: Digest.from_hex(library.sha256) for library in wire.runtime.libraries},
        ),
        abi=wire.abi,
        min_app=wire.min_app,
        min_tier=wire.min_tier,
        check_class=wire.check_class,
        self_test=Digest.parse(wire.self_test),
        vsa=Digest.parse(wire.vsa),
        evidence=tuple(Digest.parse(text) for text in wire.evidence),
    )


def status_extension(status: Status) -> dict[str, object]:
    """Return the ``x-chopmark`` member of status.json."""
    return {
        "v": 1,
        "issued": format_time(status.issued),
        "revoked": entries_json(status.revoked),
        "min_epoch": dict(status.min_epoch),
        "holds": entries_json(status.holds),
    }


def entries_json(entries: tuple[StatusEntry, ...]) -> list[dict[str, str]]:
    """Return revocations or holds as JSON members, for status.json and for a device's state."""
    return [{e.kind: str(e.digest), "reason": e.reason, "since": format_time(e.since)} for e in entries]


def decode_status(extension: object, *, version: int) -> Status:
    """Read the ``x-chopmark`` member of a status whose signatures were verified.

    Raises:
        DecodeError: not a status.
    """
    wire = canonical.convert(extension, _Status, what="status")
    if wire.v != 1 or any(epoch < 0 for epoch in wire.min_epoch.values()):
        raise DecodeError("status: an unknown version, or an epoch below zero")
    return Status(
        version=version,
        issued=parse_time(wire.issued, what="status"),
        revoked=tuple(_entry(entry) for entry in wire.revoked),
        min_epoch=wire.min_epoch,
        holds=tuple(_entry(entry) for entry in wire.holds),
    )


def decode_entries(value: object) -> tuple[StatusEntry, ...]:
    """Read what :func:`entries_json` wrote.

    Raises:
        DecodeError: anything else.
    """
    return tuple(_entry(entry) for entry in canonical.convert(value, list[_Entry], what="status entries"))


def _entry(wire: _Entry) -> StatusEntry:
    if (wire.release is None) == (wire.manifest is None):
        raise DecodeError("status: an entry names a release or a manifest")
    kind, text = ("release", wire.release) if wire.release is not None else ("manifest", wire.manifest)
    return StatusEntry(
        kind=kind,
        digest=Digest.parse(text or ""),
        reason=wire.reason,
        since=parse_time(wire.since, what="status entry"),
    )


def channel_extension(assignments: tuple[Assignment, ...]) -> dict[str, object]:
    """Return the ``x-chopmark`` member of a channel file."""
    return {
        "v": 1,
        "assign": [
            {"model": a.model, "runtime": a.runtime, "buckets": [a.first, a.end], "release": str(a.release)}
            for a in assignments
        ],
    }


def decode_assignments(extension: object) -> tuple[Assignment, ...]:
    """Read the ``x-chopmark`` member of a channel file whose signatures were verified.

    Raises:
        DecodeError: not a channel file.
    """
    wire = canonical.convert(extension, _Channel, what="channel file")
    if wire.v != 1 or any(not 0 <= a.buckets[0] < a.buckets[1] <= BUCKETS for a in wire.assign):
        raise DecodeError("channel file: an unknown version, or a bucket range out of order")
    return tuple(
        Assignment(
            model=a.model, runtime=a.runtime, first=a.buckets[0], end=a.buckets[1], release=Digest.parse(a.release)
        )
        for a in wire.assign
    )


def extension_of(members: Mapping[str, Any]) -> object:
    """Return the ``x-chopmark`` member among TUF's unrecognised ones, or None."""
    return members.get(EXTENSION)
