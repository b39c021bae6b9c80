# SPDX-License-Identifier: Apache-2.0
"""The objects of a repository, each believed only under the hash of its content.

Git checks the hash of what it receives, not of what it reads: a loose file or the index of a pack can hold anything under
any name. Here every commit, tree and file on the way from a commit to a content is hashed again. What is not here: which
commits there are, and whose signature is on them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

from chopmark.errors import DecodeError, UndecidedError, VerificationError

_MAX_BYTES: Final = 16 * 1024 * 1024
"""Of a commit or a tree."""
_MAX_DEPTH: Final = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a tree."""

    mode: str
    id: str

    @property
    def is_tree(self) -> bool:
        return self.mode == "40000"

    @property
    def is_file(self) -> bool:
        return self.mode.startswith("100")


class Objects:
    """What one ``git cat-file --batch-command`` answers."""

    def __init__(self, to: IO[bytes], answers: IO[bytes]) -> None:
        self._to = to
        self._answers = answers

    def commit(self, commit: str) -> tuple[str, tuple[str, ...]]:
        """Return the tree and the parents of *commit*."""
        head = self._read(commit, "commit").partition(b"\n\n")[0].decode("utf-8", "replace").split("\n")
        lines = [line.partition(" ")[::2] for line in head]
        return lines[0][1], tuple(value for name, value in lines if name == "parent")

    def find(self, commit: str, path: str) -> Entry | None:
        """Return what *path* names in *commit*."""
        found = Entry("40000", self.commit(commit)[0])
        for part in path.split("/"):
            entry = self.entries(found.id).get(part) if found.is_tree else None
            if entry is None:
                return None
            found = entry
        return found

    def entries(self, tree: str) -> dict[str, Entry]:
        """Return name -> entry of a folder."""
        data, at, found = self._read(tree, "tree"), 0, {}
        while at < len(data):
            space, end = data.find(b" ", at), data.find(b"\0", at)
            after = end + 1 + len(tree) // 2
            if not at < space < end or after > len(data):
                raise DecodeError(f"tree {tree[:10]} cannot be read")
            name = data[space + 1 : end].decode("utf-8", "replace")
            found[name] = Entry(data[at:space].decode("ascii", "replace"), data[end + 1 : after].hex())
            at = after
        return found

    def file(self, name: str, entry: Entry, *, max_bytes: int) -> bytes:
        """Return the content of the file *entry*, which is called *name*.

        Raises:
            DecodeError: longer than *max_bytes*.
        """
        return self._read(entry.id, "blob", called=name, max_bytes=max_bytes)

    def differ(self, one: str | None, other: str | None, *, folder: str = "") -> Iterator[str]:
        """Yield the paths of what is not the same in two trees; None is an empty one."""
        if one == other:
            return
        if folder.count("/") > _MAX_DEPTH:
            raise DecodeError(f"{folder[:80]}: more folders in one another than the {_MAX_DEPTH} allowed")
        left, right = ({} if tree is None else self.entries(tree) for tree in (one, other))
        for name in sorted(left.keys() | right.keys()):
            both = left.get(name), right.get(name)
            if both[0] != both[1]:
                if any(entry is not None and not entry.is_tree for entry in both):
                    yield folder + name
                trees = [entry.id if entry is not None and entry.is_tree else None for entry in both]
                yield from self.differ(*trees, folder=f"{folder}{name}/")

    def _read(self, name: str, kind: str, *, called: str = "", max_bytes: int = _MAX_BYTES) -> bytes:
        what = called or f"{kind} {name[:10]}"
        found, size = self._header("info", name, what)
        if found != kind:
            raise DecodeError(f"{what}: is a {found} and no {kind}")
        if size > max_bytes:
            raise DecodeError(f"{what}: {size:,} bytes, more than the {max_bytes:,} allowed")
        found, size = self._header("contents", name, what)
        data = self._answers.read(size + 1)[:-1]
        if not hmac.compare_digest(object_id(kind, data, like=name), name):
            raise VerificationError(
                f"{what}: the repository holds other content under the name {name}",
                code="git-object-altered",
                hint="restore the object from another clone; look for who changed it",
                evidence={"object": name},
            )
        return data

    def _header(self, command: str, name: str, what: str) -> tuple[str, int]:
        try:
            self._to.write(f"{command} {name}\n".encode())
            self._to.flush()
            words = self._answers.readline().split()
        except OSError:
            words = []
        if len(words) != 3 or not words[2].isdigit():
            raise UndecidedError(f"{what}: its content cannot be read from the repository", code="git-failed")
        return words[1].decode("ascii", "replace"), int(words[2])


def object_id(kind: str, data: bytes, *, like: str) -> str:
    """Return the name of an object, by the hash of which *like* is one."""
    name = "sha256" if len(like) == 64 else "sha1"
    return hashlib.new(name, b"%s %d\0" % (kind.encode(), len(data)) + data, usedforsecurity=False).hexdigest()
