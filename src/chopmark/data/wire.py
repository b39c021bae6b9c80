# SPDX-License-Identifier: Apache-2.0
"""schema.toml and the dataset predicate: bytes <-> model, strictly."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

from chopmark import canonical
from chopmark.artifacts import Digest, check_file_name
from chopmark.data.model import Column, Contract, Dataset, File, Pin, Source
from chopmark.errors import DecodeError, UsageError
from chopmark.statements import PredicateType, Statement, Subject

MAX_CONTRACT_BYTES = 1024 * 1024
MAX_COLUMNS = 10_000
MAX_SOURCES = 1_000
MAX_LABELS = 1_000
DEFAULT_LABEL = "label"

_COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")


class _Head(canonical.Strict, frozen=True, kw_only=True):
    name: str
    version: int
    label: str = DEFAULT_LABEL
    held_back: str = ""
    files: str = ""


class _Column(canonical.Strict, frozen=True, kw_only=True):
    type: str
    minimum: int
    maximum: int
    name: str = ""
    prefix: str = ""
    count: int = 0


class _Source(canonical.Strict, frozen=True, kw_only=True):
    name: str
    file: str = ""
    files: list[str] = []
    minimum_rows: int = 1
    minimum_rows_per_label: int = 0


class _Pin(canonical.Strict, frozen=True, kw_only=True):
    sha256: str
    rows: int


class _Contract(canonical.Strict, frozen=True, kw_only=True):
    dataset: _Head
    columns: list[_Column]
    sources: list[_Source]
    pins: dict[str, _Pin] = {}


def decode_contract(data: bytes) -> Contract:
    """Read a ``schema.toml``.

    Raises:
        DecodeError: not TOML, an unknown member, a bad name or bound, a name that stands twice, a file of two sources.
    """
    wire = canonical.convert(_toml(data), _Contract, what="contract")
    columns = _all_columns(wire)
    if not 0 < len(wire.sources) <= MAX_SOURCES:
        raise DecodeError(f"contract: {len(wire.sources):,} sources; 1 to {MAX_SOURCES:,} are allowed")
    sources = tuple(_source(entry) for entry in wire.sources)
    _distinct([source.name for source in sources], what="source")
    held_back = wire.dataset.held_back
    files = [name for source in sources for name in source.files] + ([held_back] if held_back else [])
    _distinct(files, what="file of a source, or held back,")
    for name in (*files, *wire.pins):
        check_file_name(name)
    return Contract(
        name=_name(wire.dataset.name, what="dataset"),
        version=_whole(wire.dataset.version, what="dataset.version", least=1),
        columns=columns,
        label=wire.dataset.label,
        sources=sources,
        held_back=held_back,
        files=wire.dataset.files,
        pins={name: _pin(name, entry) for name, entry in wire.pins.items()},
        digest=Digest.of(data),
    )


def _toml(data: bytes) -> Mapping[str, object]:
    if len(data) > MAX_CONTRACT_BYTES:
        raise DecodeError(f"contract: more than the {MAX_CONTRACT_BYTES:,} bytes allowed")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"contract: not TOML ({str(error)[:200]})") from error


def _all_columns(wire: _Contract) -> tuple[Column, ...]:
    if sum(max(entry.count, 1) for entry in wire.columns) > MAX_COLUMNS:
        raise DecodeError(f"contract: more than the {MAX_COLUMNS:,} columns allowed")
    columns = tuple(column for entry in wire.columns for column in _columns(entry))
    _distinct([column.name for column in columns], what="column")
    label = next((column for column in columns if column.name == wire.dataset.label), None)
    if label is None or len(columns) == 1:
        raise DecodeError(f"contract: no column {wire.dataset.label[:80]!r}, the label, or none beside it")
    if label.maximum - label.minimum >= MAX_LABELS:
        raise DecodeError(f"contract: the label may take more than {MAX_LABELS:,} values")
    return columns


def _columns(entry: _Column) -> list[Column]:
    """Return the one column, or the numbered run ``prefix00`` to ``prefix<count - 1>``, that an entry stands for."""
    if entry.type != "integer":
        raise DecodeError(f"contract: type {entry.type[:40]!r} is not known here; columns are of type 'integer'")
    if not -canonical.MAX_INTEGER <= entry.minimum <= entry.maximum <= canonical.MAX_INTEGER:
        raise DecodeError(f"contract: column {entry.name or entry.prefix}: minimum is above maximum, or beyond 2^53")
    if bool(entry.name) == bool(entry.prefix) or bool(entry.prefix) != bool(entry.count):
        raise DecodeError("contract: a column has either a name, or a prefix and a count")
    if entry.count < 0:
        raise DecodeError(f"contract: a count of {entry.count}")
    digits = len(str(entry.count - 1))
    names = [f"{entry.prefix}{n:0{digits}}" for n in range(entry.count)] if entry.prefix else [entry.name]
    for name in names:
        if not _COLUMN_NAME.fullmatch(name):
            raise DecodeError(f"contract: {name[:80]!r} cannot name a column")
    return [Column(name=name, minimum=entry.minimum, maximum=entry.maximum) for name in names]


def _source(entry: _Source) -> Source:
    if bool(entry.file) == bool(entry.files):
        raise DecodeError(f"contract: source {entry.name[:80]!r} has either a file, or a list of files")
    return Source(
        name=_name(entry.name, what="source"),
        files=(entry.file,) if entry.file else tuple(entry.files),
        minimum_rows=_whole(entry.minimum_rows, what="minimum_rows", least=1),
        minimum_rows_per_label=_whole(entry.minimum_rows_per_label, what="minimum_rows_per_label", least=0),
    )


def _pin(name: str, entry: _Pin) -> Pin:
    return Pin(sha256=Digest.from_hex(entry.sha256), rows=_whole(entry.rows, what=f"rows of {name}", least=1))


def _name(text: str, *, what: str) -> str:
    try:
        return canonical.check_name(text, what=what)
    except UsageError as error:
        raise DecodeError(f"contract: {error.message}", hint=error.hint) from error


def _whole(value: int, *, what: str, least: int) -> int:
    if not least <= value <= canonical.MAX_INTEGER:
        raise DecodeError(f"contract: {what} is {value}; it must be at least {least}")
    return value


def _distinct(names: list[str], *, what: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise DecodeError(f"contract: the {what} {twice[:80]!r} stands twice")


PINS_MARK = "# --- What every file must be. Written by `chopmark data register --pin`; nothing may follow. ---"


def with_pins(contract: bytes, pins: Mapping[str, Pin]) -> bytes:
    """Return the text of a contract with *pins* at its end, in place of those that stood below the mark."""
    text = contract.decode("utf-8").partition(PINS_MARK)[0].rstrip("\n")
    lines = [text, "", PINS_MARK]
    for name in sorted(pins):
        quoted = name.replace('"', '\\"')  # a file name holds neither backslash nor control character
        lines += ["", f'[pins."{quoted}"]', f'sha256 = "{pins[name].sha256.hex}"', f"rows = {pins[name].rows}"]
    return "\n".join([*lines, ""]).encode()


# --- the predicate --------------------------------------------------------------------------------------------------


class _File(canonical.Strict, frozen=True, kw_only=True):
    name: str
    sha256: str
    rows: int


class _DatasetSource(canonical.Strict, frozen=True, kw_only=True):
    name: str
    files: list[_File]


class _Dataset(canonical.Strict, frozen=True, kw_only=True):
    v: int
    version: int
    contract: str
    columns: int
    label: str
    rows: int
    labels: dict[str, int]
    sources: list[_DatasetSource]
    held_back: _File | None
    others: list[_File]


def dataset_statement(dataset: Dataset) -> Statement:
    """Return what the data owner signs: subject ``data/<name>`` with the digest of the manifest."""
    return Statement(
        subjects=(Subject(f"data/{dataset.name}", dataset.digest),),
        predicate_type=PredicateType.DATASET,
        predicate={
            "v": 1,
            "version": dataset.version,
            "contract": str(dataset.contract),
            "columns": len(dataset.columns),
            "label": dataset.label,
            "rows": dataset.rows,
            "labels": {str(label): count for label, count in sorted(dataset.label_counts.items())},
            "sources": [
                {"name": name, "files": [_file(file) for file in files]} for name, files in dataset.sources.items()
            ],
            "held_back": None if dataset.held_back is None else _file(dataset.held_back),
            "others": [_file(file) for file in dataset.others],
        },
    )


def decode_dataset(predicate: Mapping[str, object]) -> Mapping[str, tuple[File, ...]]:
    """Read a dataset predicate; return its sources. The held-back file stands under the name ``""``.

    Raises:
        DecodeError: not such a predicate.
    """
    wire = canonical.convert(dict(predicate), _Dataset, what="dataset predicate")
    if wire.v != 1:
        raise DecodeError(f"dataset predicate: version {wire.v} is not known here")
    Digest.parse(wire.contract)
    sources = {source.name: tuple(_read(file) for file in source.files) for source in wire.sources}
    if len(sources) != len(wire.sources) or "" in sources:
        raise DecodeError("dataset predicate: a source stands twice, or has no name")
    if wire.held_back is not None:
        sources[""] = (_read(wire.held_back),)
    return sources


def _file(file: File) -> dict[str, object]:
    return {"name": file.name, "sha256": file.sha256.hex, "rows": file.rows}


def _read(file: _File) -> File:
    check_file_name(file.name)
    return File(name=file.name, sha256=Digest.from_hex(file.sha256), rows=file.rows)
