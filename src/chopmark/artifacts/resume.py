# SPDX-License-Identifier: Apache-2.0
"""What was hashed before: to go on after an interruption, and to hash again only what changed, when somebody asks for it.

    {"v":1,"what":"chopmark hash state","of":"/models/llm"}
    {"file":{"name":"a","length":1,"sha256":"…","fsverity":{…}},"seen":[dev,ino,size,mtime_ns,ctime_ns],"at":…}
    {"finished":true}

One line for each file, appended when it is done: a process that is killed leaves at worst half a line, which is dropped.
A run that was interrupted is gone on with. What a finished run left is used only where the caller trusts times.

Whoever can write this file can make us name a file's old digest: it is ours alone (0600) or it is refused. An entry counts
only while device, number, length and both times are the same, and if the file had been left alone for two seconds when it
was hashed: a disk's clock ticks too slowly to tell two writes within one tick apart.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import msgspec

from chopmark import canonical
from chopmark.artifacts.model import FileEntry
from chopmark.artifacts.walk import identity
from chopmark.artifacts.wire import FileMember, entry_of, member_of
from chopmark.errors import DecodeError, UndecidedError, UsageError

WHAT: Final = "chopmark hash state"
MAX_LINE_BYTES: Final = 8192
"""A name of 1,024 bytes may take six for each in JSON."""

SETTLED_NS: Final = 2_000_000_000
"""How long a file has to be left alone before it is hashed, for its times to say that it is the same later."""

SAVE_NS: Final = 2_000_000_000
"""Lines are kept back for at most so long: that much is hashed again after a kill."""

_HINT: Final = "remove it, and hash from the start"


class _Header(canonical.Strict, frozen=True, kw_only=True):
    v: int
    what: str
    of: str


class _Line(canonical.Strict, frozen=True, kw_only=True):
    file: FileMember | None = None
    seen: list[int] | None = None
    at: int = 0
    finished: bool = False


_SEEN: Final = 5
_LINES: Final = msgspec.json.Decoder(_Line)


class HashState:
    """The state file of one run, open and locked. Use it in a ``with``; the methods may be called from any thread."""

    def __init__(self, path: Path, *, of: Path, changed_only: bool, now_ns: Callable[[], int]) -> None:
        """Prepare.

        Args:
            path: of the state file; made if it is not there.
            of: what is hashed; a state of something else is refused.
            changed_only: trust what a finished run left too. An interrupted one is always gone on with.
            now_ns: the time, in nanoseconds since 1970.
        """
        self.path = path
        self.taken = 0
        """How many files did not need to be read."""
        self._of = str(of.resolve())
        self._changed_only = changed_only
        self._now_ns = now_ns
        self._descriptor = -1
        self._known: dict[str, bytes] = {}
        self._waiting: list[bytes] = []
        self._saved_ns = 0
        self._began_ns = now_ns()  # of the run: no file of it was opened before
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Open, lock and read the file.

        Raises:
            UsageError: ``state-not-ours``: others could have written it; or it is of something else.
            DecodeError: ``state-undecodable``.
            UndecidedError: ``state-in-use``, or it cannot be written.
        """
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            self._descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot be opened ({error.strerror})",
                hint="name a file of your own, in a folder that is there",
            ) from error
        try:
            self._check_owner()
            self._read()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._save()
        finally:
            os.close(self._descriptor)

    def known(self, name: str, status: os.stat_result) -> FileEntry | None:
        """Return the entry of a file that is as it was when it was hashed; None where it has to be hashed."""
        found = self._known.get(name)
        if found is None:
            return None
        line = _LINES.decode(found)
        if (
            line.file is None
            or not line.seen
            or line.seen != list(identity(status))
            or max(line.seen[3:]) + SETTLED_NS > line.at
        ):
            return None
        with self._lock:
            self.taken += 1
        return entry_of(line.file)

    def keep(self, entry: FileEntry, status: os.stat_result) -> None:
        """Remember a file that was hashed.

        Args:
            status: of the file before it was hashed.
        """
        line = _Line(file=member_of(entry), seen=list(identity(status)), at=self._began_ns)
        encoded = msgspec.json.encode(line) + b"\n"
        with self._lock:
            self._waiting.append(encoded)
            if self._now_ns() - self._saved_ns > SAVE_NS:
                self._save()

    def finish(self) -> None:
        """Say that the run came to its end."""
        with self._lock:
            self._waiting.append(msgspec.json.encode(_Line(finished=True)) + b"\n")
            self._save()

    def _check_owner(self) -> None:
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise UsageError(
                f"{self.path}: others can write or read it, or it is no file; whoever writes it decides what is hashed again",
                code="state-not-ours",
                hint=_HINT,
            )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UndecidedError(
                f"{self.path}: another run is using it", code="state-in-use", hint="wait for it, or name another file"
            ) from error

    def _read(self) -> None:
        """Take what a run before this left, or begin."""
        whole, finished, started = 0, False, False
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            while (line := file.readline(MAX_LINE_BYTES + 1)).endswith(b"\n"):
                if started:
                    finished = self._take(line) or finished
                else:
                    self._check_header(line)
                    started = True
                whole += len(line)
            if len(line) > MAX_LINE_BYTES or (line and not started):
                raise self._undecodable("a line that is too long, or no state at all")
        if finished and not self._changed_only:
            self._known.clear()
            whole, started = 0, False
        with _writing(self.path):
            os.ftruncate(self._descriptor, whole)  # half a line of a run that was killed
        if not started:
            header = _Header(v=1, what=WHAT, of=self._of)
            self._waiting.append(msgspec.json.encode(header) + b"\n")
            self._save()

    def _check_header(self, line: bytes) -> None:
        try:
            header = canonical.decode_as(line, _Header, what=str(self.path), max_bytes=MAX_LINE_BYTES)
        except DecodeError as error:
            raise self._undecodable("its first line is not that of a state") from error
        if header.v != 1 or header.what != WHAT:
            raise self._undecodable("of another version or kind")
        if header.of != self._of:
            raise UsageError(f"{self.path}: is the state of {header.of}", hint="name another file for this one")

    def _take(self, data: bytes) -> bool:
        """Remember a line; tell whether it says that a run came to its end."""
        try:
            line = _LINES.decode(data)
            if line.file is not None and line.seen is not None and len(line.seen) == _SEEN:
                entry_of(line.file)
                self._known[line.file.name] = data
                return False
        except (msgspec.MsgspecError, UnicodeError, DecodeError) as error:
            raise self._undecodable(f"a line of something else ({type(error).__name__})") from error
        if not line.finished:
            raise self._undecodable("a line without a file")
        return True

    def _undecodable(self, why: str) -> DecodeError:
        return DecodeError(f"{self.path}: {why}", code="state-undecodable", hint=_HINT)

    def _save(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._saved_ns = self._now_ns()
        with _writing(self.path):
            while data:
                data = data[os.write(self._descriptor, data) :]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "free some space, or name a file elsewhere"
        raise UndecidedError(f"{path}: cannot be written ({error.strerror})", code="not-written", hint=hint) from error
