# SPDX-License-Identifier: Apache-2.0
"""Where a step runs: its code, its Python and the packages that were loaded. Environment variables are not looked at."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import FrameType
from typing import Final

from chopmark import canonical
from chopmark.artifacts import Digest, hash_file
from chopmark.builds import Code, SourceTree, Surroundings
from chopmark.errors import ChopmarkError

NO_REPOSITORY: Final = "not in a Git repository"
_MAX_HASHED: Final = 1000
_MAX_HASHED_BYTES: Final = 16 * 1024 * 1024
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
    return Caller(entry=file.name if file else "cell" if cells() else "prompt", file=file)


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


def read_code(caller: Caller, folder: Path, source: Callable[[Path], SourceTree]) -> Code:
    """Return what is known of the code that *caller* is; what cannot be found out is no error.

    Args:
        folder: the one to ask about, where the code is in no file.
    """
    place = caller.file.parent if caller.file else folder
    parts = _parts(caller)
    tree = source(place)
    try:
        prefix = tree.prefix  # first of all: it is what fails outside of a repository, and says so
        commit = tree.commit()
        names, uri = tree.changes(), tree.uri
        committed = caller.file is not None and tree.holds(commit, caller.file.name)
    except ChopmarkError as error:
        known = "not a git repository" in error.message or "git is not installed" in error.message
        return Code(entry=caller.entry, parts=parts, problem=NO_REPOSITORY if known else _short(error, place))
    problem = ""
    if not committed:
        problem = "the running file is not committed" if caller.file else "code that was typed is in no commit"
    return Code(
        entry=caller.entry,
        commit=commit,
        uri=uri,
        prefix=prefix,
        committed=committed,
        changes=_hashed(names, top_of(place, prefix)),
        parts=parts,
        problem=problem,
    )


def top_of(place: Path, prefix: str) -> Path:
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
            parts[f"code:{caller.file.name}"] = hash_file(caller.file).sha256
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
        found[name.encode("utf-8", "backslashreplace").decode()] = digest
    return found


def _short(error: ChopmarkError, place: Path) -> str:
    """Return what git said, without the name of a folder of this machine."""
    return error.message.replace(f"{place}: ", "").replace(str(place), "…")[:300]
