# SPDX-License-Identifier: Apache-2.0
"""What a step takes and what it leaves, as types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from chopmark.artifacts import Digest
from chopmark.clock import Clock
from chopmark.statements import Statement

DEFAULT_TIMEOUT: Final = timedelta(hours=1)


class BuildType(StrEnum):
    """The steps; each has its own meaning of external parameters, and its own page in the docs."""

    TRAIN = "https://chopmark.dev/build/train/v1"
    CONVERT = "https://chopmark.dev/build/convert/v1"
    QUANTISE = "https://chopmark.dev/build/quantise/v1"
    PACKAGE = "https://chopmark.dev/build/package/v1"

    @property
    def short(self) -> str:
        return self.name.lower()


class Isolation(StrEnum):
    """Whether a command runs without network: it must, where possible, or not."""

    REQUIRED = "required"
    PREFERRED = "preferred"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Who runs the steps: a URI, and the version of each of its parts."""

    id: str
    version: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What all steps share.

    Attributes:
        new_id: returns an id that no other run has.
        path: where commands look for programs: the only thing taken over from the outer environment.
    """

    builder: Builder
    clock: Clock
    new_id: Callable[[], str]
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A file or folder that a command reads.

    Attributes:
        name: how the provenance calls it: ``data/digits``, ``model-fp32.onnx``.
        path: where it is now.
        digest: SHA-256 of the file; of the manifest, for a folder.
        place: where the command finds it, relative to the folder it runs in.
        withheld: files of a folder that the command must not see.
        uri: where others find it; "" leaves it out.
    """

    name: str
    path: Path
    digest: Digest
    place: str
    withheld: tuple[str, ...] = ()
    uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One run of a command.

    Attributes:
        model: the subject is ``model/<model>``.
        outputs: what it writes, relative to the folder it runs in; the first is the subject.
        former: for conversion and quantisation: the name of the input that the step before left.
        params_file: a JSON object among the committed files; "" for none.
        parameters: stand over those of *params_file*, which the command then reads so.
        environment: further variables; recorded.
    """

    model: str
    command: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs: tuple[Input, ...] = ()
    former: str = ""
    params_file: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: timedelta = DEFAULT_TIMEOUT
    isolation: Isolation = Isolation.PREFERRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A SLSA ResourceDescriptor with one digest: ``sha256`` or ``gitCommit``, lower-case hex."""

    name: str
    algorithm: str
    digest: str
    uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """SLSA provenance v1 of one of our steps.

    Attributes:
        log: digest of what the command printed; None where there was no command.
    """

    build_type: BuildType
    external: Mapping[str, object]
    internal: Mapping[str, object]
    dependencies: tuple[Dependency, ...]
    builder: Builder
    invocation: str
    started: datetime
    finished: datetime
    log: Digest | None = None

    def dependency(self, name: str) -> Dependency | None:
        """Return the dependency called *name*."""
        return next((dependency for dependency in self.dependencies if dependency.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a step left: a statement that is not signed yet, and files.

    Attributes:
        outputs: name as requested -> where it is now.
        digest: of the first output.
        isolated: the command ran without network.
    """

    statement: Statement
    provenance: Provenance
    outputs: Mapping[str, Path]
    digest: Digest
    log: Path
    isolated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Rows with known answers: whole numbers in, the number of the class out."""

    digest: Digest
    inputs: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]
