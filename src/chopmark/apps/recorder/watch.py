# SPDX-License-Identifier: Apache-2.0
"""What a step read and wrote, seen from inside its process: Python's own opens, and the folder before and after.

Reads come from one audit hook for the whole process. It is added when the first run is watched, cannot be removed, and
does nothing outside of runs. Writes come from it too, and from comparing the folder with what it was: that finds what
native code wrote, and other processes. What native code *reads* is not seen; neither is what a child process reads.

An open belongs to the run of its context, and where there is none (a thread of a pool), to every run that is open.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chopmark.builds import is_room

MAX_WATCHED: Final = 100_000
"""Files below a folder that are looked at before and after; with more, it is not watched."""

_WRITING: Final = os.O_WRONLY | os.O_RDWR
_NO_FILE: Final = os.O_DIRECTORY | getattr(os, "O_PATH", 0)

Stamp = tuple[int, int, int, int]
"""What changes when a file does: inode, length in bytes, and the times of content and inode in nanoseconds."""

current: ContextVar[Watch | None] = ContextVar("chopmark_watch", default=None)
"""The run of this context. Threads do not inherit it, tasks do."""

_open: tuple[Watch, ...] = ()
_lock = threading.Lock()
_hooked = False


@dataclass(kw_only=True, eq=False)
class Watch:
    """The files below one folder that a run touched.

    Attributes:
        folder: absolute, without links.
        before: name -> stamp at the start; None where the folder holds too many files to watch, then or at the end.
        reads, writes: absolute names as they were opened, in order.
        shared: another run of this process was open at the same time.
    """

    folder: Path
    before: dict[str, Stamp] | None = None
    reads: dict[str, None] = field(default_factory=dict)
    writes: dict[str, None] = field(default_factory=dict)
    shared: bool = False

    def start(self) -> None:
        """Look at the folder, and begin to watch."""
        global _hooked, _open  # noqa: PLW0603 - a process has one list of audit hooks, and nothing takes one off
        self.before = stamps(self.folder)
        with _lock:
            if not _hooked:
                sys.addaudithook(_hook)
                _hooked = True
            for other in _open:
                other.shared = self.shared = True
            _open = (*_open, self)

    def stop(self) -> None:
        """Watch no longer."""
        global _open  # noqa: PLW0603 - as in start
        with _lock:
            _open = tuple(watch for watch in _open if watch is not self)

    def touched(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Return names below the folder: only read, written, and read but since then changed or removed.

        What was read and is not as it was at the start is no input: nobody can say what was read.
        """
        after = stamps(self.folder) if self.before is not None else None
        if self.before is None or after is None:
            self.before = None
            return (), (), ()
        changed = {name for name, stamp in after.items() if self.before.get(name) != stamp}
        reads, writes = (_inside(self.folder, opened, self.before) for opened in (self.reads, self.writes))
        # With another run in the same process, only what this one opened for writing is known to be its own.
        written = [name for name in writes if name in changed]
        written += [] if self.shared else sorted(changed - set(written))
        read = [name for name in reads if name in self.before and name in after and name not in changed]
        lost = [name for name in reads if name in self.before and (name in changed or name not in after)]
        return tuple(read), tuple(written), tuple(lost)


def stamps(folder: Path) -> dict[str, Stamp] | None:
    """Return the ``/``-separated name and the stamp of every file below *folder* that may be data; None: too many.

    Hidden folders, libraries and caches are passed over, links are not followed.
    """
    found: dict[str, Stamp] = {}
    for name, entry in _walk(folder):
        if len(found) >= MAX_WATCHED:
            return None
        try:
            found[name] = _stamp(entry.stat(follow_symlinks=False))
        except OSError:
            continue  # it went away meanwhile
    return found


def stamp_of(path: Path) -> object:
    """Return what changes when a file, or any file below a folder, does; None where there is none."""
    try:
        return stamps(path) if path.is_dir() else _stamp(path.stat())
    except OSError:
        return None


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _walk(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            with os.scandir(folder / prefix) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue  # not ours to read
        for entry in listed:
            if entry.is_file(follow_symlinks=False):
                yield prefix + entry.name, entry
            elif entry.is_dir(follow_symlinks=False) and not _passed_over(entry):
                pending.append(f"{prefix}{entry.name}/")


def _passed_over(entry: os.DirEntry[str]) -> bool:
    return is_room(entry.name) or os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))  # noqa: PTH110, PTH118 - for each of 100,000


def _inside(folder: Path, opened: dict[str, None], before: dict[str, Stamp]) -> list[str]:
    """Return the names of regular files below *folder*, by what they are, or were, and not by the link that led there."""
    names: dict[str, None] = {}
    for path in list(opened):
        try:
            real = Path(os.path.realpath(path))
            name = real.relative_to(folder).as_posix() if real.is_relative_to(folder) else ""
            if name and (name in before or real.is_file()):
                names[name] = None
        except (OSError, ValueError):
            continue
    return list(names)


def _hook(event: str, args: tuple[object, ...]) -> None:
    """Note an open. Every audited event of the process comes here, so the first line is all that most of them cost."""
    if not _open or event != "open":
        return
    with suppress(Exception):  # an error here would be the error of somebody's open()
        _note(*args)


def _note(path: object, mode: object, flags: object) -> None:
    if not isinstance(path, str | bytes | os.PathLike) or not isinstance(flags, int) or flags & _NO_FILE:
        return
    name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links are kept: they may change before the end
    writing = bool(flags & _WRITING) or (isinstance(mode, str) and not set(mode).isdisjoint("wax+"))
    watch = current.get()
    for run in _open if watch is None or watch not in _open else (watch,):
        noted = run.writes if writing else run.reads
        if len(noted) < MAX_WATCHED:
            noted[name] = None
