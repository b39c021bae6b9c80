# SPDX-License-Identifier: Apache-2.0
"""A repository on this machine, by the ``git`` program (2.38 or newer) and ``ssh-keygen``.

Commits are made with plumbing in an index of their own, so that a person's files and index are untouched unless the
branch is the one checked out; then it must be clean. The environment is built from nothing: no system or user
configuration, no hooks, no prompts, no pager, no replaced objects. A repository whose own configuration could run programs
or change what is read is refused (:mod:`chopmark.adapters.git.settings`), and what is read, or made into a commit from what
is there, is hashed again (:mod:`chopmark.adapters.git.objects`).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from chopmark.adapters.git.objects import Objects
from chopmark.adapters.git.settings import SETTINGS, content_of, environment, refuse_settings
from chopmark.artifacts import check_file_name
from chopmark.clock import SystemClock, format_time
from chopmark.errors import ChopmarkError, MovedError, UndecidedError, UsageError, VerificationError
from chopmark.release import MAIN, Commit, Committer, GitHost

TIMEOUT_S: Final = 120

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH: Final = re.compile(r"(?!.*(\.\.|//|/\.|\.lock(/|$)|[./]$))[A-Za-z0-9][A-Za-z0-9._/+-]{0,198}")
_MAX_MERGED_BYTES: Final = 64 * 1024 * 1024
_FIELDS: Final = "%H%n%P%n%G?%n%GS%n%GF%n%s"


class LocalGit(GitHost):
    """The repository whose work tree is *folder*; not one that *folder* lies in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._checked: tuple[bytes, ...] | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        files: Mapping[str, bytes],
        message: str,
        author: str,
        key: Path,
        at: datetime | None = None,
    ) -> LocalGit:
        """Make a repository whose branch ``main`` begins with one signed commit of *files*.

        Raises:
            UsageError: there is one already.
        """
        if (folder / ".git").exists():
            raise UsageError(f"{folder}: is a Git repository already")
        folder.mkdir(parents=True, exist_ok=True)
        host = cls(folder)
        host._git(["init", "--quiet", "--template=", f"--initial-branch={MAIN}"])
        by = Committer(name=author, email=f"{author}@localhost", key=key)
        host.commit(MAIN, files, parent=None, message=message, by=by, at=at or SystemClock().now())
        return host

    def head(self, branch: str) -> str | None:
        ref = f"refs/heads/{_branch(branch)}^{{commit}}"
        found = self._run(["rev-parse", "--verify", "--quiet", "--end-of-options", ref], accept=(0, 1))
        return _text(found.stdout).strip() if found.returncode == 0 else None

    def read(self, commit: str, path: str, *, max_bytes: int) -> bytes | None:
        check_file_name(path)
        with self._objects() as objects:
            entry = objects.find(_commit(commit), path)
            # Not a folder, a symbolic link, a submodule.
            return objects.file(path, entry, max_bytes=max_bytes) if entry is not None and entry.is_file else None

    def read_folder(self, commit: str, folder: str, *, max_bytes: int) -> dict[str, bytes]:
        check_file_name(folder)
        with self._objects() as objects:
            found = objects.find(_commit(commit), folder)
            if found is None or not found.is_tree:
                return {}
            return {
                f"{folder}/{name}": objects.file(f"{folder}/{name}", entry, max_bytes=max_bytes)
                for name, entry in sorted(objects.entries(found.id).items())
                if entry.is_file
            }

    def changed(self, before: str, after: str) -> tuple[str, ...]:
        with self._objects() as objects:
            trees = [objects.commit(_commit(commit))[0] for commit in (before, after)]
            return tuple(sorted(objects.differ(*trees)))

    def merge_base(self, one: str, other: str) -> str | None:
        found = self._run(["merge-base", _commit(one), _commit(other)], accept=(0, 1))
        return _text(found.stdout).split()[0] if found.returncode == 0 else None

    def is_ancestor(self, older: str, newer: str) -> bool:
        if self._run(["cat-file", "-e", f"{_commit(older)}^{{commit}}"], accept=(0, 1, 128)).returncode:
            return False
        return self._run(["merge-base", "--is-ancestor", older, _commit(newer)], accept=(0, 1)).returncode == 0

    def last_change(self, commit: str, path: str) -> tuple[str, str | None] | None:
        check_file_name(path)
        args = ["rev-list", "--first-parent", "--max-count=1", _commit(commit), "--", path]
        found = _text(self._run(args).stdout).split()
        if not found:
            return None
        parents = _text(self._run(["rev-list", "--max-count=1", "--parents", found[0]]).stdout).split()[1:]
        return found[0], parents[0] if parents else None

    def log(self, since: str | None, to: str, *, allowed_signers: str) -> tuple[Commit, ...]:
        span = [_commit(to), *([f"^{_commit(since)}"] if since else [])]
        with tempfile.TemporaryDirectory() as scratch:
            signers = Path(scratch, "allowed_signers")
            signers.write_text(allowed_signers, encoding="ascii")
            out = self._run(
                ["log", "-z", "--topo-order", "--reverse", f"--format={_FIELDS}", *span, "--"],
                settings={"gpg.ssh.allowedSignersFile": str(signers)},
            ).stdout
        commits = tuple(_logged(record) for record in _text(out).split("\0") if record)
        with self._objects() as objects:
            for commit in commits:
                if objects.commit(commit.id)[1] != commit.parents:
                    raise VerificationError(
                        f"{commit.id}: git tells of other parents than it has", code="git-object-altered"
                    )
        return commits

    def commit(
        self,
        branch: str,
        files: Mapping[str, bytes | None],
        *,
        parent: str | None,
        message: str,
        by: Committer,
        at: datetime,
    ) -> str:
        before = self.head(branch)
        if before is not None and before != parent:
            raise MovedError(f"{branch} is not where it was seen", code="ref-moved", hint="look again, try again")
        with tempfile.TemporaryDirectory() as scratch:
            index = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
            self._run(["read-tree", _commit(parent) if parent else "--empty"], env=index)
            self._run(["update-index", "-z", "--index-info"], env=index, data=self._index_lines(files))
            tree = _text(self._run(["write-tree"], env=index).stdout).strip()
        self._check_written(parent, tree, files)
        made = self._sign(tree, (parent,) if parent else (), message=message, by=by, at=at)
        self._advance(branch, before, made, parent=parent)
        return made

    def merge(self, commit: str, *, into: str, expect: str, message: str, by: Committer, at: datetime) -> str:
        if self.head(into) != _commit(expect):
            raise MovedError(f"{into} is not where it was seen", code="ref-moved", hint="look again, try again")
        merged = self._run(["merge-tree", "--write-tree", "--no-messages", expect, _commit(commit)], accept=(0, 1))
        if merged.returncode:
            raise UsageError(f"{commit[:10]} and {into} conflict", code="merge-conflict", hint="propose it again")
        tree = _text(merged.stdout).split()[0]
        self._check_merged(expect, commit, tree)
        made = self._sign(tree, (expect, commit), message=message, by=by, at=at)
        self._advance(into, expect, made, parent=expect)
        return made

    def _check_written(self, parent: str | None, tree: str, files: Mapping[str, bytes | None]) -> None:
        """Check that *tree* is that of *parent* with *files*: git made it from what it read, unchecked."""
        with self._objects() as objects:
            before = objects.commit(parent)[0] if parent else None
            others = set(objects.differ(before, tree)) - set(files)
        # A file in the place of a folder takes away what was in it.
        others = {name for name in others if not any(name.startswith(f"{path}/") for path in files)}
        if others:
            raise VerificationError(f"{min(others)}: is changed by no one who said so", code="git-object-altered")

    def _check_merged(self, one: str, other: str, tree: str) -> None:
        """Hash whatever git read to make *tree* of two commits: what a lie there would bring in, somebody would sign."""
        base = self.merge_base(one, other)
        sides = [commit for commit in (base, one, other) if commit is not None]
        with self._objects() as objects:
            start = objects.commit(base)[0] if base else None
            paths = {*objects.differ(start, objects.commit(other)[0]), *objects.differ(objects.commit(one)[0], tree)}
            for path in sorted(paths):
                for commit in sides:
                    entry = objects.find(commit, path)
                    if entry is not None and entry.is_file:
                        objects.file(path, entry, max_bytes=_MAX_MERGED_BYTES)

    def _index_lines(self, files: Mapping[str, bytes | None]) -> bytes:
        lines = []
        for path, content in sorted(files.items()):
            check_file_name(path)
            if content is None:
                lines.append(f"0 {'0' * 40}\t{path}\0")
            else:
                blob = _text(self._run(["hash-object", "-w", "--stdin"], data=content).stdout).strip()
                lines.append(f"100644 {blob}\t{path}\0")
        return "".join(lines).encode()

    def _sign(self, tree: str, parents: Sequence[str], *, message: str, by: Committer, at: datetime) -> str:
        if not by.key.exists():
            raise UndecidedError(f"{by.key}: no such key", code="key-missing", hint="run it where the key is")
        moment = format_time(at)
        person = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", by.name), ("EMAIL", by.email), ("DATE", moment))
        }
        lineage = [word for parent in parents for word in ("-p", parent)]
        made = self._run(
            ["commit-tree", "-S", *lineage, tree],
            data=message.encode(),
            env=person,
            settings={"user.signingKey": str(by.key.resolve())},
            accept=(0, 1, 128),
        )
        if made.returncode:
            raise UndecidedError(
                f"{by.key} could not sign the commit: {_last_line(made.stderr)}",
                code="key-unavailable",
                hint="an unencrypted OpenSSH key that only its owner may read (chmod 600)",
            )
        return _text(made.stdout).strip()

    def _advance(self, branch: str, before: str | None, after: str, *, parent: str | None) -> None:
        """Move *branch* from *before* to *after*, and the work tree with it where it shows that branch."""
        shown = self._is_shown(branch)
        step = ["read-tree", "-m", "-u", *([parent] if parent else []), after]
        if shown:
            self._check_clean(branch, step)
        ref = ["update-ref", f"refs/heads/{_branch(branch)}", after, before or "0" * 40]
        if self._run(ref, accept=(0, 1, 128)).returncode:
            raise MovedError(f"{branch} is not where it was seen", code="ref-moved", hint="look again, try again")
        if shown:
            self._run(step)

    def _is_shown(self, branch: str) -> bool:
        bare = _text(self._run(["rev-parse", "--is-bare-repository"]).stdout).strip() == "true"
        shown = _text(self._run(["symbolic-ref", "--quiet", "HEAD"], accept=(0, 1)).stdout).strip()
        return not bare and shown == f"refs/heads/{branch}"

    def _check_clean(self, branch: str, step: Sequence[str]) -> None:
        self._run(
            ["update-index", "-q", "--refresh"], accept=(0, 1)
        )  # a copied folder has other inodes, not other files
        dirty = self._run(["status", "--porcelain=v1", "-z", "--untracked-files=no"]).stdout
        if dirty or self._run([step[0], "-n", *step[1:]], accept=(0, 1, 128)).returncode:
            raise UsageError(
                f"{self.folder}: files of {branch} are changed and not committed, or would be overwritten",
                code="dirty-tree",
                hint="commit them, or put them aside: `git stash`",
            )

    @contextmanager
    def _objects(self) -> Iterator[Objects]:
        """Give a reader of objects."""
        self._check_settings()
        with _started(["cat-file"]):
            process = subprocess.Popen(
                self._command(["cat-file", "--batch-command"]),
                env=environment(self.folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        timer = threading.Timer(TIMEOUT_S, process.kill)
        timer.daemon = True
        timer.start()
        try:
            with process:
                if process.stdin is None or process.stdout is None:
                    raise OSError("no pipe to git")
                yield Objects(process.stdin, process.stdout)
        finally:
            timer.cancel()

    def _check_settings(self) -> None:
        """Refuse a repository whose own settings are not all harmless; look again when they may have changed."""
        seen = self._settings_seen()
        if seen is not None and seen == self._checked:
            return
        listed = self._git(["config", "--local", "--no-includes", "--name-only", "-z", "--list"]).stdout
        place = self._git(["rev-parse", "--git-path", "info/attributes"]).stdout
        attributes = content_of(self.folder / _text(place).rstrip("\n"))
        refuse_settings(self.folder, filter(None, _text(listed).split("\0")), attributes)
        self._checked = seen

    def _settings_seen(self) -> tuple[bytes, ...] | None:
        """Return the content of all that settings are read from; None where that is not known without git."""
        inside = self.folder / ".git"
        if not inside.is_dir() or (inside / "commondir").exists():
            return None
        try:
            return tuple(content_of(inside / name) for name in ("config", "info/attributes"))
        except ChopmarkError:
            return None

    def _run(
        self,
        args: Sequence[str],
        *,
        data: bytes = b"",
        env: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        accept: Sequence[int] = (0,),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``git`` on a repository whose settings are harmless; see :meth:`_git`.

        Raises:
            UsageError: the folder is no repository, or has settings that are not.
        """
        self._check_settings()
        return self._git(args, data=data, env=env, settings=settings, accept=accept)

    def _git(
        self,
        args: Sequence[str],
        *,
        data: bytes = b"",
        env: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        accept: Sequence[int] = (0,),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``git`` with an argument list in an environment of its own.

        Raises:
            UsageError: the folder is no repository.
            UndecidedError: there is no git, it took too long, or it ended with a code that is not in *accept*.
        """
        with _started(args):
            done = subprocess.run(
                self._command(args, settings),
                check=False,
                input=data,
                env={**environment(self.folder), **(env or {})},
                capture_output=True,
                timeout=TIMEOUT_S,
            )
        if b"not a git repository" in done.stderr or b"only be used inside a git repository" in done.stderr:
            raise UsageError(f"{self.folder}: is not a Git repository", hint="make a workspace: `chopmark init`")
        if done.returncode not in accept:
            raise UndecidedError(f"git {args[0]}: {_last_line(done.stderr)}", code="git-failed")
        return done

    def _command(self, args: Sequence[str], settings: Mapping[str, str] | None = None) -> list[str]:
        options = [word for item in {**SETTINGS, **(settings or {})}.items() for word in ("-c", "=".join(item))]
        return ["git", "--no-pager", "-C", str(self.folder), *options, *args]


@contextmanager
def _started(args: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UndecidedError("there is no git here", code="git-missing", hint="install git 2.38 or newer") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UndecidedError(f"git {args[0]} did not finish ({type(error).__name__})", code="git-failed") from error


def _logged(record: str) -> Commit:
    name, parents, status, signer, fingerprint, subject = record.split("\n", 5)
    good = status == "G"
    return Commit(
        id=name,
        parents=tuple(parents.split()),
        signer=signer if good else "",
        fingerprint=fingerprint if good else "",
        subject=subject,
    )


def _commit(text: str) -> str:
    if not _COMMIT.fullmatch(text):
        raise UsageError(f"{text[:80]!r} is not a commit", hint="give its full name: `git rev-parse BRANCH`")
    return text


def _branch(text: str) -> str:
    if not _BRANCH.fullmatch(text):
        raise UsageError(f"{text[:80]!r} cannot name a branch")
    return text


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _last_line(data: bytes) -> str:
    lines = [line for line in _text(data).splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no word of why"
