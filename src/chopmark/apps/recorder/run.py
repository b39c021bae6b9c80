# SPDX-License-Identifier: Apache-2.0
"""One run of a step: what it is told, what is seen of it, and the statement that is left when it ends well.

    (1) before the block: the key, the workspace and the code are looked at, so that what is wrong there stops nothing later
    (2) in the block: inputs are hashed when they are named; opens are noted
    (3) after it: a named input that changed refuses the statement (``input-altered``), as does a named output that is
        missing (``build-incomplete``)
    (4) what was seen is hashed; the statement is made, signed, and logged

Where the block raises, there is no statement, and its exception goes on untouched.
"""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from chopmark.apps.recorder.surroundings import NO_REPOSITORY, Caller, CodeReader, read_surroundings
from chopmark.apps.recorder.watch import Watch, current, stamp_of
from chopmark.apps.recorder.wiring import Desk
from chopmark.artifacts import Digest, check_file_name, read_file, write_file
from chopmark.builds import (
    BuildType,
    Code,
    Record,
    describe_argument,
    digest_of,
    is_code_name,
    is_data,
    is_secret_file,
    order_outputs,
    record_parameter,
    record_statement,
)
from chopmark.canonical import encode
from chopmark.errors import ChopmarkError, DecodeError, UsageError, VerificationError
from chopmark.statements import Envelope, Statement, encode_envelope, encode_statement

MAX_LISTED: Final = 1000
"""More files than this are not listed one by one: a folder has a digest of its own, once it is named."""
_MAX_KEY_BYTES: Final = 65_536
_MAX_ARGUMENTS_BYTES: Final = 32_768

_TOO_MANY: Final = "this folder holds too many files to watch: name them, run.input(path), run.output(path)"

_said: set[str] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    path: Path
    digest: Digest
    stamp: object


class Run:
    """A step that runs, or ran.

    Attributes:
        model: the statement's subject is ``model/<model>``.
        step: ``train``, ``convert`` or ``quantise``.
        hints: what was not seen, or could be better, for people.
        envelope: the signed statement; None while the run is open, and where nobody signed.
        entry: its index in the workspace's ledger, where it was logged.
    """

    def __init__(self, *, step: BuildType, model: str, folder: Path, desk: Desk, caller: Caller, watch: bool) -> None:
        self.model = model
        self.step = step.short
        self.hints: list[str] = []
        self.envelope: Envelope | None = None
        self.entry: int | None = None
        self._step = step
        self._folder = folder
        self._desk = desk
        self._reader = CodeReader(caller, folder, desk.source)
        self._parameters: dict[str, object] = {}
        self._redacted: list[str] = []
        self._inputs: dict[str, _Named] = {}
        self._outputs: dict[str, Path] = {}
        self._statement: Statement | None = None
        self._shown: dict[str, tuple[str, ...]] = {}
        self._state = "new"
        self._process = os.getpid()
        self._watch = Watch(folder=folder) if watch else None
        self._code = Code(entry=caller.entry)
        self._started: datetime = desk.clock.now()

    # What a step says about itself

    def param(self, **params: object) -> None:
        """Record *params*: numbers, texts, lists, and objects of them. What has a secret's name or shape is redacted.

        Raises:
            UsageError: a value cannot be recorded; or the run has ended.
        """
        self._check_open()
        for name, value in params.items():
            plain, hidden = record_parameter(name, value, base=str(self._folder))
            self._parameters[name] = plain
            self._redacted += hidden

    @property
    def params(self) -> Mapping[str, object]:
        """What was recorded so far, as it stands in the statement."""
        return dict(self._parameters)

    def input(self, path: str | Path, name: str | None = None) -> Path:
        """Record the file or folder at *path*, as it is now, and return its path.

        Args:
            name: how the statement calls it; default: its name below the run's folder, or its last part elsewhere.

        Raises:
            UsageError: it is missing, a link, or taken for a secret; another input has its name; the run has ended.
        """
        self._check_open()
        found, known = Path(path), self._name(Path(path), name)
        _refuse_secret(found, known)
        if is_code_name(known) or known in self._inputs:
            raise UsageError(f"{known}: is taken already", hint="give the input a name: run.input(path, name=…)")
        stamp = stamp_of(found)
        self._inputs[known] = _Named(path=found.absolute(), digest=digest_of(found), stamp=stamp)
        return found

    def output(self, path: str | Path) -> Path:
        """Record what will be at *path* when the run ends, and return its path. The first is the model.

        Raises:
            UsageError: it is taken for a secret, or another output has its name; the run has ended.
        """
        self._check_open()
        known = self._name(Path(path), None)
        if is_secret_file(known):
            raise UsageError(f"{known}: is taken for a secret, and those are not recorded", hint="give it another name")
        if self._outputs.setdefault(known, Path(path).absolute()) != Path(path).absolute():
            raise UsageError(f"{known}: two outputs have one name", hint="write them to one folder")
        return Path(path)

    # What is left

    @property
    def is_open(self) -> bool:
        """Whether the block is running."""
        return self._state == "open"

    @property
    def statement(self) -> Statement:
        """The SLSA provenance.

        Raises:
            UsageError: there is none: the run is open, it failed, or it left nothing.
        """
        if self._statement is None:
            why = {"new": "has not begun", "open": "is still running", "failed": "failed"}
            reason = why.get(self._state, "left nothing that was seen")
            raise UsageError(f"the run {reason}: there is no statement", hint="name what it leaves: run.output(path)")
        return self._statement

    def save(self, path: str | Path) -> Path:
        """Write the envelope to *path*, or the bare statement where nobody signed it.

        Raises:
            UsageError: there is no statement.
            UndecidedError: it cannot be written.
        """
        statement = self.statement
        data = encode_envelope(self.envelope) if self.envelope is not None else encode_statement(statement)
        write_file(Path(path), data)
        return Path(path)

    def __repr__(self) -> str:
        said = "; ".join(f"{name} {value}" for name, value in self._rows())
        return f"<Run {said}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows of the run; everything in it is escaped."""
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in self._rows()
        )
        hints = "".join(f"<li>{html.escape(hint)}</li>" for hint in self.hints)
        return f"<table>{rows}</table>" + (f"<ul>{hints}</ul>" if hints else "")

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("step", self.step), ("model", self.model)]
        if self._statement is None:
            return [*rows, ("state", self._state)]
        signed = "unsigned" if self.envelope is None else ", ".join(s.keyid[:8] + "…" for s in self.envelope.signatures)
        rows += [
            (what, f"{', '.join(names[:5])}{' …' * (len(names) > 5)}" or "none") for what, names in self._shown.items()
        ]
        rows += [("digest", str(self._statement.subject.digest)), ("signed", signed)]
        return rows if self.entry is None else [*rows, ("entry", str(self.entry))]

    # How it begins and ends; called by what opens it

    def begin(self) -> None:
        """Look at the code, and begin to watch."""
        self._code = self._reader.before()
        if self._code.problem == NO_REPOSITORY:
            self._hint(f"{NO_REPOSITORY}: the statement names no commit; git init, git add and git commit mend that")
        if self._desk.unsigned:
            self._hint(f"the statement stays unsigned: {self._desk.unsigned}")
        if self._watch is not None:
            self._watch.start()
            current.set(self._watch)
            if self._watch.before is None:
                self._hint(_TOO_MANY)
        self._state = "open"

    def argument(self, name: str, value: object) -> None:
        """Record an argument of the function that is the step; what cannot be recorded, by its type."""
        plain, hidden = describe_argument(name, value, base=str(self._folder))
        if len(encode([*self._parameters.values(), plain])) > _MAX_ARGUMENTS_BYTES:
            plain, hidden = f"<{type(value).__qualname__}>", ()
        self._parameters[name] = plain
        self._redacted += hidden

    def fail(self) -> None:
        """End the run without a statement."""
        self._leave("failed")

    def end(self) -> None:
        """End the run that went well: make its statement, sign and log it.

        Raises:
            VerificationError: ``input-altered``, ``build-incomplete``.
            UsageError: what was recorded makes no statement.
            UndecidedError: the ledger cannot be written now. The statement is kept.
        """
        if os.getpid() != self._process:
            return  # a child that was forked inside the block; the run is its parent's
        self._leave("failed")
        record = self._record(self._desk.clock.now())
        self._state = "done"
        if not record.outputs:
            self._hint(
                "nothing was written here, so there is no statement: name what the step leaves, run.output(path)"
            )
            return
        self._statement = record_statement(record, builder=self._desk.builder, invocation=self._desk.new_id())
        self._shown = {"inputs": tuple(record.inputs), "outputs": tuple(record.outputs)}
        self.envelope = self._desk.sign(self._statement)
        if self.envelope is not None and self._desk.log is not None:
            self.entry = self._desk.log(self.envelope)

    def _leave(self, state: str) -> None:
        self._state = state
        if self._watch is not None:
            self._watch.stop()

    def _record(self, finished: datetime) -> Record:
        for name, named in self._inputs.items():
            if stamp_of(named.path) != named.stamp:
                raise VerificationError(
                    f"{name}: changed after it was named as an input",
                    code="input-altered",
                    hint="write to another file, or name it as an output only",
                    evidence={"input": name, "expected": str(named.digest)},
                )
        outputs = {name: self._made(name, path) for name, path in self._outputs.items()}
        read, written, lost = self._watch.touched() if self._watch is not None else ((), (), ())
        if self._watch is not None and self._watch.before is None and _TOO_MANY not in self.hints:
            self._hint(_TOO_MANY)
        read, written = self._unnamed(read), self._unnamed(written)
        seen_in, lost_in = self._digests(read, "read")
        seen_out, lost_out = self._digests(written, "written")
        if not (seen_in or self._inputs):
            self._hint("no input was seen: name what native code reads, or what lies elsewhere: run.input(path)")
        if self._watch is not None and self._watch.shared:
            self._hint("another run was open in this process: what native code wrote was not looked for")
        inputs = {name: named.digest for name, named in self._inputs.items()} | seen_in
        outputs |= seen_out
        first = next(iter(self._outputs), "")
        return Record(
            step=self._step,
            model=self.model,
            code=self._final_code({*inputs, *outputs}),
            surroundings=read_surroundings(),
            started=self._started,
            finished=finished,
            parameters=self._parameters,
            inputs=inputs,
            outputs={name: outputs[name] for name in order_outputs(outputs, first=first)},
            first=first,
            redacted=self._redacted,
            rewritten=[name for name in self._unnamed(lost) if is_data(name) and _is_name(name)],
            left_out=lost_in + lost_out,
        )

    def _made(self, name: str, path: Path) -> Digest:
        if not path.exists():
            raise VerificationError(
                f"{name}: was to be written, and is not there",
                code="build-incomplete",
                hint="write it inside the block",
                evidence={"missing": [name]},
            )
        _refuse_secret(path, name)
        return digest_of(path)

    def _unnamed(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of *names* that lie in nothing that was named."""
        named = [entry.path for entry in self._inputs.values()] + list(self._outputs.values())
        # Both ends without links, as the watch names what it saw.
        real = [Path(os.path.realpath(path)) for path in named]
        return tuple(name for name in names if not any((self._folder / name).is_relative_to(path) for path in real))

    def _digests(self, names: tuple[str, ...], what: str) -> tuple[dict[str, Digest], int]:
        """Return the digests of files that were seen, and how many are left out."""
        data = [name for name in names if is_data(name)]
        lost = sum(is_secret_file(name) for name in names)
        if len(data) > MAX_LISTED:
            call = "input" if what == "read" else "output"
            self._hint(f"{len(data):,} files were {what}, and are not listed: name their folder, run.{call}(path)")
            return {}, lost + len(data)
        found: dict[str, Digest] = {}
        for name in data:
            with suppress(ChopmarkError, OSError):  # still written to, gone, a name that none should have
                check_file_name(name)
                if not _is_key(self._folder / name) and not is_code_name(name):
                    found[name] = digest_of(self._folder / name)
        return found, lost + len(data) - len(found)

    def _final_code(self, named: set[str]) -> Code:
        """Return the code, without the changes that are this run's own data."""
        code, top = self._reader.after(self._code), self._reader.top
        if top is not None:
            data = [(self._folder / name) for name in named if is_data(name)]
            code = code.without([path.relative_to(top).as_posix() for path in data if path.is_relative_to(top)])
        if code.commit and not code.is_commit:
            files = ", ".join(list(code.changes)[:3]) + (" …" if len(code.changes) > 3 else "")
            problem = code.problem or f"not committed: {files}; commit it, or list what is no code in .gitignore"
            self._hint(f"the commit does not say what ran, and rules that ask for one will refuse it: {problem}")
            code = replace(code, problem=code.problem or "files differ from the commit")
        return code

    def _name(self, path: Path, name: str | None) -> str:
        if name is None:
            real = Path(os.path.abspath(path))  # noqa: PTH100 - a link is refused later, and named as it was called
            inside = real.is_relative_to(self._folder) and real != self._folder
            name = real.relative_to(self._folder).as_posix() if inside else real.name
        try:
            check_file_name(name)
        except DecodeError as error:
            raise UsageError(error.message, hint=error.hint) from error
        return name

    def _check_open(self) -> None:
        if not self.is_open:
            raise UsageError("the run is not open", hint="call it inside the block")

    def _hint(self, text: str) -> None:
        self.hints.append(text)
        if text not in _said and sys.stderr is not None:
            _said.add(text)
            with suppress(OSError, ValueError):  # a stream that nobody reads, or that is closed
                sys.stderr.write(f"chopmark: {text}\n")


def _is_name(name: str) -> bool:
    try:
        check_file_name(name)
    except DecodeError:
        return False
    return True


def _refuse_secret(path: Path, name: str) -> None:
    if is_secret_file(name) or is_secret_file(path.name) or _is_key(path):
        raise UsageError(
            f"{name}: is taken for a secret, and not even the digest of one is recorded",
            hint="a short secret can be guessed from its digest; name data only",
        )


def _is_key(path: Path) -> bool:
    """Tell whether a file holds a private key, whatever it is called."""
    if not path.is_file() or path.stat().st_size > _MAX_KEY_BYTES:
        return False
    return b"PRIVATE KEY-----" in read_file(path, max_bytes=2 * _MAX_KEY_BYTES)


Opener = Callable[[Caller], Run]
"""Makes the run that a block or a call is."""
