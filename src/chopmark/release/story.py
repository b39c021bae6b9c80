# SPDX-License-Identifier: Apache-2.0
"""What an opened dossier tells: each stage of a life, what is missing in it, and how far it can be known. Pure.

    Opened -> tell -> Story

A stage without a statement says so in plain words. "Not revoked" is never said bare: it is the security owners' word of a
time (the status of a publication), or what the ledger holds up to a size where every entry is here, or it is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from chopmark.artifacts import Digest
from chopmark.channel import Assignment, Release, decode_release
from chopmark.clock import format_time
from chopmark.errors import ChopmarkError, DecodeError, VerificationError
from chopmark.keys import count_owners
from chopmark.policy import NOBODY, Approvals, Candidate, Fact, Phase, decode_policy, read_vsa, replay
from chopmark.release.dossier import Opened
from chopmark.release.gate import APPROVER, GATE
from chopmark.release.life import Event, read_life, trace
from chopmark.statements import Envelope, verify_any
from chopmark.statements.judge import judge
from chopmark.trust import TrustPolicy


class Stage(StrEnum):
    """Where in a life something belongs, in the order in which it is told."""

    ORIGIN = "made from"
    CHECKS = "found out"
    DECISION = "decided"
    PUBLICATION = "published"
    SINCE = "since then"


_STAGES: Final[Mapping[str, Stage]] = {
    "test-result": Stage.CHECKS,
    "inspection": Stage.CHECKS,
    "sbom": Stage.CHECKS,
    "vsa": Stage.DECISION,
    "release": Stage.DECISION,
    "revocation": Stage.SINCE,
    "hold": Stage.SINCE,
    "appraisal": Stage.SINCE,
}
"""All else is where something came from."""

_TIMES: Final = ("timeVerified", "since", "adopted", "finishedOn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A statement that another one names and that is not in the dossier.

    Attributes:
        by: index of the entry that names it; *kind*: what kind of statement that is.
    """

    digest: str
    by: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """Why a release or package may not be used: revoked, or held for now.

    Attributes:
        by: where it is said: ``entry 12``, or ``status 3``.
    """

    kind: str
    digest: Digest
    reason: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A decision of the gate, made again from the dossier alone.

    Attributes:
        index: of its entry.
        differences: what it says and the replay does not confirm; empty: it is confirmed.
    """

    index: int
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A life, stage by stage.

    Attributes:
        events: each statement's own verdict in it.
        releases: that enough approvers signed, newest last.
        assigned: what the publication assigns of them.
        withdrawn: revocations and holds that stand.
        replayed: the decisions that the releases rest on, where their policies are here.
        known: how far "not revoked" is known, in words; empty where nothing was ever released or withdrawn.
    """

    opened: Opened
    digest: Digest
    events: tuple[Event, ...]
    missing: tuple[Missing, ...]
    releases: tuple[Release, ...]
    assigned: tuple[Assignment, ...]
    withdrawn: tuple[Withdrawn, ...]
    replayed: tuple[Replayed, ...]
    known: str

    @property
    def ok(self) -> bool:
        """Statements verify, none that is named is missing, decisions are confirmed, nothing takes the artifact back."""
        return self.verified and not self.withdrawn

    @property
    def verified(self) -> bool:
        """All of it verifies, whatever became of the artifact."""
        unconfirmed = any(again.differences for again in self.replayed)
        return not (any(event.problem for event in self.events) or self.missing or unconfirmed)

    def of(self, stage: Stage) -> tuple[Event, ...]:
        """Return the statements of one stage, in ledger order."""
        return tuple(event for event in self.events if stage_of(event) is stage)

    def gaps(self) -> dict[Stage, str]:
        """Return what a stage lacks, in plain words."""
        believed = {event.type for event in self.events if not event.problem}
        found = {}
        if "train" not in believed:
            found[Stage.ORIGIN] = "no training is recorded: origin unknown"
        lacking = [word for kind, word in _CHECKED.items() if kind not in believed]
        if lacking:
            found[Stage.CHECKS] = f"no {', no '.join(lacking)}"
        if not self.releases:
            found[Stage.DECISION] = "not approved: no release of it is signed by enough approvers"
        elif not self.replayed:
            found[Stage.DECISION] = "the gate's decision was not made again here: its policy is not in the dossier"
        if self.opened.publication is None:
            found[Stage.PUBLICATION] = "the dossier holds no publication of the channel"
        elif not self.assigned:
            file = self.opened.publication.file
            found[Stage.PUBLICATION] = f"channel {file.name} {file.version} assigns no release of it"
        return found

    def as_json(self) -> dict[str, object]:
        opened, gaps = self.opened, self.gaps()
        seen, manifest, publication = opened.seen, opened.manifest, opened.publication
        return {
            "ok": self.ok,
            "digest": str(self.digest),
            "workspace": opened.root.workspace,
            "root": {
                "pinned": str(opened.pin),
                "version": opened.root.version,
                "digest": str(opened.root.digest),
                "expires": opened.root.expires,
            },
            "log": {
                "origin": seen.checkpoint.origin,
                "size": seen.checkpoint.size,
                "witnesses": list(seen.cosigned_by),
                "logged_before": seen.cosigned_at,
                "complete": opened.complete,
            },
            "package": manifest
            and {
                "digest": str(manifest.digest),
                "files": [{"name": f.name, "sha256": f.sha256.hex, "length": f.length} for f in manifest.files],
                "bytes_verified": opened.package,
            },
            "events": [{"stage": str(stage_of(e)), **e.as_json(), "claimed_time": claimed(e)} for e in self.events],
            "releases": [
                {"release": str(r.digest), "model": r.model, "version": r.version, "channels": list(r.channels)}
                for r in self.releases
            ],
            "publication": publication
            and {
                "channel": publication.file.name,
                "version": publication.file.version,
                "entry": publication.index,
                "at": publication.at,
                "status": {"version": publication.status.version, "issued": publication.status.issued},
                "assigned": [{"release": str(a.release), "buckets": [a.first, a.end]} for a in self.assigned],
            },
            "withdrawn": [
                {"kind": w.kind, "digest": str(w.digest), "reason": w.reason, "by": w.by} for w in self.withdrawn
            ],
            "replayed": [{"entry": again.index, "differences": list(again.differences)} for again in self.replayed],
            "known": self.known,
            "missing": [{"digest": m.digest, "named_by": m.by, "kind": m.kind} for m in self.missing],
            "gaps": {str(stage): gap for stage, gap in gaps.items()},
        }


_CHECKED: Final = {"test-result": "test", "inspection": "inspection", "sbom": "bill of materials"}


def stage_of(event: Event) -> Stage:
    """Return the stage that a statement belongs to."""
    return _STAGES.get(event.type, Stage.ORIGIN)


def claimed(event: Event) -> str | None:
    """Return the time that a statement says of itself: its signer's claim, which nothing confirms."""
    run = event.predicate.get("runDetails")
    metadata = run.get("metadata") if isinstance(run, dict) else None
    places = (event.predicate, metadata if isinstance(metadata, dict) else {})
    return next((str(place[name]) for place in places for name in _TIMES if name in place), None)


def find_file(opened: Opened, digest: Digest) -> Digest:
    """Return what to tell about a file with this digest: the package, where it is one of its files.

    Raises:
        VerificationError: ``not-in-dossier``: it is no file of the package, and no statement is about it.
    """
    manifest = opened.manifest
    if manifest is not None and digest in {manifest.digest, *(entry.sha256 for entry in manifest.files)}:
        return manifest.digest
    events = _life(opened)
    if digest in {opened.about, *(d for e in events if not e.problem for d in (e.subject, e.digest, *e.also))}:
        return digest
    raise VerificationError(
        f"{digest.short}…: is no file of the package in this dossier, and no statement in it is about that",
        code="not-in-dossier",
        hint="another file, or an altered one; or the dossier of another model",
        evidence={"digest": str(digest), "about": str(opened.about)},
    )


def tell(opened: Opened, digest: Digest) -> Story:
    """Return the life of *digest* as the dossier tells it; each statement is judged by trust.json."""
    events = trace(_life(opened), digest.hex)
    releases = tuple(_releases(opened, events))
    publication = opened.publication
    hashes = {release.digest for release in releases}
    assigned = publication.file.assignments if publication is not None else ()
    withdrawn = tuple(_withdrawn(opened, events, releases, digest))
    return Story(
        opened=opened,
        digest=digest,
        events=events,
        missing=tuple(_missing(events)),
        releases=releases,
        assigned=tuple(a for a in assigned if a.release in hashes),
        withdrawn=withdrawn,
        replayed=tuple(_replayed(opened, releases)),
        known="" if withdrawn else _known(opened),
    )


def _life(opened: Opened) -> tuple[Event, ...]:
    return read_life(opened.entries, opened.trust, log=opened.seen.checkpoint.origin, before=opened.before)


def _releases(opened: Opened, events: Sequence[Event]) -> list[Release]:
    believed = {event.digest for event in events if event.type == "release" and not event.problem}
    found: dict[Digest, Release] = {}
    for _, envelope in opened.entries:
        if envelope.digest in believed:
            try:
                release = decode_release(envelope.payload)
            except ChopmarkError:
                continue  # signed by the approvers, and no release that this version can read: its event is shown
            found[release.digest] = release
    return sorted(found.values(), key=lambda release: release.counter)


def _believed(opened: Opened) -> Iterator[tuple[int, Envelope, TrustPolicy]]:
    """Yield what is believed, each entry with the trust that says so: that of today, or the newest of before."""
    origin = opened.seen.checkpoint.origin
    for index, envelope in opened.entries:
        with suppress(VerificationError):
            judge(envelope, opened.trust, log=origin, index=index, before=opened.before)
            for then in (opened.trust, *reversed(opened.before)):
                with suppress(VerificationError):
                    verify_any(envelope, then)
                    yield index, envelope, then
                    break


def _replayed(opened: Opened, releases: Sequence[Release]) -> Iterator[Replayed]:
    """Decide again what releases rest on: the evidence decision that each names, and the approval of what was signed.

    A decision over fewer approvals than any envelope in the ledger has cannot be made again, and is shown as it stands.
    """
    facts: dict[Digest, Fact] = {}
    approvals: dict[Digest, list[Approvals]] = {}
    for index, envelope, then in _believed(opened) if releases else ():
        fact = Fact(verified=verify_any(envelope, then), index=index)
        facts.setdefault(envelope.digest, fact)
        if fact.role == APPROVER:  # a release that was signed again stands there once more
            approvals.setdefault(envelope.digest, []).append(_approvals(envelope, then))
    for fact in facts.values():
        if (fact.role, fact.type) != (GATE, "vsa"):
            continue
        try:
            summary = read_vsa(fact.verified.statement)
            policy = decode_policy(opened.policies[summary.policy]) if summary.policy in opened.policies else None
        except DecodeError:
            continue  # of a shape that this version cannot read: it is shown, and replayed by nobody
        for release in releases:
            evidence = summary.phase is Phase.EVIDENCE
            named = release.vsa == fact.digest if evidence else summary.release == release.digest
            had = [NOBODY] if evidence else approvals.get(release.digest, [])
            then_had = next((one for one in had if one.counted == summary.approvals), None)
            if policy is not None and named and then_had is not None:
                candidate = Candidate(release=release)
                again = replay(
                    summary, policy=policy, facts=tuple(facts.values()), candidate=candidate, approvals=then_had
                )
                yield Replayed(index=fact.index, differences=again.differences)


def _approvals(envelope: Envelope, trust: TrustPolicy) -> Approvals:
    count = count_owners(trust.rule(APPROVER), ((s.keyid, s.sig) for s in envelope.signatures), envelope.message)
    return Approvals.of(count, trust.role(APPROVER).owners)


def _missing(events: Sequence[Event]) -> list[Missing]:
    """Return what decisions and releases name as their grounds and is not here; artifacts and commits are no statements."""
    here = {event.digest.hex for event in events}
    return [
        Missing(digest=digest, by=event.index, kind=event.type)
        for event in events
        if event.type in ("vsa", "release")
        for digest in event.depends
        if digest not in here
    ]


def _withdrawn(opened: Opened, events: Sequence[Event], releases: Sequence[Release], digest: Digest) -> list[Withdrawn]:
    about = {digest, *(release.digest for release in releases), *(release.manifest for release in releases)}
    found: dict[tuple[str, Digest], Withdrawn] = {}
    for event in events:
        key = (event.type, event.subject)
        if event.problem or event.type not in ("revocation", "hold") or event.subject not in about:
            continue
        if event.type == "hold" and event.predicate.get("lift") is True:
            found.pop(key, None)
            continue
        reason = str(event.predicate.get("reason", ""))
        found[key] = Withdrawn(kind=event.type, digest=event.subject, reason=reason, by=f"entry {event.index}")
    if opened.publication is not None:
        status = opened.publication.status
        for kind, entries in (("revocation", status.revoked), ("hold", status.holds)):
            for entry in entries:
                if entry.digest in about:
                    by = f"status {status.version}"
                    said = Withdrawn(kind=kind, digest=entry.digest, reason=entry.reason, by=by)
                    found.setdefault((kind, entry.digest), said)
        low = [r for r in releases if r.epoch < status.min_epoch.get(r.model, 0)]
        for release in low:
            why, by = f"epoch {release.epoch} is below the floor", f"status {status.version}"
            found.setdefault(
                ("revocation", release.digest),
                Withdrawn(kind="revocation", digest=release.digest, reason=why, by=by),
            )
    return list(found.values())


def _known(opened: Opened) -> str:
    """Return how far it is known that nothing took the artifact back."""
    words = []
    if opened.publication is not None:
        status = opened.publication.status
        words.append(f"by status {status.version} of the security owners, issued {format_time(status.issued)}")
    if opened.complete:
        words.append(f"in all {opened.seen.checkpoint.size} entries of the ledger, which are all here")
    if not words:
        return "unknown: the dossier holds no status, and not every entry of the ledger"
    return "not revoked and not held " + "; ".join(words)
