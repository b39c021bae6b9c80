# SPDX-License-Identifier: Apache-2.0
"""What a monitor remembers, in a folder that people can read.

state.json     how far it is (:mod:`chopmark.ledger.followed`)
events.jsonl   everything that it told, a JSON object on each line
evidence/      checkpoints that contradict each other, as they were signed
lock           held while a monitor looks
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chopmark.artifacts import TEMPORARY, make_folder, read_file, sync_folder, write_file
from chopmark.errors import UndecidedError
from chopmark.ledger.followed import MAX_STATE_BYTES
from chopmark.ledger.ports import MonitorStore

_STATE = "state.json"
_EVENTS = "events.jsonl"
_EVIDENCE = "evidence"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderMonitor(MonitorStore):
    """Files below *folder*, on a local disk; it is made where it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with _written(self._folder):
            make_folder(self._folder)
            lock = os.open(self._folder / "lock", _FLAGS, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                message = f"{self._folder}: another monitor is looking"
                hint = "one monitor for each --state; wait, or name another folder"
                raise UndecidedError(message, code="monitor-busy", hint=hint) from error
            self._tidy()
            yield
        finally:
            os.close(lock)

    def _tidy(self) -> None:
        """Remove what killed writes left; whoever holds the lock is the only one who writes."""
        for folder in (self._folder, self._folder / _EVIDENCE):
            for left in folder.glob(TEMPORARY):
                with _written(left):
                    left.unlink()

    def load(self) -> bytes | None:
        path = self._folder / _STATE
        return read_file(path, max_bytes=MAX_STATE_BYTES) if os.path.lexists(path) else None

    def save(self, state: bytes) -> None:
        write_file(self._folder / _STATE, state, mode=0o600)

    def report(self, events: Sequence[bytes]) -> None:
        path = self._folder / _EVENTS
        with _written(path):
            new = not path.exists()
            with os.fdopen(os.open(path, _FLAGS | os.O_APPEND, 0o600), "wb") as file:
                # A line that a crash cut short gets its end: what it said is told again, on a line of its own.
                end = os.fstat(file.fileno()).st_size
                if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                    file.write(b"\n")
                file.writelines(event + b"\n" for event in events)
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_folder(self._folder)

    def keep(self, name: str, data: bytes) -> str:
        path = self._folder / _EVIDENCE / name
        write_file(path, data)
        return str(path)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "free some space, or check who owns the folder"
        raise UndecidedError(f"{path}: cannot be written ({error.strerror})", code="not-written", hint=hint) from error
