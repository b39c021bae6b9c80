# SPDX-License-Identifier: Apache-2.0
"""The dossier: the life of one artifact in one file (``digits-1.chopmark``), verified from a pinned root and nothing else.

    write_dossier -> bytes -> read_dossier -> Dossier --open_dossier(pin)--> Opened

A dossier is a plain tar (:mod:`chopmark.release.ustar`) with these members, in this order:

    dossier.json                          what it is about, whose, and in which ledger: claims
    roots/<n>.root.json                   every root from the first; one of them is the pinned one
    trust/<version>.trust.json            what roots before it named: what was believed then, and grants nothing now
    trust.json                            the file that the last root names
    entries/<index>.json                  a leaf of the ledger; <index> in twelve digits
    entries/<index>.envelope.json         before it, where the leaf names an envelope by digest only
    entries/<index>.tlog-proof            after it: the proof, all of them in one witnessed checkpoint
    channel/<path>                        one publication of the channel, as it is served
    policies/<sha256>.yaml                policies by which the gate decided, as its decisions name them
    manifest.json, package/<sha256>       the package: its manifest, and its files by digest

Reading decides only that these are the members, each within its bound; contents are hashed and kept as bytes. Opening
verifies in the order in which each thing gives authority to the next: the pinned root, the roots after it, trust.json, the
checkpoint with its witnesses, each leaf's place in it, the publication (steps 5 to 9 of the protocol, at the time when
witnesses saw it), the package. Only then are leaves decoded. Who may have signed what, :mod:`chopmark.release.life` judges.

What no reader can see is what was left out: see :attr:`Opened.complete`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO, Final

from chopmark import canonical
from chopmark.artifacts import Digest, Manifest, decode_manifest
from chopmark.channel import ChannelFile, Fetcher, MissingError, Status
from chopmark.channel.follow import MAX_TARGETS_BYTES
from chopmark.channel.walk import Informed, Seen, to_channel, to_status
from chopmark.documents import MAX_DOCUMENT_BYTES
from chopmark.errors import DecodeError, Refused, UndecidedError, VerificationError
from chopmark.ledger import (
    MAX_ENTRY_BYTES,
    MAX_PROOF_BYTES,
    TlogProof,
    Witnessed,
    WitnessPolicy,
    leaf_hash,
    verify_checkpoint,
    verify_inclusion,
    verify_proof,
)
from chopmark.ledger.rekor import is_hashed_rekord
from chopmark.release import ustar
from chopmark.statements import Envelope, decode_envelope, decode_leaf, publication_leaf
from chopmark.trust import (
    MAX_ROOT_BYTES,
    MAX_TRUST_BYTES,
    LogKeys,
    TrustedRoot,
    TrustPolicy,
    next_root,
    open_trust,
    pinned_root,
)

SUFFIX: Final = ".chopmark"
HEAD: Final = "dossier.json"
MAX_KEPT_BYTES: Final = 256 * 1024 * 1024
"""How much of a dossier is held in memory: everything but the package's files."""
MAX_ROOTS: Final = 256
MAX_ENTRIES: Final = 100_000
_MAX_ENVELOPE_BYTES: Final = 4 * 1024 * 1024
_MAX_MANIFEST_BYTES: Final = 8 * 1024 * 1024

_PLACES: Final[tuple[tuple[re.Pattern[str], int], ...]] = (
    (re.compile(r"dossier\.json"), 4096),
    (re.compile(r"roots/([1-9][0-9]{0,8})\.root\.json"), MAX_ROOT_BYTES),
    (re.compile(r"trust/([1-9][0-9]{0,8})\.trust\.json"), MAX_TRUST_BYTES),
    (re.compile(r"trust\.json"), MAX_TRUST_BYTES),
    (re.compile(r"entries/([0-9]{12})\.(envelope\.json|json|tlog-proof)"), _MAX_ENVELOPE_BYTES),
    (re.compile(r"channel/metadata/[a-z0-9][a-z0-9._-]{0,70}"), MAX_TARGETS_BYTES),
    (re.compile(r"policies/([0-9a-f]{64})\.yaml"), MAX_DOCUMENT_BYTES),
    (re.compile(r"manifest\.json"), _MAX_MANIFEST_BYTES),
    (re.compile(r"package/([0-9a-f]{64})"), ustar.MAX_MEMBER_BYTES),
)
_NUMBERED: Final = (1, 2)  # roots and trust: by number, and not as text
_ENTRY: Final = 4
_PACKAGE: Final = len(_PLACES) - 1
_ENTRY_BYTES: Final = {"json": MAX_ENTRY_BYTES, "tlog-proof": MAX_PROOF_BYTES, "envelope.json": _MAX_ENVELOPE_BYTES}


class _Head(canonical.Strict, frozen=True, kw_only=True):
    v: int
    workspace: str
    about: str
    log: str
    channel: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A leaf of the ledger and its proof; nothing is verified.

    Attributes:
        envelope: what the leaf names by digest; None where it holds the envelope itself.
    """

    index: int
    leaf: bytes
    proof: bytes
    envelope: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """What a dossier says; nothing is verified but that each file of the package has the digest it is called by.

    Attributes:
        about: a package digest, or that of another artifact or statement.
        log: origin of the ledger.
        roots: from the first on.
        trust: the file that the last root names; *before*: version -> those that roots before it named.
        channel: name of the channel of *published*; None where nothing was published.
        published: path in the channel -> bytes.
        policies: files that decisions name by digest.
        package: digest -> length, of each file that is there.
    """

    workspace: str
    about: Digest
    log: str
    roots: tuple[bytes, ...]
    trust: bytes
    entries: tuple[Entry, ...]
    channel: str | None = None
    published: Mapping[str, bytes] = field(default_factory=dict)
    policies: Mapping[Digest, bytes] = field(default_factory=dict)
    manifest: bytes | None = None
    package: Mapping[Digest, int] = field(default_factory=dict)
    before: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What the channel said when its witnesses saw it.

    Attributes:
        index: of its entry in the ledger.
        at: when enough witnesses had seen it; None where the policy asks for none.
    """

    index: int
    at: datetime | None
    file: ChannelFile
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A dossier that was verified from a pinned root.

    Attributes:
        pin: the root that the caller trusts; *root* is the newest that follows from it.
        before: earlier versions of *trust*, oldest first, as roots from the pinned one on named them.
        seen: the checkpoint that every entry is proven in.
        entries: statements with their index, in order; each is in the ledger, and what it says is not judged yet.
        complete: every entry of that checkpoint is here: what is not found, was not there.
        policies: digest -> the file with that digest; read only where a decision of the gate names it.
        manifest: of the package; *package*: all its files are here too, and are those.
    """

    about: Digest
    pin: Digest
    root: TrustedRoot
    trust: TrustPolicy
    seen: Witnessed
    entries: tuple[tuple[int, Envelope], ...]
    complete: bool
    publication: Publication | None
    policies: Mapping[Digest, bytes]
    manifest: Manifest | None
    package: bool
    before: tuple[TrustPolicy, ...] = ()


def write_dossier(out: BinaryIO, dossier: Dossier, files: Iterable[tuple[Digest, int, Iterable[bytes]]] = ()) -> None:
    """Write a dossier; the same one is the same bytes.

    Args:
        files: of the package: digest, length in bytes, content.

    Raises:
        UsageError, DecodeError: a file is too long for a member, or is not as long as it says.
    """
    head = {
        "v": 1,
        "workspace": dossier.workspace,
        "about": str(dossier.about),
        "log": dossier.log,
        "channel": dossier.channel,
    }
    _write(out, HEAD, canonical.encode(head))
    for number, root in enumerate(dossier.roots, start=1):
        _write(out, f"roots/{number}.root.json", root)
    for version in sorted(dossier.before):
        _write(out, f"trust/{version}.trust.json", dossier.before[version])
    _write(out, "trust.json", dossier.trust)
    for entry in sorted(dossier.entries, key=lambda entry: entry.index):
        place = f"entries/{entry.index:012d}"
        if entry.envelope is not None:
            _write(out, f"{place}.envelope.json", entry.envelope)
        _write(out, f"{place}.json", entry.leaf)
        _write(out, f"{place}.tlog-proof", entry.proof)
    for path in sorted(dossier.published):
        _write(out, f"channel/{path}", dossier.published[path])
    for digest in sorted(dossier.policies):
        _write(out, f"policies/{digest.hex}.yaml", dossier.policies[digest])
    if dossier.manifest is not None:
        _write(out, "manifest.json", dossier.manifest)
    for digest, length, chunks in sorted(files, key=lambda file: file[0]):
        ustar.write_member(out, f"package/{digest.hex}", length, chunks)
    ustar.write_end(out)


def _write(out: BinaryIO, name: str, data: bytes) -> None:
    ustar.write_member(out, name, len(data), (data,))


def is_dossier(begin: bytes) -> bool:
    """Tell whether a file that begins with these bytes (512 or more) claims to be a dossier."""
    return begin[:100].rstrip(b"\0") == HEAD.encode() and begin[257:263] == b"ustar\0"


def read_dossier(source: BinaryIO) -> Dossier:
    """Read a dossier; nothing in it is decoded but its first member, and nothing is written anywhere.

    Raises:
        DecodeError: not a dossier: another member, order or length than one has, cut short, too much of anything.
        Refused: ``package-altered``: a file of the package has another digest than it is called by.
    """
    gate = _Gate()
    kept: list[tuple[re.Match[str], int, bytes]] = []
    package: dict[Digest, int] = {}
    for name, content in ustar.read_members(source, gate.allow):
        place, match = _place(name)
        if place == _PACKAGE:
            digest = Digest.from_hex(match.group(1))
            package[digest] = _hashed(digest, content)
        else:
            kept.append((match, place, b"".join(content)))
    return _assemble(kept, package)


class _Gate:
    """Which member may come next: each in its place, once, and no longer than what stands there."""

    def __init__(self) -> None:
        self._last: tuple[int, int, str] = (-1, 0, "")
        self._kept = 0

    def allow(self, name: str, length: int) -> None:
        place, match = _place(name)
        number = int(match.group(1)) if place in _NUMBERED else 0
        most = _ENTRY_BYTES[match.group(2)] if place == _ENTRY else _PLACES[place][1]
        if length > most:
            raise DecodeError(f"dossier: {name}: {length:,} bytes, more than the {most:,} allowed")
        if not self._last < (place, number, name):
            raise DecodeError(f"dossier: {name}: stands twice, or in the wrong place")
        self._last = (place, number, name)
        self._kept += 0 if place == _PACKAGE else length
        if self._kept > MAX_KEPT_BYTES:
            raise DecodeError(f"dossier: more than {MAX_KEPT_BYTES:,} bytes beside the package")


def _place(name: str) -> tuple[int, re.Match[str]]:
    for place, (pattern, _) in enumerate(_PLACES):
        if match := pattern.fullmatch(name):
            return place, match
    raise DecodeError(f"dossier: {name}: no dossier has such a member")


def _hashed(digest: Digest, content: Iterator[bytes]) -> int:
    sha256, length = hashlib.sha256(), 0
    for chunk in content:
        sha256.update(chunk)
        length += len(chunk)
    if sha256.digest() != digest.value:
        raise Refused("package-altered", f"package/{digest.hex}: other bytes than it is called by", hint=_ANEW)
    return length


_ANEW: Final = "do not use it; get the dossier anew from whoever exported it"


def _assemble(kept: Sequence[tuple[re.Match[str], int, bytes]], package: Mapping[Digest, int]) -> Dossier:
    by_place: dict[int, list[tuple[re.Match[str], bytes]]] = {}
    for match, place, data in kept:
        by_place.setdefault(place, []).append((match, data))
    heads, roots, before, trusts, parts, published, policies, manifests = (
        by_place.get(place, []) for place in range(_PACKAGE)
    )
    if not heads or not trusts or not parts or [int(m.group(1)) for m, _ in roots] != list(range(1, len(roots) + 1)):
        raise DecodeError("dossier: without its first member, trust.json, or an entry; or a root is left out")
    if not 0 < len(roots) <= MAX_ROOTS:
        raise DecodeError(f"dossier: {len(roots)} roots; 1 to {MAX_ROOTS} are allowed")
    head = canonical.decode_as(heads[0][1], _Head, what=HEAD, max_bytes=4096, canonical=True)
    if head.v != 1:
        raise DecodeError(f"dossier: version {head.v} is not known here")
    if (head.channel is None) is not (not published):
        raise DecodeError("dossier: a publication without its channel, or the other way round")
    return Dossier(
        workspace=head.workspace,
        about=Digest.parse(head.about),
        log=head.log,
        roots=tuple(data for _, data in roots),
        trust=trusts[0][1],
        entries=_entries(parts),
        channel=head.channel,
        published={match.group().removeprefix("channel/"): data for match, data in published},
        policies={Digest.from_hex(match.group(1)): data for match, data in policies},
        manifest=manifests[0][1] if manifests else None,
        package=package,
        before={int(match.group(1)): data for match, data in before},
    )


def _entries(parts: Sequence[tuple[re.Match[str], bytes]]) -> tuple[Entry, ...]:
    found: dict[int, dict[str, bytes]] = {}
    for match, data in parts:
        found.setdefault(int(match.group(1)), {})[match.group(2)] = data
    if len(found) > MAX_ENTRIES or not all({"json", "tlog-proof"} <= set(entry) for entry in found.values()):
        raise DecodeError(f"dossier: an entry without its proof, or more than {MAX_ENTRIES:,} of them")
    return tuple(
        Entry(index=index, leaf=entry["json"], proof=entry["tlog-proof"], envelope=entry.get("envelope.json"))
        for index, entry in found.items()
    )


def open_dossier(dossier: Dossier, pin: Digest, *, now: datetime) -> Opened:
    """Verify a dossier from the root that the caller pinned.

    Args:
        pin: SHA-256 of any root of the workspace, known from elsewhere.
        now: when the publication is looked at, where its witnesses say no time.

    Raises:
        Refused: ``root-untrusted``, ``trust-mismatch``, ``log-unproven``, ``log-unwitnessed``, ``log-fork``, the names of
            steps 5 to 9, ``package-altered``, ``package-incomplete``.
        VerificationError: ``dossier-foreign``: it says another workspace or ledger than root and trust.json;
            ``policy-altered``, ``evidence-missing``.
        DecodeError: a leaf or a manifest that is none.
    """
    *older, root = _roots(dossier.roots, pin)
    trust = open_trust(root, dossier.trust)
    named = {then.trust.version: then for then in older if then.trust.version in dossier.before}
    before = tuple(
        open_trust(then, dossier.before[version]) for version, then in named.items() if version < trust.version
    )
    log = next((log for log in trust.logs if log.origin == dossier.log), None)
    if log is None or dossier.workspace != root.workspace:
        raise VerificationError(
            f"the dossier is of {dossier.workspace} and the ledger {dossier.log}; this root is of {root.workspace}",
            code="dossier-foreign",
            hint="use the root of the workspace that it is from",
        )
    seen = _prove(dossier.entries, log, trust)
    publication = _publication(dossier, root, trust, now=now)
    if publication is not None:
        _check_one_history(publication[1], seen)
    manifest = _package(dossier)
    return Opened(
        about=dossier.about,
        pin=pin,
        root=root,
        trust=trust,
        seen=seen,
        entries=tuple(_statements(dossier.entries)),
        complete=len(dossier.entries) == seen.checkpoint.size,
        publication=publication[0] if publication is not None else None,
        policies=_policies(dossier),
        manifest=manifest,
        package=bool(dossier.package),
        before=before,
    )


def _roots(roots: Sequence[bytes], pin: Digest) -> list[TrustedRoot]:
    """Return the pinned root and those that follow from it."""
    start = next((number for number, data in enumerate(roots) if Digest.of(data) == pin), None)
    if start is None:
        raise Refused(
            "root-untrusted", f"none of the {len(roots)} roots here is the pinned one", evidence={"pin": str(pin)}
        )
    chain = [pinned_root(roots[start], pin)]
    for data in roots[start + 1 :]:
        chain.append(next_root(chain[-1], data))
    return chain


def _prove(entries: Sequence[Entry], log: LogKeys, trust: TrustPolicy) -> Witnessed:
    """Check that every entry stands in one checkpoint of *log* that its witnesses saw."""
    policy = _policy(trust)
    try:
        proofs = [TlogProof.decode(entry.proof) for entry in entries]
    except DecodeError as error:
        raise Refused("log-unproven", error.message) from error
    note = proofs[0].checkpoint_note
    seen = verify_checkpoint(note, origin=log.origin, require=log.require, policy=policy)
    checkpoint, frozen = seen.checkpoint, log.frozen
    beyond = frozen is not None and checkpoint.size > frozen.size
    forked = frozen is not None and checkpoint.size == frozen.size and checkpoint.root != frozen.root.value
    if beyond or forked:
        raise Refused("log-fork", f"{log.origin} ended; {checkpoint.size} entries of it are shown that are not its own")
    for entry, proof in zip(entries, proofs, strict=True):
        if proof.checkpoint_note != note or proof.index != entry.index:
            raise Refused("log-unproven", f"entry {entry.index}: proven elsewhere than the others, or at another index")
        try:
            verify_inclusion(leaf_hash(entry.leaf), entry.index, checkpoint.size, proof.path, checkpoint.root)
        except VerificationError as error:
            raise Refused("log-unproven", f"entry {entry.index}: {error.message}", evidence=error.evidence) from error
    return seen


def _policy(trust: TrustPolicy) -> WitnessPolicy:
    try:
        return WitnessPolicy.parse(trust.witness_policy)
    except DecodeError as error:
        raise Refused("log-unproven", error.message) from error


def _statements(entries: Sequence[Entry]) -> Iterator[tuple[int, Envelope]]:
    for entry in entries:
        found = None if is_hashed_rekord(entry.leaf) else decode_leaf(entry.leaf)
        if isinstance(found, Digest) and (entry.envelope is None or Digest.of(entry.envelope) != found):
            raise VerificationError(
                f"entry {entry.index} names an envelope that is not in the dossier",
                code="evidence-missing",
                hint=_ANEW,
                evidence={"envelope": str(found)},
            )
        if not isinstance(found, Digest) and entry.envelope is not None:
            raise DecodeError(f"dossier: entry {entry.index} names no envelope, and one lies beside it")
        if isinstance(found, Envelope):
            yield entry.index, found
        elif entry.envelope is not None:
            yield entry.index, decode_envelope(entry.envelope)


class _InMemory(Fetcher):
    """The one publication in a dossier, served from memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def _fetch(self, path: str, max_bytes: int) -> bytes:
        if path not in self._files:
            raise MissingError(f"{path}: is not in the dossier")
        return self._files[path][: max_bytes + 1]


def _publication(
    dossier: Dossier, root: TrustedRoot, trust: TrustPolicy, *, now: datetime
) -> tuple[Publication, Informed] | None:
    """Follow the publication as a device does, at the time when its witnesses had seen it.

    Now would be wrong: a timestamp lives for a day, and a dossier for years.
    """
    if dossier.channel is None:
        return None
    fetcher = _InMemory(dossier.published)
    at = _seen_at(dossier.published, trust)
    try:
        found = to_status(root, trust, fetcher, seen=Seen(), channel=dossier.channel, now=at or now)
        file = to_channel(found, fetcher, name=dossier.channel, now=at or now)
    except UndecidedError as error:
        raise Refused("channel-mixed", error.message) from error
    return Publication(index=found.logged.index, at=at, file=file, status=found.status), found


def _seen_at(published: Mapping[str, bytes], trust: TrustPolicy) -> datetime | None:
    """Return when witnesses had seen the snapshot that is here; None where nobody says. What is wrong, the steps name."""
    path = next((path for path in published if path.endswith(".snapshot.tlog-proof")), None)
    snapshot = published.get(path.replace(".tlog-proof", ".json")) if path else None
    if path is None or snapshot is None:
        return None
    leaf = publication_leaf(Digest.of(snapshot))
    for log in trust.logs:
        try:
            keys = {"origin": log.origin, "require": log.require}
            return verify_proof(published[path], leaf, policy=_policy(trust), **keys).cosigned_at  # type: ignore[arg-type]
        except VerificationError:
            continue
    return None


def _check_one_history(found: Informed, seen: Witnessed) -> None:
    head, checkpoint = found.logged.head, seen.checkpoint
    if found.logged.origin == checkpoint.origin and head.size == checkpoint.size and head.root != checkpoint.root:
        raise Refused("log-fork", f"{checkpoint.origin}: two different ledgers of {head.size} entries in one dossier")


def _policies(dossier: Dossier) -> Mapping[Digest, bytes]:
    for digest, data in dossier.policies.items():
        if Digest.of(data) != digest:
            message = f"policies/{digest.hex}.yaml: other bytes than it is called by"
            raise VerificationError(message, code="policy-altered", hint=_ANEW)
    return dossier.policies


def _package(dossier: Dossier) -> Manifest | None:
    """Check that manifest and files are those that the dossier is about."""
    if dossier.manifest is None:
        if dossier.package:
            raise Refused("package-altered", "files of a package, and no manifest that lists them", hint=_ANEW)
        return None
    if Digest.of(dossier.manifest) != dossier.about:
        raise Refused("package-altered", "the manifest is not that of the package it is about", hint=_ANEW)
    manifest = decode_manifest(dossier.manifest)
    wanted = {entry.sha256: entry.length for entry in manifest.files}
    if dossier.package and (missing := sorted(set(wanted) - set(dossier.package))):
        names = [entry.name for entry in manifest.files if entry.sha256 in missing]
        raise Refused("package-incomplete", f"{names[0]} is listed and not in the dossier", hint=_ANEW)
    if dossier.package and dict(dossier.package) != wanted:
        raise Refused("package-altered", "a file that the manifest does not list, or of another length", hint=_ANEW)
    return manifest
