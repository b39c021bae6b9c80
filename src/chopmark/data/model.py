# SPDX-License-Identifier: Apache-2.0
"""Contract and dataset as types. File names are relative: in a contract to its own folder, in a dataset to the dataset's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from chopmark.artifacts import Digest, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of whole numbers; *minimum* and *maximum* are allowed values."""

    name: str
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One deliverer of rows: what it delivers is counted, screened and, if it must be, taken back as one."""

    name: str
    files: tuple[str, ...]
    minimum_rows: int = 1
    minimum_rows_per_label: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What a file must be."""

    sha256: Digest
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What schema.toml says.

    Attributes:
        columns: in the order of the files; *label* is one of them.
        held_back: the file that nothing learns from; "" when there is none.
        files: glob of further files that may stand beside sources and held-back file; "" allows none.
        pins: file name -> what it must be.
        digest: of the bytes that were read.
    """

    name: str
    version: int
    columns: tuple[Column, ...]
    label: str
    sources: tuple[Source, ...]
    held_back: str
    files: str
    pins: Mapping[str, Pin]
    digest: Digest

    @property
    def learned(self) -> tuple[str, ...]:
        """The files of all sources."""
        return tuple(name for source in self.sources for name in source.files)

    def knows(self, name: str) -> bool:
        """Tell whether a file called *name* may be part of the dataset."""
        named = name in self.learned or name == self.held_back
        return named or fnmatchcase(name, self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a registered dataset."""

    name: str
    sha256: Digest
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Files that are what their contract says. Made by ``register`` alone.

    Attributes:
        manifest: of the whole folder; its digest is the dataset's.
        rows: of all sources together; the held-back file is not counted.
        sources: name of a source -> its files.
        held_back: the file that nothing learns from, or None.
        others: further files; nothing is learned from them either.
        label_counts: label -> rows, over all sources.
    """

    name: str
    version: int
    manifest: Manifest
    contract: Digest
    columns: tuple[Column, ...]
    label: str
    rows: int
    sources: Mapping[str, tuple[File, ...]]
    held_back: File | None
    others: tuple[File, ...] = ()
    label_counts: Mapping[int, int] = field(default_factory=dict)

    @property
    def digest(self) -> Digest:
        return self.manifest.digest

    @property
    def withheld(self) -> tuple[str, ...]:
        """Names of the files that a training must not see."""
        held_back = () if self.held_back is None else (self.held_back,)
        return tuple(file.name for file in (*held_back, *self.others))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of one file, checked: *inputs* without the label column, in the order of the columns."""

    digest: Digest
    inputs: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]
