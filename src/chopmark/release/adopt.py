# SPDX-License-Identifier: Apache-2.0
"""Adopt what was there before: say that a model exists, where it was found, and that nobody knows where it came from. Pure.

Adopting registers; it approves nothing. The statement (``https://chopmark.dev/adoption/v1``) is about one model file, by its
SHA-256, since rules, ``trace`` and revocations go by a statement's first subject. Its predicate says ``"origin": "unknown"``,
always: what has a known origin has provenance and needs no adopting. A policy may allow such models until a date.

It holds no credentials and no path of the machine where it was made: of an address neither user, password, query nor
fragment is kept, and of a file its name, or its place in the folder that was named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal
from urllib.parse import urlsplit

from chopmark import canonical
from chopmark.artifacts import BLOCK_SIZES, Digest, FileEntry
from chopmark.clock import format_time, parse_time
from chopmark.errors import DecodeError, UsageError, VerificationError, printable
from chopmark.statements import Envelope, PredicateType, Statement, Subject, verified
from chopmark.trust import TrustPolicy

ADOPTER: Final = "adopter"
MAX_REASON_CHARS: Final = 500
MAX_FOUND: Final = 10_000
"""How many models are adopted at once."""
RUNS_CODE: Final = frozenset({"pickle", "pytorch"})
"""Formats whose usual loaders run what stands in the file."""

_UNFIT: Final = re.compile(r"[^a-z0-9._]+")
_MAX_NAME: Final = 63
_MAX_DIGITS: Final = 40
_DIGITS: Final = 8


class SourceKind(StrEnum):
    """Where a model was found."""

    URL = "url"
    FOLDER = "folder"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model was found.

    Attributes:
        name: an address without credentials; or the place in a folder, beginning with the folder's name; or a file's name.
    """

    kind: SourceKind
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What an adoption says.

    Attributes:
        model: its name here.
        format: by content; empty where it is none that is known.
        until: from then on its adopter does not want it released; None for no such time.
    """

    workspace: str
    model: str
    file: FileEntry
    format: str
    source: Source
    reason: str
    adopted: datetime
    until: datetime | None = None


class _Source(canonical.Strict, frozen=True, kw_only=True):
    kind: SourceKind
    name: str


class _File(canonical.Strict, frozen=True, kw_only=True):
    name: str
    length: int
    format: str
    fsverity: dict[str, str]


class _Predicate(canonical.Strict, frozen=True, kw_only=True):
    v: int
    workspace: str
    origin: Literal["unknown"]
    source: _Source
    file: _File
    reason: str
    adopted: str
    until: str | None = None


def adoption_statement(adoption: Adoption) -> Statement:
    """Return the statement, for an adopter to sign.

    Raises:
        UsageError: no name of a model, or a reason that is empty or longer than 500 characters.
    """
    canonical.check_name(adoption.model, what="model")
    reason = " ".join(adoption.reason.split())
    if not 0 < len(reason) <= MAX_REASON_CHARS or printable(reason) != reason:
        raise UsageError(
            f"a reason has 1 to {MAX_REASON_CHARS} printable characters", hint="--reason 'in use since 2024'"
        )
    file = adoption.file
    predicate: dict[str, object] = {
        "v": 1,
        "workspace": adoption.workspace,
        "origin": "unknown",
        "source": {"kind": str(adoption.source.kind), "name": adoption.source.name},
        "file": {
            "name": file.name,
            "length": file.length,
            "format": adoption.format,
            "fsverity": {str(size): digest.hex for size, digest in file.fsverity.items()},
        },
        "reason": reason,
        "adopted": format_time(adoption.adopted),
    }
    if adoption.until is not None:
        predicate["until"] = format_time(adoption.until)
    subject = Subject(f"model/{adoption.model}", file.sha256)
    return Statement(subjects=(subject,), predicate_type=PredicateType.ADOPTION, predicate=predicate)


def read_adoption(statement: Statement) -> Adoption:
    """Read what an adoption says.

    Raises:
        DecodeError: another kind of statement, or one of another shape.
    """
    if statement.predicate_type != PredicateType.ADOPTION or not statement.subject.name.startswith("model/"):
        raise DecodeError("adoption: not an adoption of a model")
    wire = canonical.convert(dict(statement.predicate), _Predicate, what="adoption")
    if wire.v != 1 or wire.file.length < 0 or sorted(wire.file.fsverity) != sorted(map(str, BLOCK_SIZES)):
        raise DecodeError("adoption: unknown version, or a file that is none")
    return Adoption(
        workspace=wire.workspace,
        model=canonical.decode_name(statement.subject.name.removeprefix("model/"), what="adoption"),
        file=FileEntry(
            name=wire.file.name,
            length=wire.file.length,
            sha256=statement.subject.digest,
            fsverity={int(size): Digest.from_hex(digest) for size, digest in wire.file.fsverity.items()},
        ),
        format=wire.file.format,
        source=Source(kind=wire.source.kind, name=wire.source.name),
        reason=wire.reason,
        adopted=parse_time(wire.adopted, what="adoption"),
        until=None if wire.until is None else parse_time(wire.until, what="adoption"),
    )


def adopted(entries: Iterable[tuple[int, Envelope]], trust: TrustPolicy) -> dict[Digest, tuple[int, Adoption]]:
    """Return what is adopted already: digest of the file -> index of the newest statement, and what it says.

    Raises:
        UsageError: ``role-unknown``: trust.json gives nobody the role.
    """
    check_role(trust)
    found = {}
    for index, statement in verified(entries, trust, kind=PredicateType.ADOPTION, role=ADOPTER):
        try:
            adoption = read_adoption(statement.statement)
        except DecodeError:
            continue  # signed by an adopter, and of a shape that this version does not know
        found[adoption.file.sha256] = (index, adoption)
    return found


def check_role(trust: TrustPolicy) -> str:
    """Return the first owner who may adopt.

    Raises:
        UsageError: ``role-unknown``.
    """
    try:
        return trust.role(ADOPTER).owners[0]
    except VerificationError as error:
        raise UsageError(
            f"nobody here may adopt: {error.message}",
            code=error.code,
            hint="the root owners add the role `adopter` to trust.json; workspaces that are made now have it",
        ) from error


def url_source(url: str) -> Source:
    """Return an address as it may be shown: without user, password, query and fragment.

    Raises:
        UsageError: not an http or https address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError("not an http or https address", hint="https://host/model.onnx") from error
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError("not an http or https address", hint="https://host/model.onnx")
    where = f"[{host}]" if ":" in host else host
    name = f"{parts.scheme}://{where}{f':{port}' if port else ''}{parts.path}"
    return Source(kind=SourceKind.URL, name=printable(name)[:2000])


def shown(place: str) -> str:
    """Return a file's name as it can stand in a statement and on a screen, whatever bytes it is made of."""
    return printable(place.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))[:2000]


def names_for(places: Sequence[str], prefix: str = "") -> dict[str, str]:
    """Return place -> a name for its model, each another; the same places always get the same names.

    Args:
        places: paths below the folder, ``/``-separated.
        prefix: before each name.
    """
    wanted: dict[str, list[str]] = {}
    for place in sorted(places):
        stem = place.rpartition(".")[0] if "." in place.rpartition("/")[2].lstrip(".") else place
        wanted.setdefault(_name(f"{prefix}-{stem}" if prefix else stem), []).append(place)
    names = {those[0]: name for name, those in wanted.items() if len(those) == 1}
    taken = set(names.values())
    for name, those in wanted.items():
        stem = "model-x" if name == "x" else name  # no name begins with x-
        for place in those if len(those) > 1 else ():
            digest = Digest.of(place.encode("utf-8", "surrogateescape")).hex
            tails = (f"-{digest[:digits]}" for digits in range(_DIGITS, _MAX_DIGITS))
            full = (stem[: _MAX_NAME - len(tail)] + tail for tail in tails)
            names[place] = next(one for one in full if one not in taken)
            taken.add(names[place])
    return names


def _name(text: str) -> str:
    name = _UNFIT.sub("-", text.lower()).strip("-._")
    while name.startswith("x-"):
        name = name[2:].lstrip("-._")
    return name[:_MAX_NAME] or "model"


def warnings_of(formats: Mapping[str, str]) -> list[str]:
    """Return what a person should know about models of these formats: name -> format."""
    return [
        f"{name}: {kind} runs code when it is loaded; registered, not approved"
        for name, kind in formats.items()
        if kind in RUNS_CODE
    ]
