# SPDX-License-Identifier: Apache-2.0
"""The provenance of a step that ran inside somebody's own process: a notebook's cell, a function, a script. Pure.

It has the shape and the build type of the step that :mod:`chopmark.builds.run` runs, so policies and ``trace`` read both
alike. What it cannot say, it does not say:

    (1) the dependency ``code`` names a commit only where the running file is part of that commit and nothing differs
        from it; else the commit stands under ``internalParameters.code``, where no rule takes it for the code
    (2) ``internalParameters.recorder`` is ``in-process``: nothing kept the step from its network and other files
    (3) a file that was read and then written, or removed, is no input: what was read is gone
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.builds.model import Builder, BuildType, Dependency, Provenance
from chopmark.builds.run import CODE
from chopmark.builds.wire import MAX_PARAMETER_BYTES, provenance_statement
from chopmark.errors import DecodeError, UsageError
from chopmark.statements import Statement, Subject, decode_statement, encode_statement

RECORDER: Final = "in-process"
RECORDED_STEPS: Final = (BuildType.TRAIN, BuildType.CONVERT, BuildType.QUANTISE)
MAX_NAMED: Final = 100
"""How many changed files a statement names; all are in the digest."""

_MODELS: Final = frozenset(
    {".onnx", ".safetensors", ".gguf", ".tflite", ".npz", ".pt", ".ckpt", ".h5", ".keras", ".joblib", ".pkl", ".bin"}
    | {".model", ".ubj", ".cbm", ".mlmodel", ".engine"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What is known of the code that ran.

    Attributes:
        entry: the function, or the file, or ``cell``.
        prefix: the folder inside the repository.
        commit: what is checked out; "" where there is no repository.
        committed: the running file is in the commit, as it is.
        changes: files and loaded modules that differ from the commit -> their digest, or None: removed, or too large.
        parts: code that is named by its content: ``code:train.py``, ``code:cell``.
        problem: why no commit is named, for people.
    """

    entry: str
    commit: str = ""
    uri: str = ""
    prefix: str = ""
    committed: bool = False
    changes: Mapping[str, Digest | None] = field(default_factory=dict)
    parts: Mapping[str, Digest] = field(default_factory=dict)
    problem: str = ""

    def changed(self, changes: Mapping[str, Digest | None]) -> Code:
        """Return this with further *changes*."""
        return replace(self, changes={**self.changes, **changes})

    def without(self, names: Sequence[str]) -> Code:
        """Return this without the changes called *names*: data that the statement names by itself."""
        gone = set(names)
        return replace(self, changes={name: digest for name, digest in self.changes.items() if name not in gone})

    @property
    def is_commit(self) -> bool:
        """Whether the commit says all about the code."""
        return bool(self.commit) and self.committed and not self.changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where the step ran.

    Attributes:
        packages: distributions whose modules were loaded -> version.
    """

    python: str
    platform: str
    packages: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run of a step.

    Attributes:
        parameters: as :func:`chopmark.builds.record_parameter` returned them.
        inputs, outputs: name -> digest; of several outputs, the model is the first that has a model's suffix.
        first: name of the output that is the model, where somebody said so.
        redacted: names of parameters.
        rewritten: files that were read, and then written or removed.
        left_out: how many files were touched and not recorded: keys, odd names, or too many.
    """

    step: BuildType
    model: str
    code: Code
    surroundings: Surroundings
    started: datetime
    finished: datetime
    parameters: Mapping[str, object] = field(default_factory=dict)
    inputs: Mapping[str, Digest] = field(default_factory=dict)
    outputs: Mapping[str, Digest] = field(default_factory=dict)
    first: str = ""
    redacted: Sequence[str] = ()
    rewritten: Sequence[str] = ()
    left_out: int = 0


def recorded_step(name: str) -> BuildType:
    """Return the step called *name*.

    Raises:
        UsageError: it is none that can be recorded.
    """
    for step in RECORDED_STEPS:
        if step.short == name:
            return step
    known = ", ".join(step.short for step in RECORDED_STEPS)
    raise UsageError(f"{str(name)[:80]!r}: is no step that can be recorded", hint=f"one of {known}")


def model_name(folder: str) -> str:
    """Return the name of the model of a folder that is called *folder*: what is no part of a name becomes a dash."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in folder.lower())
    kept = kept.lstrip("._-")[:63]
    return "model" if not kept or kept.startswith("x-") else kept


def record_statement(record: Record, *, builder: Builder, invocation: str) -> Statement:
    """Return what the builder signs.

    Raises:
        UsageError: no output, parameters that are too long, an input that has the name of the code, or more in all than a
            statement holds.
    """
    canonical.check_name(record.model, what="model")
    if not record.outputs:
        raise UsageError("the step left nothing, and a statement is about what it left", hint="run.output(path)")
    size = len(canonical.encode(record.parameters))
    if size > MAX_PARAMETER_BYTES:
        raise UsageError(f"parameters: {size:,} bytes, more than the {MAX_PARAMETER_BYTES:,} allowed")
    taken = sorted(name for name in record.inputs if is_code_name(name))
    if taken:
        raise UsageError(f"{taken[0]}: is how the provenance calls the code; give the input another name")
    outputs = order_outputs(record.outputs, first=record.first)
    provenance = Provenance(
        build_type=record.step,
        external={
            "entry": record.code.entry,
            "folder": record.code.prefix,
            "outputs": list(outputs),
            "parameters": record.parameters,
        },
        internal=_internal(record),
        dependencies=(
            *_code(record.code),
            *(Dependency(name=n, algorithm="sha256", digest=d.hex) for n, d in sorted(record.inputs.items())),
        ),
        builder=builder,
        invocation=invocation,
        started=record.started,
        finished=record.finished,
    )
    first, *others = outputs
    name = f"model/{record.model}"
    subjects = (
        Subject(name, record.outputs[first]),
        *(Subject(f"{name}/{other}", record.outputs[other]) for other in others),
    )
    statement = provenance_statement(subjects, provenance)
    try:
        decode_statement(encode_statement(statement))  # whoever verifies it reads it strictly, and with a limit
    except DecodeError as error:
        raise UsageError(
            f"the record makes no statement: {error.message}", hint="name the folder of many files, and not each"
        ) from error
    return statement


def order_outputs(names: Mapping[str, object], *, first: str = "") -> tuple[str, ...]:
    """Return output names with the model in front: the one that somebody named, else the first with a model's suffix."""
    return tuple(sorted(names, key=lambda name: (name != first, PurePosixPath(name).suffix.lower() not in _MODELS)))


def is_code_name(name: str) -> bool:
    """Tell whether *name* is kept for the code among the dependencies."""
    return name == CODE or name.startswith(f"{CODE}:")


def _code(code: Code) -> tuple[Dependency, ...]:
    if code.is_commit:
        return (Dependency(name=CODE, uri=code.uri, algorithm="gitCommit", digest=code.commit),)
    return tuple(Dependency(name=n, algorithm="sha256", digest=d.hex) for n, d in sorted(code.parts.items()))


def _internal(record: Record) -> dict[str, object]:
    internal: dict[str, object] = {
        "recorder": RECORDER,
        "network": "open",
        "python": record.surroundings.python,
        "platform": record.surroundings.platform,
        "packages": dict(sorted(record.surroundings.packages.items())),
    }
    if not record.code.is_commit:
        internal["code"] = _uncommitted(record.code)
    if record.redacted:
        internal["redacted"] = sorted(set(record.redacted))
    if record.rewritten:
        internal["rewritten"] = sorted(record.rewritten)
    if record.left_out:
        internal["leftOut"] = record.left_out
    return internal


def _uncommitted(code: Code) -> dict[str, object]:
    """Return what is known of code that no commit stands for."""
    if not code.commit:
        return {"problem": code.problem}
    said: dict[str, object] = {"commit": code.commit, "uri": code.uri, "problem": code.problem or "differs"}
    if code.changes:
        digests = {name: str(digest) if digest else None for name, digest in sorted(code.changes.items())}
        said["changed"] = list(digests)[:MAX_NAMED]
        said["changes"] = str(Digest.of(canonical.encode(digests)))
    return said
