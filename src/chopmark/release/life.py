# SPDX-License-Identifier: Apache-2.0
"""The life of a model, from the ledger's statements: who said what about which artifact, and what came of what. Pure.

Every statement is judged against trust, by its index, before it is shown; one that no role may have signed is shown as
such and connects nothing. One that rests on a key of before is believed, and says so. Nothing is fetched: whoever holds
the ledger and the root reads the same life.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chopmark.artifacts import Digest
from chopmark.errors import ChopmarkError, UsageError, VerificationError
from chopmark.statements import Envelope, PredicateType, decode_statement, short_type
from chopmark.statements.judge import judge
from chopmark.trust import TrustPolicy

MIN_PREFIX = 4
NOT_BELIEVED = "not-believed"
_HEX = re.compile("[0-9a-f]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One statement in the ledger.

    Attributes:
        index: of its entry.
        type: short predicate type; for provenance the step (``train``, ``convert`` …).
        role, owners: who said it; empty where nobody may have.
        subject_name, subject: what it is about; *also* holds further subjects.
        digest: of the statement itself, as others name it.
        depends: digests (hex) of what its subject was made from, or of what it decided over.
        problem: why it is not believed; empty where it is.
        judgement: ``current``, ``superseded``, ``compromised-before`` or ``not-believed``.
        note: which key of before it rests on, for people; empty where it is current.
    """

    index: int
    type: str
    role: str
    owners: tuple[str, ...]
    subject_name: str
    subject: Digest
    also: tuple[Digest, ...]
    digest: Digest
    depends: tuple[str, ...]
    predicate: Mapping[str, object]
    problem: str = ""
    judgement: str = NOT_BELIEVED
    note: str = ""

    def as_json(self) -> dict[str, object]:
        return {
            "index": self.index,
            "type": self.type,
            "role": self.role,
            "owners": list(self.owners),
            "name": self.subject_name,
            "subject": str(self.subject),
            "digest": str(self.digest),
            "from": list(self.depends),
            "problem": self.problem,
            "judgement": self.judgement,
            "note": self.note,
            "predicate": self.predicate,
        }


def read_life(
    entries: Iterable[tuple[int, Envelope]],
    trust: TrustPolicy,
    *,
    log: str | None = None,
    before: Sequence[TrustPolicy] = (),
) -> tuple[Event, ...]:
    """Return every statement of the ledger as an event, in order.

    Args:
        log: origin of the ledger that the entries stand in; None for the one that *trust* says is appended to.
        before: earlier versions of *trust*, as :func:`chopmark.statements.judge.judge` takes them.
    """
    origin = trust.active_log.origin if log is None else log
    return tuple(_event(index, envelope, trust, origin, before) for index, envelope in entries)


def _event(index: int, envelope: Envelope, trust: TrustPolicy, log: str, before: Sequence[TrustPolicy]) -> Event:
    role, problem, judgement, note = "", "", NOT_BELIEVED, ""
    owners: tuple[str, ...] = ()
    try:
        found = judge(envelope, trust, log=log, index=index, before=before)
        role, owners, statement = found.role, found.owners, found.statement
        judgement, note = str(found.judgement), found.note
    except ChopmarkError as error:
        problem = error.message
        try:
            statement = decode_statement(envelope.payload)
        except ChopmarkError:
            return Event(
                index=index,
                type="?",
                role="",
                owners=(),
                subject_name="?",
                subject=envelope.digest,
                also=(),
                digest=envelope.digest,
                depends=(),
                predicate={},
                problem=problem,
            )
    return Event(
        index=index,
        type=_step(statement.predicate_type, statement.predicate),
        role=role,
        owners=owners,
        subject_name=statement.subject.name,
        subject=statement.subject.digest,
        also=tuple(subject.digest for subject in statement.subjects[1:]),
        digest=envelope.digest,
        depends=() if problem else tuple(_digests(statement.predicate_type, statement.predicate)),
        predicate=statement.predicate,
        problem=problem,
        judgement=judgement,
        note=note,
    )


def _step(predicate_type: str, predicate: Mapping[str, object]) -> str:
    definition = predicate.get("buildDefinition")
    if predicate_type == PredicateType.PROVENANCE and isinstance(definition, dict):
        # …/build/train/v1 -> train
        parts = str(definition.get("buildType", "")).rstrip("/").split("/")
        return parts[-2] if len(parts) > 1 else "provenance"
    return short_type(predicate_type)


def _digests(predicate_type: str, predicate: Mapping[str, object]) -> Iterator[str]:
    """Yield what a statement depends on, as hex: SHA-256 of artifacts and statements, and Git commits."""
    definition = predicate.get("buildDefinition")
    if isinstance(definition, dict):
        yield from _resource_digests(definition.get("resolvedDependencies"))
    if predicate_type == PredicateType.VSA:
        yield from _resource_digests(predicate.get("inputAttestations"))
    if predicate_type == PredicateType.RELEASE:
        evidence = predicate.get("evidence")
        named = [*evidence] if isinstance(evidence, list) else []
        yield from (str(text).removeprefix("sha256:") for text in [*named, predicate.get("vsa")])


def _resource_digests(resources: object) -> Iterator[str]:
    for resource in resources if isinstance(resources, list) else ():
        digest = resource.get("digest") if isinstance(resource, dict) else None
        for value in digest.values() if isinstance(digest, dict) else ():
            yield str(value)


def find_digest(events: Sequence[Event], text: str) -> str:
    """Return the one digest (hex) in the ledger that starts with *text*.

    Args:
        text: at least four digits, with or without ``sha256:``.

    Raises:
        UsageError: no digest, too short, or several start with it.
        VerificationError: ``not-in-ledger``: none does.
    """
    prefix = text.removeprefix("sha256:").lower()
    hint = "see: chopmark ledger entries"
    if not _HEX.fullmatch(prefix):
        raise UsageError(f"{text or 'nothing'}: is no file here, and no digest", hint=hint)
    if len(prefix) < MIN_PREFIX:
        raise UsageError(f"{text}: is too short", hint=f"give {MIN_PREFIX} digits or more")
    known = {d for e in events for d in (e.subject.hex, e.digest.hex, *(x.hex for x in e.also), *e.depends)}
    found = sorted(digest for digest in known if digest.startswith(prefix))
    if not found:
        raise VerificationError(f"{text}: nothing in the ledger starts with it", code="not-in-ledger", hint=hint)
    if len(found) > 1:
        raise UsageError(f"{text}: {len(found)} digests start with it", hint="give more digits")
    return found[0]


def trace(events: Sequence[Event], digest: str) -> tuple[Event, ...]:
    """Return what *digest* came from and what came of it, in ledger order.

    Args:
        digest: hex: an artifact, a statement, a commit or a release hash.
    """
    makes = {event.digest: _makes(event) for event in events}
    back = _reach(digest, [(_makes(e), {*e.depends, *_makes(e)}) for e in events])
    forth = _reach(digest, [({*e.depends, *_makes(e)}, _makes(e)) for e in events])
    wanted = back | forth
    return tuple(event for event in events if wanted & makes[event.digest])


def _makes(event: Event) -> set[str]:
    """Return what an event stands for: its own digest and those of its subjects."""
    return {event.digest.hex, event.subject.hex, *(digest.hex for digest in event.also)}


def _reach(start: str, edges: Sequence[tuple[set[str], set[str]]]) -> set[str]:
    """Return what is reached from *start*: an edge (near, far) adds *far* once something of *near* is reached."""
    reached = {start}
    while True:
        more = set[str]().union(*(far for near, far in edges if near & reached))
        if more <= reached:
            return reached
        reached |= more
