# SPDX-License-Identifier: Apache-2.0
"""Run a command as committed code and record what went in and what came out.

    (1) the tree is clean, so its commit says what runs        UsageError  tree-dirty
    (2) that commit, and nothing else, is written to a new folder
    (3) the inputs are copied there and are what was registered            input-altered
    (4) parameters, and an environment that holds what is recorded
    (5) the command runs, without network where possible, and ends well    build-failed
    (6) it did not change its inputs                                       input-altered
    (7) its outputs are collected: all, or none                            build-incomplete

Not decided here: whether the code is good, or whether the builder tells the truth. Without network means an own network
namespace: sockets in the file system stay reachable. The builder's word is what the signature of its role is worth.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chopmark import canonical
from chopmark.artifacts import Digest, read_file, write_file
from chopmark.builds.model import BuildRequest, BuildType, Built, Dependency, Isolation, Provenance, Workshop
from chopmark.builds.place import check_absent, check_inputs, collect, inside, place_inputs
from chopmark.builds.ports import Completed, Runner, SourceTree
from chopmark.builds.wire import MAX_PARAMETER_BYTES, base_name, decode_parameters, provenance_statement, recorded
from chopmark.errors import UndecidedError, UsageError, VerificationError
from chopmark.statements import Subject

PARAMETERS_VARIABLE = "CHOPMARK_PARAMETERS"
"""Names the file with the parameters, for commands that have no file of their own for them."""

FIXED_ENVIRONMENT: Mapping[str, str] = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "SOURCE_DATE_EPOCH": "315532800",  # 1980-01-01, the earliest time that a ZIP file can hold
}
_TAIL_LINES = 20
_TAIL_CHARS = 4_000
CODE = "code"


def train(request: BuildRequest, *, workshop: Workshop, source: SourceTree, runner: Runner, out: Path) -> Built:
    """Train: the first output is the weights, the subject ``model/<name>``.

    Raises:
        UsageError: ``tree-dirty``, no input, no output, no such program.
        VerificationError: ``input-altered``, ``build-failed``, ``build-incomplete``.
        UndecidedError: no network isolation here, and it is required.
    """
    if not request.inputs:
        raise UsageError(
            "a training has a dataset", hint="run it where data/ is, or name the registered dataset: --data DIR"
        )
    return _build(BuildType.TRAIN, request, workshop=workshop, source=source, runner=runner, out=out)


def convert(request: BuildRequest, *, workshop: Workshop, source: SourceTree, runner: Runner, out: Path) -> Built:
    """Convert what the training left; ``request.former`` names it. Raises as :func:`train`."""
    _check_former(request)
    return _build(BuildType.CONVERT, request, workshop=workshop, source=source, runner=runner, out=out)


def quantise(request: BuildRequest, *, workshop: Workshop, source: SourceTree, runner: Runner, out: Path) -> Built:
    """Quantise what the conversion left; ``request.former`` names it. Raises as :func:`train`."""
    _check_former(request)
    return _build(BuildType.QUANTISE, request, workshop=workshop, source=source, runner=runner, out=out)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """Folders of one run; *code* holds the commit, the command runs in *here*."""

    code: Path
    here: Path
    home: Path
    temporary: Path
    parameters: Path


def _build(
    build_type: BuildType,
    request: BuildRequest,
    *,
    workshop: Workshop,
    source: SourceTree,
    runner: Runner,
    out: Path,
) -> Built:
    canonical.check_name(request.model, what="model")
    if not request.outputs or not request.command:
        raise UsageError("a step has a command, and an output", hint="name what it writes: --output weights.npz")
    if CODE in {entry.name for entry in request.inputs}:
        raise UsageError(f"{CODE}: is how the provenance calls the commit; give the input another name")
    commit = _clean_commit(source)
    if request.isolation is Isolation.REQUIRED and not runner.can_isolate:
        raise UndecidedError(
            "commands cannot run without network on this machine",
            code="not-isolated",
            hint="allow user namespaces on this machine",
        )
    with tempfile.TemporaryDirectory(prefix="chopmark-build-") as temporary:
        room = _furnish(Path(temporary), source, commit)
        seen = place_inputs(request.inputs, room.here)
        parameters = _write_parameters(request, room)
        check_absent(request.outputs, room.here)
        started = workshop.clock.now()
        completed = _run(request, room, _environment(request, room, workshop), runner)
        finished = workshop.clock.now()
        _check_success(build_type, completed)
        check_inputs(request.inputs, room.here, seen)
        collected = collect(request.outputs, room.here, out)
    log = out / f"{build_type.short}.log"
    write_file(log, completed.log)
    provenance = _provenance(
        build_type,
        request,
        completed,
        commit=commit,
        parameters=parameters,
        times=(started, finished),
        source=source,
        workshop=workshop,
    )
    subjects = _subjects(request, {name: digest for name, (_, digest) in collected.items()})
    return Built(
        statement=provenance_statement(subjects, provenance),
        provenance=provenance,
        outputs={name: path for name, (path, _) in collected.items()},
        digest=subjects[0].digest,
        log=log,
        isolated=completed.isolated,
    )


def _provenance(
    build_type: BuildType,
    request: BuildRequest,
    completed: Completed,
    *,
    commit: str,
    parameters: object,
    times: tuple[datetime, datetime],
    source: SourceTree,
    workshop: Workshop,
) -> Provenance:
    code = Dependency(name=CODE, uri=source.uri, algorithm="gitCommit", digest=commit)
    return Provenance(
        build_type=build_type,
        external={
            "command": list(request.command),
            "folder": source.prefix,
            "outputs": list(request.outputs),
            "parameters": parameters,
        },
        internal={
            "environment": {**FIXED_ENVIRONMENT, **request.environment},
            "network": "none" if completed.isolated else "open",
            "timeout_s": int(request.timeout.total_seconds()),
            "withheld": {entry.name: list(entry.withheld) for entry in request.inputs if entry.withheld},
        },
        dependencies=(
            code,
            *(Dependency(name=i.name, uri=i.uri, algorithm="sha256", digest=i.digest.hex) for i in request.inputs),
        ),
        builder=workshop.builder,
        invocation=workshop.new_id(),
        started=times[0],
        finished=times[1],
        log=Digest.of(completed.log),
    )


def _check_former(request: BuildRequest) -> None:
    if request.former not in {entry.name for entry in request.inputs}:
        raise UsageError(
            f"{request.former or 'nothing'}: is not an input that a step before left",
            hint="name the step's input and its digest",
        )


def _clean_commit(source: SourceTree) -> str:
    changes = source.changes()
    if changes:
        named = ", ".join(changes[:3]) + (f" and {len(changes) - 3:,} more" if len(changes) > 3 else "")
        raise UsageError(
            f"the tree is dirty: {named}",
            code="tree-dirty",
            hint="commit first, or list what is no code in .gitignore",
            evidence={"files": list(changes[:100])},
        )
    return source.commit()


def _furnish(base: Path, source: SourceTree, commit: str) -> _Room:
    code = base / "code"
    room = _Room(
        code=code,
        here=inside(code, source.prefix) if source.prefix else code,
        home=base / "home",
        temporary=base / "tmp",
        parameters=base / "parameters.json",
    )
    for folder in (code, room.home, room.temporary):
        folder.mkdir()
    source.export(commit, code)
    if not room.here.is_dir():
        raise UsageError(f"{source.prefix}: nothing in this folder was committed", hint="commit first")
    return room


def _write_parameters(request: BuildRequest, room: _Room) -> object:
    """Put the parameters where the command reads them; return them as they are recorded."""
    parameters: dict[str, object] = {}
    if request.params_file:
        file = inside(room.here, request.params_file)
        parameters = decode_parameters(read_file(file, max_bytes=MAX_PARAMETER_BYTES))
    parameters.update(request.parameters)
    record = recorded(parameters)
    text = json.dumps(parameters, indent=2, allow_nan=False).encode() + b"\n"
    room.parameters.write_bytes(text)
    if request.params_file and request.parameters:
        file.write_bytes(text)
    return record


def _environment(request: BuildRequest, room: _Room, workshop: Workshop) -> dict[str, str]:
    """Return all that the command sees. What names places of this machine is not recorded, and cannot be requested."""
    own = {
        "PATH": workshop.path,
        "HOME": str(room.home),
        "TMPDIR": str(room.temporary),
        PARAMETERS_VARIABLE: str(room.parameters),
    }
    taken = sorted(set(own) & set(request.environment))
    if taken:
        raise UsageError(f"{', '.join(taken)}: set for every command, and not by a request")
    return {**FIXED_ENVIRONMENT, **request.environment, **own}


def _run(request: BuildRequest, room: _Room, environment: Mapping[str, str], runner: Runner) -> Completed:
    program = request.command[0]
    own = "/" in program and (room.here / program).is_file()
    if not own and shutil.which(program, path=environment["PATH"]) is None:
        raise UsageError(f"{program}: no such program", hint="name one that is on the PATH, or committed")
    return runner.run(
        request.command,
        cwd=room.here,
        env=environment,
        timeout=request.timeout,
        isolated=request.isolation is not Isolation.OFF,
    )


def _check_success(build_type: BuildType, completed: Completed) -> None:
    if completed.exit_code == 0 and not completed.timed_out:
        return
    end = "its time was up" if completed.timed_out else f"exit code {completed.exit_code}"
    lines = completed.log[-_TAIL_CHARS:].decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
    # What a command prints goes to a terminal here: no control characters.
    tail = "\n".join("".join(c if c.isprintable() or c == "\t" else "?" for c in line) for line in lines)
    raise VerificationError(
        f"{build_type.short}: the command failed, {end}\n{tail}".rstrip(),
        code="build-failed",
        hint="it runs in a clean checkout, with its declared inputs only and without network",
        evidence={"exit_code": completed.exit_code, "timed_out": completed.timed_out, "log": tail},
    )


def _subjects(request: BuildRequest, digests: Mapping[str, Digest]) -> tuple[Subject, ...]:
    first, *others = request.outputs
    name = f"model/{request.model}"
    return (
        Subject(name, digests[first]),
        *(Subject(f"{name}/{base_name(other)}", digests[other]) for other in others),
    )
