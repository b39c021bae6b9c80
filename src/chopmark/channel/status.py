# SPDX-License-Identifier: Apache-2.0
"""The security host's half of the channel: what is revoked or held, signed again and again. A face for servers.

Two powers, kept apart. The host's own key *re-issues* the status every few hours with nothing new: its age is the whole
freshness rule, so this must not need people. A *change of content* needs a statement of the role ``security``, which
two people sign elsewhere; the host checks it and cannot make one.

    statement (role security) -> StatusHost.apply -> new status -> signed status.json

What is revoked only grows, epochs only rise, versions and issue times only rise. A new version is written down before
it is signed, so that one number never stands for two contents, whenever the host is killed. A statement acts once: sent
again it changes nothing, so that an old hold cannot be replayed after it was lifted.

The predicate of both kinds: ``{"v":1,"workspace","of":"release"|"manifest","reason","since"}``, where the first subject carries the
digest; a revocation may add ``"min_epoch": {model: n}``, a hold ``"lift": true``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tuf.api.metadata import Metadata, Targets

from chopmark import canonical
from chopmark.artifacts import Digest, read_file, write_file
from chopmark.channel.model import Status, StatusEntry
from chopmark.channel.wire import MODEL_PREFIX, decode_status, status_extension
from chopmark.clock import Clock, format_time, parse_time
from chopmark.errors import ChopmarkError, DecodeError, UndecidedError, UsageError, VerificationError
from chopmark.keys import Signer, count_valid
from chopmark.statements import PredicateType, Statement, Subject, VerifiedStatement, decode_envelope, verify
from chopmark.trust import EXTENSION, TrustPolicy, sign_metadata

STATUS_ROLE: Final = "status"
SECURITY_ROLE: Final = "security"
MAX_REASON_CHARS: Final = 500
_STATE_FILE: Final = "state.json"
_STATUS_FILE: Final = "status.json"
_LOCK_FILE: Final = "lock"
_STATEMENTS: Final = "statements"
_MAX_STATE_BYTES: Final = 16 * 1024 * 1024
_RESTORE: Final = "restore the newest copy; a new one would forget what is revoked"
_KINDS: Final = ("release", "manifest")


class _Predicate(canonical.Strict, frozen=True, kw_only=True):
    v: int
    workspace: str
    of: str
    reason: str
    since: str
    min_epoch: dict[str, int] = {}
    lift: bool = False


class _State(canonical.Strict, frozen=True, kw_only=True):
    v: int
    version: int
    status: dict[str, object]
    applied: list[str]


def revocation(
    *,
    workspace: str,
    model: str,
    kind: str,
    digest: Digest,
    reason: str,
    since: datetime,
    min_epoch: int | None = None,
) -> Statement:
    """Return the statement that revokes a release or a package, for two security owners to sign.

    Args:
        kind: ``release`` or ``manifest``: what *digest* is of.
        min_epoch: also revoke every release of *model* below this epoch.
    """
    predicate = _predicate(workspace, kind, reason, since)
    if min_epoch is not None:
        predicate["min_epoch"] = {canonical.check_name(model, what="model"): min_epoch}
    return _statement(PredicateType.REVOCATION, model, digest, predicate)


def hold(
    *, workspace: str, model: str, kind: str, digest: Digest, reason: str, since: datetime, lift: bool = False
) -> Statement:
    """Return the statement that holds a release or a package, or lifts that hold."""
    predicate = _predicate(workspace, kind, reason, since)
    if lift:
        predicate["lift"] = True
    return _statement(PredicateType.HOLD, model, digest, predicate)


def _predicate(workspace: str, kind: str, reason: str, since: datetime) -> dict[str, object]:
    return {"v": 1, "workspace": workspace, "of": kind, "reason": reason, "since": format_time(since)}


def _statement(kind: PredicateType, model: str, digest: Digest, predicate: dict[str, object]) -> Statement:
    subject = Subject(MODEL_PREFIX + canonical.check_name(model, what="model"), digest)
    statement = Statement(subjects=(subject,), predicate_type=kind, predicate=predicate)
    _change(statement)
    return statement


def apply_statement(status: Status, verified: VerifiedStatement, *, workspace: str) -> Status:
    """Return *status* with what the security owners said; version and issue time stay. Pure.

    Raises:
        VerificationError: not a statement of the role ``security``, or of another workspace.
        DecodeError: signed properly, and not a revocation or hold.
    """
    if verified.role != SECURITY_ROLE:
        raise VerificationError(f"a statement of {verified.role}, not of {SECURITY_ROLE}", code="statement-forbidden")
    wire, entry = _change(verified.statement)
    if wire.workspace != workspace:
        raise VerificationError(f"a statement of workspace {wire.workspace[:80]!r}", code="statement-forbidden")
    if verified.statement.predicate_type == PredicateType.REVOCATION:
        epochs = {
            model: max(status.min_epoch.get(model, 0), wire.min_epoch.get(model, 0))
            for model in {**status.min_epoch, **wire.min_epoch}
        }
        return replace(status, revoked=_with(status.revoked, entry), min_epoch=epochs)
    if wire.lift:
        return replace(status, holds=tuple(e for e in status.holds if not _same(e, entry)))
    return replace(status, holds=_with(status.holds, entry))


def _change(statement: Statement) -> tuple[_Predicate, StatusEntry]:
    wire = canonical.convert(dict(statement.predicate), _Predicate, what="revocation or hold")
    kind = statement.predicate_type
    foreign = wire.lift if kind == PredicateType.REVOCATION else bool(wire.min_epoch)
    if kind not in (PredicateType.REVOCATION, PredicateType.HOLD) or wire.v != 1 or wire.of not in _KINDS or foreign:
        raise DecodeError("not a revocation or hold of a release or a manifest")
    if not 0 < len(wire.reason) <= MAX_REASON_CHARS or any(epoch < 1 for epoch in wire.min_epoch.values()):
        raise DecodeError("a revocation or hold has a short reason, and epochs from 1 upwards")
    try:
        for model in wire.min_epoch:
            canonical.check_name(model, what="model")
    except UsageError as error:
        raise DecodeError(error.message) from error
    since = parse_time(wire.since, what="since")
    return wire, StatusEntry(kind=wire.of, digest=statement.subject.digest, reason=wire.reason, since=since)


def _same(one: StatusEntry, other: StatusEntry) -> bool:
    return (one.kind, one.digest) == (other.kind, other.digest)


def _with(entries: tuple[StatusEntry, ...], entry: StatusEntry) -> tuple[StatusEntry, ...]:
    return entries if any(_same(e, entry) for e in entries) else (*entries, entry)


def build_status(status: Status, *, max_age_s: int, signers: Sequence[Signer]) -> bytes:
    """Return status.json: TUF metadata of the delegated role ``status``, signed.

    Args:
        max_age_s: the largest age a device accepts; stock clients learn it as the expiry.
    """
    metadata = Metadata(
        Targets(
            version=status.version,
            expires=status.issued + timedelta(seconds=max_age_s),
            unrecognized_fields={EXTENSION: status_extension(status)},
        )
    )
    sign_metadata(metadata, signers)
    return metadata.to_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a statement led to: the version that carries it, and whether it changed anything."""

    version: int
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What the folder holds: the status, the statements applied, and status.json where it is of that status."""

    status: Status
    applied: frozenset[str]
    signed: bytes


STATUS_INTERVAL: Final = timedelta(hours=4)
"""How often the status is issued again with nothing new: its age is the whole freshness rule."""


class StatusHost:
    """See the module. Safe in threads and processes: each call holds the folder's lock.

    Args:
        folder: the host's own: ``state.json``, ``status.json`` and the statements that were applied.
        signers: all keys of the owner of the role ``status``.
        interval: how old the status may become before it is issued again.
    """

    def __init__(
        self, *, folder: Path, trust: TrustPolicy, signers: Sequence[Signer], clock: Clock, interval: timedelta
    ) -> None:
        self._folder = folder
        self._trust = trust
        self._signers = tuple(signers)
        self._clock = clock
        self._interval = interval

    def status(self) -> Status:
        """Return what is revoked and held now."""
        with self._locked():
            return self._read().status

    def current(self) -> bytes:
        """Return status.json, issued again when the interval is over.

        Raises:
            UndecidedError: the folder cannot be written, or a key cannot be used; the last one issued stays there.
            VerificationError: the folder is damaged, or *signers* cannot sign for the role ``status``.
        """
        with self._locked():
            held = self._read()
            now = self._clock.now()
            fresh = now - held.status.issued < self._interval and not self._absurd(held.status, now)
            if held.signed and fresh and self._by_these_keys(held.signed):
                return held.signed
            return self._issue(held, now)

    def apply(self, envelope: bytes) -> Applied:
        """Apply a signed revocation or hold; the same one again changes nothing.

        Raises:
            VerificationError: too few security owners signed it, or they may not say this.
            DecodeError: not a revocation or hold.
            UndecidedError: as :meth:`current`; then send it again.
        """
        verified = verify(decode_envelope(envelope), self._trust, SECURITY_ROLE)
        digest = str(verified.digest)
        with self._locked():
            held = self._read()
            changed = replace(held, status=apply_statement(held.status, verified, workspace=self._trust.workspace))
            if digest in held.applied and held.signed:
                return Applied(version=held.status.version, changed=False)
            if digest in held.applied:  # killed, or out of disk, after it was written down
                self._issue(held, self._clock.now())
                return Applied(version=held.status.version + 1, changed=False)
            write_file(self._folder / _STATEMENTS / f"{verified.digest.hex}.json", envelope)
            self._issue(replace(changed, applied=held.applied | {digest}), self._clock.now())
            return Applied(version=held.status.version + 1, changed=True)

    def _issue(self, held: _Held, now: datetime) -> bytes:
        """Write the next version down, then sign it."""
        rule = self._trust.rule(STATUS_ROLE)
        count = count_valid(rule, {signer.public.keyid for signer in self._signers})
        if not count.met:
            raise VerificationError(
                f"these keys cannot sign the status: {count.explain()}",
                code="status-untrusted",
                hint="use all keys of the owner that trust.json names for the role `status`",
            )
        # A clock that was set back must not make the status older than devices have seen it.
        issued = now if self._absurd(held.status, now) else max(now, held.status.issued)
        status = replace(held.status, version=held.status.version + 1, issued=issued)
        state = {
            "v": 1,
            "version": status.version,
            "status": status_extension(status),
            "applied": sorted(held.applied),
        }
        write_file(self._folder / _STATE_FILE, canonical.encode(state), mode=0o600)
        signed = build_status(status, max_age_s=self._trust.limits.largest_status_age_s, signers=self._signers)
        write_file(self._folder / _STATUS_FILE, signed)
        return signed

    def _by_these_keys(self, signed: bytes) -> bool:
        """Tell whether the last status carries the keys of today: after a change of trust devices know no others."""
        return {signer.public.keyid for signer in self._signers} <= set(Metadata[Targets].from_bytes(signed).signatures)

    def _absurd(self, status: Status, now: datetime) -> bool:
        """Whether a status is dated so far ahead that its date was a fault: who believed it needs root's reset anyway."""
        return status.issued - now > timedelta(seconds=self._trust.limits.largest_status_age_s)

    def _read(self) -> _Held:
        state, signed = self._folder / _STATE_FILE, self._folder / _STATUS_FILE
        if state.exists():
            status, applied = _decode_state(read_file(state, max_bytes=_MAX_STATE_BYTES))
            return _Held(status=status, applied=applied, signed=_if_of(status, signed))
        if signed.exists() or (self._folder / _STATEMENTS).exists():
            raise VerificationError(f"{state}: is missing", code="state-corrupt", hint=_RESTORE)
        # Issued long ago, so that the first call issues version 1.
        start = Status(version=0, issued=datetime.fromtimestamp(0, UTC), min_epoch={})
        return _Held(status=start, applied=frozenset(), signed=b"")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(
                self._folder / _LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise UndecidedError(f"{self._folder}: cannot be used ({error.strerror})", code="not-written") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # and with it the lock


def _if_of(status: Status, path: Path) -> bytes:
    """Return the signed file when it is of exactly *status*; nothing when the host was killed between the two."""
    try:
        data = read_file(path, max_bytes=_MAX_STATE_BYTES)
        signed = Metadata[Targets].from_bytes(data).signed
        same = signed.version == status.version and signed.unrecognized_fields[EXTENSION] == status_extension(status)
    except Exception:  # noqa: BLE001 - whatever is wrong with the old file, a new one is issued
        return b""
    return data if same else b""


def _decode_state(data: bytes) -> tuple[Status, frozenset[str]]:
    try:
        wire = canonical.decode_as(data, _State, what="status state", max_bytes=_MAX_STATE_BYTES, canonical=True)
        if wire.v != 1 or wire.version < 1:
            raise DecodeError("status state: an unknown version")
        return decode_status(wire.status, version=wire.version), frozenset(wire.applied)
    except ChopmarkError as error:
        raise VerificationError(
            f"the security host's state is damaged: {error.message}",
            code="state-corrupt",
            hint=_RESTORE,
        ) from error
