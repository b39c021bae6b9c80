# SPDX-License-Identifier: Apache-2.0
"""Committed code, by the ``git`` program.

Files are written from Git's objects, byte for byte: no hook, filter, attribute or replacement of the repository's
configuration has a say in what a build runs, and nothing is fetched. Everything from the commit to each file is hashed
again: Git believes the names of the objects that it reads.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit, urlunsplit

from chopmark.artifacts import check_file_name
from chopmark.builds import SourceTree
from chopmark.errors import UndecidedError, UsageError, VerificationError

_GIT = ("git", "--no-replace-objects", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
_SECONDS = 300
_FILTER = re.compile(r"filter\..+\.(clean|smudge|process|required)", re.DOTALL)
_FILE, _PROGRAM, _LINK = "100644", "100755", "120000"


class GitSource(SourceTree):
    """The folder *folder* of a Git work tree."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def uri(self) -> str:
        url = self._git("config", "--get", "remote.origin.url", may_fail=True).decode("utf-8", "replace").strip()
        return _public(url) if url else f"git+local:{self._top().name}"

    @property
    def prefix(self) -> str:
        return self._git("rev-parse", "--show-prefix").decode().strip().rstrip("/")

    def _commit(self) -> str:
        commit = self._git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", may_fail=True).decode().strip()
        if not commit:
            raise UsageError(f"{self._folder}: nothing was committed here yet", hint="commit first")
        return commit

    def _changes(self) -> tuple[str, ...]:
        self._top()
        # Not inside the work trees of modules, which have settings of their own; an export refuses modules.
        status = self._git(
            *("status", "--porcelain=v1", "-z", "--untracked-files=all", "--ignore-submodules=dirty", "--no-renames"),
            settings=self._no_filters(),
        )
        return tuple(os.fsdecode(entry[3:]) for entry in status.split(b"\0") if entry)

    def _differing(self, commit: str, files: Mapping[str, bytes]) -> tuple[str, ...]:
        asked = [name for name in files if "\n" not in name]  # one name is one line
        lines = b"".join(os.fsencode(f"{commit}:{name}\n") for name in asked)
        # An answer is "<id> <type> <size>", or whatever was asked and " missing".
        answers = self._git("cat-file", "--batch-check", stdin=lines).splitlines()
        found = {
            name: answer.split(b" ")[0].decode("ascii", "replace") for name, answer in zip(asked, answers, strict=True)
        }
        return tuple(name for name in files if found.get(name) != _object_id("blob", files[name], like=commit))

    def _no_filters(self) -> dict[str, str]:
        """Return the settings that turn off the filters of the repository's configuration; a person's own stay."""
        words = self._git("config", "--show-scope", "--name-only", "-z", "--list").decode("utf-8", "replace")
        scopes, keys = words.split("\0")[::2], words.split("\0")[1::2]
        theirs = [key for scope, key in zip(scopes, keys, strict=False) if scope in {"local", "worktree"}]
        return {key: "false" if key.endswith(".required") else "" for key in theirs if _FILTER.fullmatch(key)}

    def _export(self, commit: str, folder: Path) -> None:
        entries = list(self._entries(commit))
        _check_tree(commit, self._git("cat-file", "commit", commit), entries)
        blobs = _batch(self._git("cat-file", "--batch", stdin="".join(f"{oid}\n" for _, oid, _ in entries).encode()))
        for (mode, oid, name), (found, data) in zip(entries, blobs, strict=True):
            if found != oid:
                raise UndecidedError(f"{name}: git has no object {oid}", hint="fetch the whole commit")
            _check("blob", data, oid)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if mode == _LINK:
                path.symlink_to(_inner(name, data))
            else:
                path.write_bytes(data)
                path.chmod(0o755 if mode == _PROGRAM else 0o644)

    def _entries(self, commit: str) -> Iterator[tuple[str, str, str]]:
        """Yield mode, object id and name of every file; links last, so that nothing is written through one."""
        links = []
        for line in self._git("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0"):
            if not line:
                continue
            head, _, raw = line.partition(b"\t")
            mode, _, oid = head.decode("ascii").split(" ")
            name = os.fsdecode(raw)
            check_file_name(name)
            if mode not in {_FILE, _PROGRAM, _LINK, "100664"}:
                raise UsageError(
                    f"{name}: is a module of another repository", hint="a build runs what one commit holds: copy it in"
                )
            if mode == _LINK:
                links.append((mode, oid, name))
            else:
                yield mode, oid, name
        yield from links

    def _top(self) -> Path:
        return Path(os.fsdecode(self._git("rev-parse", "--show-toplevel")).rstrip("\n"))

    def _git(
        self, *arguments: str, stdin: bytes = b"", may_fail: bool = False, settings: Mapping[str, str] | None = None
    ) -> bytes:
        # GIT_* variables could point to another repository, index or set of objects.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        environment |= {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
        # Not with -c, which takes a "=" in a name for its end.
        for number, (key, value) in enumerate((settings or {}).items()):
            environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        environment["GIT_CONFIG_COUNT"] = str(len(settings or {}))
        try:
            done = subprocess.run(
                [*_GIT, *arguments],
                cwd=self._folder,
                env=environment,
                input=stdin,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise UsageError(f"{self._folder}: no such folder, or git is not installed") from error
        if done.returncode != 0 and not may_fail:
            reason = done.stderr.decode("utf-8", "replace").strip()[:300]
            raise UsageError(f"{self._folder}: git says: {reason}", hint="run it in a Git work tree")
        return done.stdout


def _batch(answer: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield object id and content of each object that ``git cat-file --batch`` printed."""
    at = 0
    while at < len(answer):
        end = answer.index(b"\n", at)
        oid, *rest = answer[at:end].decode("ascii").split(" ")
        at = end + 1
        if len(rest) != 2:  # "<oid> missing" instead of "<oid> blob <size>"
            yield "", b""
            continue
        size = int(rest[1])
        yield oid, answer[at : at + size]
        at += size + 1


def _check_tree(commit: str, content: bytes, entries: Sequence[tuple[str, str, str]]) -> None:
    """Check that a commit of this name and *content* holds exactly *entries*.

    Raises:
        VerificationError: ``git-object-altered``.
    """
    _check("commit", content, commit)
    folders: dict[str, dict[str, tuple[str, str]]] = {"": {}}
    for mode, oid, name in entries:
        *above, last = name.split("/")
        for depth in range(len(above) + 1):
            folders.setdefault("/".join(above[:depth]), {})
        folders["/".join(above)][last] = (mode, oid)
    for folder in sorted(folders, key=lambda path: (-path.count("/"), path == "")):
        tree = _object_id("tree", _tree(folders[folder]), like=commit)
        if folder:
            parent, _, name = folder.rpartition("/")
            folders[parent][name] = ("40000", tree)
    named = content.partition(b"\n")[0].removeprefix(b"tree ").decode("ascii", "replace")
    if tree != named:
        raise _altered(named)


def _tree(entries: Mapping[str, tuple[str, str]]) -> bytes:
    """Return a tree as Git writes it: sorted by bytes, a folder as if its name ended in "/"."""
    ordered = sorted(
        (os.fsencode(name) + b"/" * (mode == "40000"), name, mode, oid) for name, (mode, oid) in entries.items()
    )
    return b"".join(
        b"%s %s\0" % (mode.encode(), os.fsencode(name)) + bytes.fromhex(oid) for _, name, mode, oid in ordered
    )


def _check(kind: str, data: bytes, oid: str) -> None:
    if _object_id(kind, data, like=oid) != oid:
        raise _altered(oid)


def _object_id(kind: str, data: bytes, *, like: str) -> str:
    """Return the name of an object, by the hash of which *like* is one."""
    name = "sha256" if len(like) == 64 else "sha1"
    return hashlib.new(name, b"%s %d\0" % (kind.encode(), len(data)) + data, usedforsecurity=False).hexdigest()


def _altered(oid: str) -> VerificationError:
    return VerificationError(
        f"the repository holds other content under the name {oid}",
        code="git-object-altered",
        hint="restore the object from another clone; look for who changed it",
        evidence={"object": oid},
    )


def _inner(name: str, target: bytes) -> str:
    """Return the target of the link *name*, if it stays inside the tree."""
    to = os.fsdecode(target)
    parts = PurePosixPath(to).parts
    ups = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    # ".." after a name could climb out through another link, so it stands in front only.
    if to.startswith("/") or ".." in parts[ups:] or ups >= len(PurePosixPath(name).parts):
        raise UsageError(f"{name}: is a link that leads out of the repository", hint="commit the file itself")
    return to


def _public(url: str) -> str:
    """Return *url* as SLSA writes it, without user, password, query and fragment; a path of this machine becomes its last part."""
    parts = urlsplit(url)
    if not parts.scheme or parts.scheme == "file":
        host, colon, path = url.rpartition(":") if not url.startswith(("/", ".", "file:")) else ("", "", url)
        if colon:  # scp-like: user@host:path
            return f"git+ssh://{host.rpartition('@')[2]}/{path.lstrip('/')}"
        return f"git+local:{PurePosixPath(path).name}"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((f"git+{parts.scheme.removeprefix('git+')}", host, parts.path, "", ""))
