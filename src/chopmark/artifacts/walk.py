# SPDX-License-Identifier: Apache-2.0
"""Find the files of a folder that somebody else may be writing to, and open them without following anything.

Whoever can write in the folder may swap a part of it at any moment. So a file is opened relative to the descriptor of its
folder, a folder only if it still is the one that was listed, and no link is followed anywhere. Nothing here recurses: names
are at most 1,024 bytes, which bounds the depth.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from chopmark.artifacts.model import MAX_FILES, check_file_name
from chopmark.errors import UsageError, VerificationError

NOT_REGULAR: Final = "not-regular"
"""The code of the error about a link or a special file inside a folder."""

FILE_CHANGED: Final = "file-changed"
"""The code of the error about a file or folder that changed while it was read."""

_HINT_READ: Final = "check the path, and who may read it"
FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder as it was listed.

    Attributes:
        prefix: what its files' names begin with: empty, or a relative name and ``/``.
        device, inode: which folder it was.
        names: of the regular files directly in it, in no order.
        folders: the names of the folders directly in it.
    """

    prefix: str
    device: int
    inode: int
    names: list[str]
    folders: list[str]


class Tree:
    """A folder that is being read, held by its descriptor. Use it in a ``with``."""

    def __init__(self, path: Path, *, skip: Collection[str] = ()) -> None:
        """Name the folder.

        Args:
            skip: names in it, relative, that are not looked at, nor anything below them.
        """
        self.path = path
        self._skip = frozenset(skip)
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Open the folder.

        Raises:
            UsageError: missing, unreadable, a symbolic link or no folder.
        """
        try:
            self._descriptor = os.open(self.path, _FOLDER)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise unreadable(self.path, error) from error
            hint = "check the path, and that it is no symbolic link"
            raise UsageError(f"{self.path}: is not a folder", hint=hint) from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def folders(self) -> Iterator[Folder]:
        """Yield every folder, each after the one that it lies in.

        Raises:
            UsageError: something cannot be read, or is neither a folder nor a regular file.
            VerificationError: a folder was replaced while this ran.
            DecodeError: a name that an artifact cannot have.
        """
        root = os.fstat(self._descriptor)
        pending = [("", root.st_dev, root.st_ino)]
        while pending:
            prefix, device, inode = pending.pop()
            folder = Folder(prefix, device, inode, [], [])
            with self.opened(folder) as descriptor:
                for entry in _entries(self.path / prefix, descriptor):
                    name = entry.name
                    if prefix + name in self._skip:
                        continue
                    check_file_name(prefix + name)
                    if entry.is_file(follow_symlinks=False):
                        folder.names.append(name)
                    elif entry.is_dir(follow_symlinks=False):
                        seen = _seen(self.path / prefix / name, entry)
                        folder.folders.append(name)
                        pending.append((f"{prefix}{name}/", seen.st_dev, seen.st_ino))
                    else:
                        raise not_regular(self.path / prefix / name)
            yield folder

    @contextmanager
    def opened(self, folder: Folder) -> Iterator[int]:
        """Give the descriptor of *folder*.

        Raises:
            UsageError: it cannot be read.
            VerificationError: it is another folder by now.
        """
        where = self.path / folder.prefix
        try:
            descriptor = os.open(folder.prefix or ".", _FOLDER, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENOENT):
                raise changed(where) from error
            raise unreadable(where, error) from error
        try:
            now = os.fstat(descriptor)
            # A link anywhere on the way leads to another folder.
            if (now.st_dev, now.st_ino) != (folder.device, folder.inode):
                raise changed(where)
            yield descriptor
        finally:
            os.close(descriptor)


def file_names(folder: Path) -> Iterator[str]:
    """Yield the relative name of each regular file below *folder*, in no order.

    Raises:
        UsageError: *folder* is missing or is a link; something below it cannot be read, or is neither a folder nor a
            regular file.
        VerificationError: a folder was replaced while this ran.
        DecodeError: a name that an artifact cannot have.
    """
    with Tree(folder) as tree:
        for each in tree.folders():
            for name in each.names:
                yield each.prefix + name


def listed(tree: Tree) -> list[Folder]:
    """Return the folders of *tree* that hold files, for an artifact.

    Raises:
        UsageError: no file at all, or more than an artifact can have: ``too-many-files``; and as :meth:`Tree.folders`.
        VerificationError: ``name-collision``: two names that are one where case does not count, as on most phones' and
            Windows' disks; ``file-changed``.
        DecodeError: a name that an artifact cannot have.
    """
    found, count = [], 0
    for folder in tree.folders():
        _check_case(tree.path, folder)
        count += len(folder.names)
        if count > MAX_FILES:
            raise UsageError(
                f"{tree.path}: more than {MAX_FILES:,} files",
                code="too-many-files",
                hint="split it, or pack small files into archives",
            )
        if folder.names:
            found.append(folder)
    if not found:
        raise UsageError(f"{tree.path}: holds no file", hint="name the folder with the files themselves")
    return found


def size_of(path: Path) -> tuple[int, int]:
    """Return the bytes and the files below *path*, or of the file *path*, as they are listed now: for progress."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size, 1
    total = count = 0
    with Tree(path) as tree:
        for folder in tree.folders():
            with tree.opened(folder) as within:
                for name in folder.names:
                    total += os.stat(name, dir_fd=within, follow_symlinks=False).st_size
            count += len(folder.names)
    return total, count


def _check_case(path: Path, folder: Folder) -> None:
    """Check that no two names of one folder differ in case only, folders among them."""
    seen: dict[str, str] = {}
    for name in (*folder.names, *folder.folders):
        other = seen.setdefault(_folded(name), name)
        if other is not name:
            first, second = sorted((other, name))
            raise VerificationError(
                f"{path / folder.prefix}: {first} and {second} differ in nothing but capital letters",
                code="name-collision",
                hint="rename one: on the disks of phones and of Windows they would be one file",
                evidence={"names": [folder.prefix + first, folder.prefix + second]},
            )


def _folded(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


def open_regular(path: Path) -> int:
    """Open *path* for reading and return its descriptor, never following a final symbolic link.

    Raises:
        UsageError: missing, unreadable, a link, or no regular file.
    """
    return open_file(path)[0]


def open_file(path: Path | str, *, within: int | None = None, folder: Path | None = None) -> tuple[int, os.stat_result]:
    """Open *path* as :func:`open_regular` does; return its descriptor, and what the file was when it was opened.

    Args:
        within: the descriptor of the folder that *path* is relative to.
        folder: that folder's name, for messages.
    """
    try:
        # NONBLOCK: opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, FILE_FLAGS, dir_fd=within)
    except OSError as error:
        shown = folder / path if folder else Path(path)
        if error.errno == errno.ELOOP:
            raise _no_link(shown, listed=folder is not None) from error
        raise unreadable(shown, error) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        if folder:
            raise not_regular(folder / path)
        raise UsageError(f"{path}: is not a regular file", hint="name a file")
    return descriptor, status


def _no_link(path: Path, *, listed: bool) -> UsageError:
    return (
        not_regular(path)
        if listed
        else UsageError(f"{path}: is a symbolic link", hint="name the file that it points to")
    )


def identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return what changes when a file does: device and number, length, the times of its content and of its metadata."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path}: cannot be read ({error.strerror})", hint=_HINT_READ)


def changed(path: Path) -> VerificationError:
    return VerificationError(
        f"{path}: changed while it was read", code=FILE_CHANGED, hint="hash it again when nothing writes to it"
    )


def not_regular(path: Path) -> UsageError:
    return UsageError(
        f"{path}: is a link or a special file; an artifact holds regular files only",
        code=NOT_REGULAR,
        hint="copy the file itself into the folder",
    )


def _entries(folder: Path, descriptor: int) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(descriptor) as entries:
            yield from entries
    except OSError as error:
        raise unreadable(folder, error) from error


def _seen(path: Path, entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError as error:
        raise changed(path) from error
    except OSError as error:
        raise unreadable(path, error) from error
