# SPDX-License-Identifier: Apache-2.0
"""What lies at a path, and how to be rid of it. Links are never followed, and nothing here raises ``OSError``."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from chopmark.errors import UndecidedError, foreign

OWN = 0o700
"""What the owner of a folder needs to list it, to enter it and to change it."""


def is_missing(path: Path) -> bool:
    """Tell whether nothing is at *path*; what cannot be looked at is something."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def is_file(path: Path) -> bool:
    """Tell whether *path* is a regular file, and no link to one."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Tell whether *path* is a folder, and no link to one."""
    return stat.S_ISDIR(_mode(path))


def entries(folder: Path) -> list[Path]:
    """Return what lies in *folder*; nothing where it is no folder, or cannot be listed."""
    if not is_folder(folder):
        return []
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def own(folder: Path) -> None:
    """Make sure that the owner of *folder* can use it.

    Raises:
        UndecidedError: ``not-written``: it is somebody else's.
    """
    mode = _mode(folder)
    if stat.S_ISDIR(mode) and mode & OWN != OWN:
        with foreign(UndecidedError, f"{folder}: cannot be used", code="not-written"):
            folder.chmod(OWN)


def remove(path: Path) -> None:
    """Remove what is at *path*: a file, a link and not what it points to, a folder with all that is in it.

    Raises:
        UndecidedError: ``not-written``: something of it is still there.
    """
    with foreign(UndecidedError, f"{path}: cannot be removed", code="not-written"):
        if is_folder(path):
            _own_all(path)
            shutil.rmtree(path)
        elif not is_missing(path):
            path.unlink()


def free_bytes(folder: Path) -> int:
    """Return how much can be written where *folder* is.

    Raises:
        UndecidedError: it cannot be told.
    """
    with foreign(UndecidedError, f"{folder}: the free space cannot be told", code="not-written"):
        disk = os.statvfs(folder)
        return disk.f_bavail * disk.f_frsize


def _own_all(folder: Path) -> None:
    pending = [folder]
    while pending:
        own(pending[-1])
        with os.scandir(pending.pop()) as entries:
            pending += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0
