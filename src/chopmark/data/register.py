# SPDX-License-Identifier: Apache-2.0
"""Register a dataset: a folder, checked against its contract. Pinning is a step of its own, never a side effect.

(1) only files that the contract knows; (2) all files that it names; (3) every value within its bounds;
(4) every file has the digest and rows that are pinned; (5) every source delivers enough rows, of every label;
(6) no held-back row stands in a source; (7) nothing changed while this was found out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chopmark.artifacts import Digest, Manifest, read_file, scan, write_file
from chopmark.data.model import Contract, Dataset, File, Pin, Source
from chopmark.data.read import MAX_FILE_BYTES, altered, label_position, read_rows
from chopmark.data.wire import MAX_CONTRACT_BYTES, decode_contract, with_pins
from chopmark.errors import UsageError, VerificationError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What was found in one file: *marks* are digests of its rows."""

    file: File
    labels: Counter[int]
    marks: frozenset[bytes]


def register(folder: Path, contract: Path) -> Dataset:
    """Check every file and value below *folder* against the contract in the file *contract*.

    Raises:
        VerificationError: ``dataset-unknown-file``, ``dataset-missing-file``, ``dataset-invalid``,
            ``dataset-unpinned``, ``dataset-altered``, ``dataset-short``, ``dataset-leak``.
        DecodeError: the contract or a file cannot be read as what it is.
        UsageError: a file or folder is missing.
    """
    terms = decode_contract(read_file(contract, max_bytes=MAX_CONTRACT_BYTES))
    manifest, contents = _inspect(folder, contract, terms)
    _check_pins(terms, contents)
    for source in terms.sources:
        _check_source(source, terms, contents)
    _check_leak(terms, contents)
    named = {*terms.learned, terms.held_back}
    return Dataset(
        name=terms.name,
        version=terms.version,
        manifest=manifest,
        contract=terms.digest,
        columns=terms.columns,
        label=terms.label,
        rows=sum(contents[name].file.rows for name in terms.learned),
        sources={source.name: tuple(contents[name].file for name in source.files) for source in terms.sources},
        held_back=contents[terms.held_back].file if terms.held_back else None,
        others=tuple(content.file for name, content in sorted(contents.items()) if name not in named),
        label_counts=sum((contents[name].labels for name in terms.learned), Counter()),
    )


def pin(folder: Path, contract: Path) -> Contract:
    """Write into *contract* what every file below *folder* is now, after all checks but that of the pins.

    Raises:
        VerificationError: as :func:`register`; nothing is pinned that would not pass.
    """
    text = read_file(contract, max_bytes=MAX_CONTRACT_BYTES)
    terms = decode_contract(text)
    _, contents = _inspect(folder, contract, terms)
    for source in terms.sources:
        _check_source(source, terms, contents)
    _check_leak(terms, contents)
    pinned = with_pins(
        text, {name: Pin(sha256=content.file.sha256, rows=content.file.rows) for name, content in contents.items()}
    )
    result = decode_contract(pinned)  # before it is written: a contract with pins of its own above the mark is refused
    write_file(contract, pinned)
    return result


def _inspect(folder: Path, contract: Path, terms: Contract) -> tuple[Manifest, Mapping[str, _Content]]:
    """Return the manifest of *folder*, and what its files hold by their names in the contract."""
    manifest = scan(folder)
    names = _names(folder, contract, manifest)
    unknown = next((name for name in names if not terms.knows(name)), None)
    if unknown is not None:
        raise VerificationError(
            f"{unknown}: the contract knows no such file",
            code="dataset-unknown-file",
            hint="remove it, or name it in the contract in a reviewed commit",
            evidence={"file": unknown},
        )
    missing = next((name for name in (*terms.learned, terms.held_back) if name and name not in names), None)
    if missing is not None:
        raise VerificationError(
            f"{missing}: named in the contract, and not in {folder}",
            code="dataset-missing-file",
            hint="a dataset is registered whole",
            evidence={"file": missing},
        )
    contents = {name: _content(folder, own, terms) for name, own in names.items()}
    for name, own in names.items():
        entry = manifest.file(own)
        if entry is None or entry.sha256 != contents[name].file.sha256:
            raise VerificationError(f"{name}: changed while it was read", code="dataset-altered")
    return manifest, contents


def _names(folder: Path, contract: Path, manifest: Manifest) -> dict[str, str]:
    """Return name in the contract -> name in the folder; the contract's own file, if it lies there, is left out."""
    base = contract.parent.resolve()
    prefix = os.path.relpath(folder.resolve(), base)
    if Path(prefix).parts[:1] == (os.pardir,):
        raise UsageError(
            f"{folder}: is not below {contract.parent}, where the contract is",
            hint="names in a contract are relative to its own folder",
        )
    before = "" if prefix == os.curdir else prefix.replace(os.sep, "/") + "/"
    names = {before + entry.name: entry.name for entry in manifest.files}
    names.pop(contract.name, None)
    return names


def _content(folder: Path, name: str, terms: Contract) -> _Content:
    data = read_file(folder / name, max_bytes=MAX_FILE_BYTES)
    at = label_position(terms)
    labels: Counter[int] = Counter()
    marks = set()
    for row in read_rows(data, terms.columns, file=name):
        labels[row[at]] += 1
        marks.add(Digest.of(repr(row).encode()).value)
    file = File(name=name, sha256=Digest.of(data), rows=labels.total())
    return _Content(file=file, labels=labels, marks=frozenset(marks))


def _check_pins(terms: Contract, contents: Mapping[str, _Content]) -> None:
    for name, content in contents.items():
        pinned = terms.pins.get(name)
        if pinned is None:
            raise VerificationError(
                f"{name}: the contract does not say what this file must be",
                code="dataset-unpinned",
                hint="look at the delivery, then: `chopmark data register --pin`",
                evidence={"file": name, "actual": str(content.file.sha256)},
            )
        if pinned.sha256 != content.file.sha256 or pinned.rows != content.file.rows:
            raise altered(name, expected=pinned.sha256, actual=content.file.sha256)
    gone = next((name for name in terms.pins if name not in contents), None)
    if gone is not None:
        raise VerificationError(
            f"{gone}: pinned in the contract, and not there",
            code="dataset-missing-file",
            hint="restore it, or pin again",
            evidence={"file": gone},
        )


def _check_source(source: Source, terms: Contract, contents: Mapping[str, _Content]) -> None:
    labels = sum((contents[name].labels for name in source.files), Counter[int]())
    label = terms.columns[label_position(terms)]
    if labels.total() < source.minimum_rows:
        raise _short(source, f"{labels.total():,} rows, fewer than {source.minimum_rows:,}")
    if source.minimum_rows_per_label:
        for value in range(label.minimum, label.maximum + 1):
            if labels[value] < source.minimum_rows_per_label:
                raise _short(
                    source, f"{labels[value]:,} rows of label {value}, fewer than {source.minimum_rows_per_label:,}"
                )


def _short(source: Source, reason: str) -> VerificationError:
    return VerificationError(
        f"source {source.name}: {reason}",
        code="dataset-short",
        hint="ask the source for a full delivery",
        evidence={"source": source.name},
    )


def _check_leak(terms: Contract, contents: Mapping[str, _Content]) -> None:
    if not terms.held_back:
        return
    held_back = contents[terms.held_back].marks
    for source in terms.sources:
        for name in source.files:
            seen = len(held_back & contents[name].marks)
            if seen:
                raise VerificationError(
                    f"{name}: {seen:,} of its rows are held back for the test in {terms.held_back}",
                    code="dataset-leak",
                    hint="a test on rows that were learned says nothing; take them out of one of the two",
                    evidence={"file": name, "source": source.name, "rows": seen},
                )
