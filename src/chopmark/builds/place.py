# SPDX-License-Identifier: Apache-2.0
"""Inputs into the folder where a command runs, outputs out of it: copied first, hashed then, so nothing slips between."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from chopmark.artifacts import Digest, check_file_name, file_names, hash_file, open_regular, scan
from chopmark.builds.model import Input
from chopmark.builds.wire import base_name
from chopmark.errors import UsageError, VerificationError


def digest_of(path: Path) -> Digest:
    """Return the SHA-256 of a file, or the digest of a folder's manifest.

    Raises:
        UsageError: neither, or a folder with links or special files in it.
    """
    return scan(path).digest if path.is_dir() and not path.is_symlink() else hash_file(path).sha256


def inside(base: Path, name: str) -> Path:
    """Return *name* below *base*, if no link on the way leads out of it.

    Raises:
        DecodeError: absolute, with ``..``, or otherwise no name of a file.
        UsageError: a link leads out.
    """
    check_file_name(name)
    target = base / name
    if not target.parent.resolve().is_relative_to(base.resolve()):
        raise UsageError(f"{name}: a link on the way leads out of the folder")
    return target


def copy(source: Path, target: Path) -> None:
    """Copy a regular file, or a folder of regular files.

    Raises:
        UsageError: *source* is missing, or holds a link or special file.
    """
    if source.is_dir() and not source.is_symlink():
        for name in sorted(file_names(source)):
            copy(source / name, target / name)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(open_regular(source), "rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, 1024 * 1024)
        shutil.copymode(source, target, follow_symlinks=False)


def remove(path: Path) -> None:
    """Remove a file, link or folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def place_inputs(inputs: Sequence[Input], folder: Path) -> dict[str, Digest]:
    """Copy every input to its place below *folder*; return the digest of what the command sees of each.

    Raises:
        VerificationError: ``input-altered``: the copy is not what was registered.
        UsageError: two inputs in one place, or a withheld file that is not there.
    """
    places = sorted((entry.place + "/", entry.name) for entry in inputs)
    for (first, name), (second, other) in pairwise(places):
        if second.startswith(first):
            raise UsageError(f"{name} and {other}: two inputs in one place ({first[:-1]})")
    if len({entry.name for entry in inputs}) != len(inputs):
        raise UsageError("two inputs have one name")
    return {entry.name: _place(entry, inside(folder, entry.place)) for entry in inputs}


def check_inputs(inputs: Sequence[Input], folder: Path, seen: dict[str, Digest]) -> None:
    """Check that every input still is what the command was given.

    Raises:
        VerificationError: ``input-altered``.
    """
    for entry in inputs:
        try:
            now = digest_of(inside(folder, entry.place))
        except UsageError as error:
            raise _altered(entry, f"cannot be read after the run: {error.message}") from error
        if now != seen[entry.name]:
            raise _altered(entry, "the command changed it while it ran")


def check_absent(outputs: Sequence[str], folder: Path) -> None:
    """Check that no output is there before the command runs: what is collected was written by it.

    Raises:
        UsageError: one is there, committed or as an input.
    """
    for name in outputs:
        if os.path.lexists(inside(folder, name)):
            raise UsageError(
                f"{name}: is there before the command runs, so it is no output of it",
                hint="take it out of the commit, or let the command write to another name",
            )


def collect(outputs: Sequence[str], folder: Path, into: Path) -> dict[str, tuple[Path, Digest]]:
    """Copy every output to *into*, each under its last name; all of them, or none.

    Raises:
        VerificationError: ``build-incomplete``: the command did not write it.
        UsageError: two outputs have one last name, or one is a second name of a file elsewhere.
    """
    if len({base_name(name) for name in outputs}) != len(outputs):
        raise UsageError("two outputs have one name")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".collecting-") as staging:
        collected = {}
        for name in outputs:
            written = inside(folder, name)
            if not written.exists():
                raise VerificationError(
                    f"{name}: the command succeeded and did not write this output",
                    code="build-incomplete",
                    hint="name the outputs that it writes, relative to the folder it runs in",
                )
            _check_alone(name, written)
            staged = Path(staging) / base_name(name)
            copy(written, staged)
            collected[name] = (into / staged.name, digest_of(staged))
        for target, _ in collected.values():
            remove(target)
            (Path(staging) / target.name).rename(target)
    return collected


def _check_alone(name: str, written: Path) -> None:
    """Refuse a hard link: its content can be another file's, which the command did not write."""
    files = (
        [written / inner for inner in file_names(written)]
        if written.is_dir() and not written.is_symlink()
        else [written]
    )
    if any(path.lstat().st_nlink > 1 for path in files):
        raise UsageError(
            f"{name}: is a hard link, so what it holds may be another file's",
            hint="let the command write a file of its own: `cp` in the place of `ln`",
        )


def _place(entry: Input, target: Path) -> Digest:
    remove(target)
    copy(entry.path, target)
    actual = digest_of(target)
    if actual != entry.digest:
        raise _altered(entry, f"is {actual.short}…, and was registered as {entry.digest.short}…", actual=actual)
    for name in entry.withheld:
        hidden = inside(target, name)
        if not hidden.is_file():
            raise UsageError(f"{entry.name}: {name} is to be withheld, and is not there")
        hidden.unlink()
    return digest_of(target) if entry.withheld else actual


def _altered(entry: Input, reason: str, *, actual: Digest | None = None) -> VerificationError:
    return VerificationError(
        f"input {entry.name}: {reason}",
        code="input-altered",
        hint="restore the input; if it changed on purpose, register it again",
        evidence={
            "input": entry.name,
            "expected": str(entry.digest),
            **({} if actual is None else {"actual": str(actual)}),
        },
    )
