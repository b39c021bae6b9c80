# SPDX-License-Identifier: Apache-2.0
"""Where a step runs: its code, its Python and the packages that were loaded. Environment variables are not looked at."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import FrameType
from typing import Final

from chopmark import canonical
from chopmark.artifacts import Digest, hash_file, read_file
from chopmark.builds import Code, SourceTree, Surroundings, is_room
from chopmark.errors import ChopmarkError

NO_REPOSITORY: Final = "not in a Git repository"
_MAX_HASHED: Final = 1000
_MAX_HASHED_BYTES: Final = 16 * 1024 * 1024
_PREFIX: Final = Path(sys.prefix).resolve()
_OWN: Final = ("chopmark.apps.recorder", "contextlib")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The code that opened a run.

    Attributes:
        entry: how the statement calls it.
        file: None where there is none: a cell, a prompt, ``python -c``.
    """

    entry: str
    file: Path | None


def calling() -> Caller:
    """Return the code that called into this package."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to a caller, and a cheap one
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(_OWN):
        frame = frame.f_back
    filename = frame.f_code.co_filename if frame is not None else ""
    file = _file(filename)
    return Caller(entry=_plain(file.name) if file else "cell" if cells() else "prompt", file=file)


def caller_of(function: Callable[..., object]) -> Caller:
    """Return *function* as the code that opens a run."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return Caller(entry=str(name).replace("<locals>.", ""), file=_file(code.co_filename) if code else None)


def _file(filename: str) -> Path | None:
    path = Path(filename)
    # A notebook's kernel gives cells names of files, some of which it writes: /tmp/ipykernel_71/2.py.
    cell = filename.startswith("<") or any(part.startswith("ipykernel_") for part in path.parts)
    return path.resolve() if filename and not cell and path.is_file() else None


def cells() -> tuple[str, ...]:
    """Return the source of the cells that ran in this notebook or IPython prompt, the running one last."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    ran = shell.user_ns.get("In") if shell is not None else None
    return tuple(text for text in ran if isinstance(text, str) and text) if isinstance(ran, list) else ()


class CodeReader:
    """What is known of the code of one run, before it and after; what cannot be found out is no error.

    Attributes:
        top: of the work tree; None where there is none.
    """

    def __init__(self, caller: Caller, folder: Path, source: Callable[[Path], SourceTree]) -> None:
        """Ask nothing yet.

        Args:
            folder: the one to ask about, where the code is in no file.
        """
        self._caller = caller
        self._place = caller.file.parent if caller.file else folder
        self._tree = source(self._place)
        self._seen: set[Path] = set()
        self.top: Path | None = None

    def before(self) -> Code:
        """Look at the running file, at all that differs from the commit, and at the modules that are loaded."""
        parts = _parts(self._caller)
        entry, tree = self._caller.entry, self._tree
        try:
            prefix = tree.prefix  # first of all: it is what fails outside of a repository, and says so
            commit, uri, names = tree.commit(), tree.uri, tree.changes()
            self.top = top = _top_of(self._place, prefix)
            changes = _hashed(names, top) | self._modules(commit, self._caller.file)
        except ChopmarkError as error:
            known = "not a git repository" in error.message or "git is not installed" in error.message
            problem = NO_REPOSITORY if known else error.message.replace(str(self._place), "…")[:300]
            return Code(entry=entry, parts=parts, problem=problem)
        file = self._caller.file
        committed = file is not None and _plain(file.relative_to(top).as_posix()) not in changes
        problem = "" if committed else "the running file is not committed, or differs"
        if file is None:
            problem = "code that was typed is in no commit"
        return Code(
            entry=entry,
            commit=commit,
            uri=uri,
            prefix=prefix,
            committed=committed,
            changes=changes,
            parts=parts,
            problem=problem,
        )

    def after(self, code: Code) -> Code:
        """Return *code* with the modules that were loaded since."""
        if not code.commit:
            return code
        try:
            return code.changed(self._modules(code.commit, None))
        except ChopmarkError as error:
            return replace(code, committed=False, problem=error.message.replace(str(self._place), "…")[:300])

    def _modules(self, commit: str, file: Path | None) -> dict[str, Digest | None]:
        """Return those of *file* and the modules loaded from the work tree that the commit does not hold as they are.

        A module that Git ignores, or is told to overlook, runs like any other.
        """
        top = self.top
        if top is None:
            return {}
        contents: dict[str, bytes] = {}
        lost: dict[str, Digest | None] = {}
        for path in {*_module_files(), *([file] if file else [])} - self._seen:
            self._seen.add(path)
            library = path != file and any(is_room(part) for part in path.parts[len(top.parts) :])
            if path.is_relative_to(top) and not library:
                name = path.relative_to(top).as_posix()
                try:
                    contents[name] = read_file(path, max_bytes=_MAX_HASHED_BYTES)
                except ChopmarkError:
                    lost[_plain(name)] = None
        differing = self._tree.differing(commit, contents) if contents else ()
        return lost | {_plain(name): Digest.of(contents[name]) for name in differing}


def _module_files() -> set[Path]:
    found: set[Path] = set()
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        with suppress(OSError, ValueError):
            if isinstance(name, str):
                path = Path(name).resolve()
                # A library that lies in a virtual environment inside the work tree is a package, not this code.
                if not path.is_relative_to(_PREFIX):
                    found.add(path)
    return found


def _top_of(place: Path, prefix: str) -> Path:
    """Return the top of the work tree in which *place* is the folder *prefix*."""
    top = place.resolve()
    for _ in filter(None, prefix.split("/")):
        top = top.parent
    return top


def read_surroundings() -> Surroundings:
    """Return this Python, this machine's kind, and the distributions whose modules are loaded."""
    loaded = {name.partition(".")[0] for name in list(sys.modules)}
    found: dict[str, str] = {}
    for module, names in packages_distributions().items():
        for name in names if module in loaded else ():
            with suppress(PackageNotFoundError, TypeError, ValueError):  # metadata that are damaged name no version
                found[name] = str(version(name))
    return Surroundings(
        python=platform.python_version(),
        platform=f"{platform.system()}-{platform.release()}-{platform.machine()}",
        packages=found,
    )


def _parts(caller: Caller) -> dict[str, Digest]:
    parts: dict[str, Digest] = {}
    if caller.file is not None:
        with suppress(ChopmarkError):
            parts[f"code:{_plain(caller.file.name)}"] = hash_file(caller.file).sha256
    elif ran := cells():
        parts["code:cell"] = Digest.of(ran[-1].encode("utf-8", "backslashreplace"))
        listed = [text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0") for text in ran]
        parts["code:cells"] = Digest.of(canonical.encode(listed))
    return parts


def _hashed(names: Iterable[str], top: Path) -> dict[str, Digest | None]:
    found: dict[str, Digest | None] = {}
    for name in names:
        path, digest = top / name, None
        with suppress(ChopmarkError, OSError):
            if len(found) < _MAX_HASHED and path.lstat().st_size <= _MAX_HASHED_BYTES:
                digest = hash_file(path).sha256
        found[_plain(name)] = digest
    return found


def _plain(name: str) -> str:
    """Return a file's name as text that can be written, whatever bytes it is made of."""
    return name.encode("utf-8", "backslashreplace").decode()
