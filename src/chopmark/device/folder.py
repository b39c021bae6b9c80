# SPDX-License-Identifier: Apache-2.0
"""The device's folder: where things are, its locks, and how they are written though somebody put something in the way.

The agent and any number of applications use one folder at once. Who reads to decide holds the lock shared, who changes
holds it alone, nobody holds it over a network call; and only one refresh runs at a time. Somebody who can write the folder
can hold a lock for ever: then nothing is decided, and nothing is loaded.

What is no file where a file belongs, or no folder where a folder belongs, is moved to ``evidence/``; so is what was
damaged. The first :data:`MAX_KEPT` things there are kept, for they tell what happened; what comes later is removed.

    device.toml root.json key.pem mac.key  state.json lock  trust/  slots/<model>/{A,B}/  queue/  evidence/
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chopmark.artifacts import TEMPORARY, make_folder, write_file
from chopmark.device import tidy
from chopmark.device.model import Slot
from chopmark.errors import UndecidedError, foreign

LOCK_WAIT_S: Final = 30.0
MAX_KEPT: Final = 256
"""How much ``evidence/`` holds: somebody who damages things for ever must not fill the disk with it."""
_LOCK_POLL_S: Final = 0.02
_INCOMING: Final = "incoming"
_NOT_WRITTEN: Final = "check who owns the device's folder"


@dataclass(frozen=True, slots=True)
class Folder:
    """Where things are."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "device.toml"

    @property
    def pinned(self) -> Path:
        return self.path / "root.json"

    @property
    def key(self) -> Path:
        return self.path / "key.pem"

    @property
    def secret(self) -> Path:
        return self.path / "mac.key"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def queue(self) -> Path:
        return self.path / "queue"

    @property
    def delivered(self) -> Path:
        """The newest report that the service has."""
        return self.path / "delivered.json"

    @property
    def answer(self) -> Path:
        """The service's answer to it."""
        return self.path / "answer.json"

    @property
    def evidence(self) -> Path:
        return self.path / "evidence"

    def root(self, version: int) -> Path:
        return self._trust / f"{version}.root.json"

    def trust(self, version: int) -> Path:
        return self._trust / f"{version}.trust.json"

    def slot(self, model: str, slot: Slot) -> Path:
        return self.path / "slots" / model / str(slot)

    def incoming(self, model: str) -> Path:
        """Where a package is downloaded to before it is moved into a slot."""
        return self.path / "slots" / model / _INCOMING

    @property
    def _trust(self) -> Path:
        return self.path / "trust"

    # Locks

    @contextmanager
    def locked(self, *, shared: bool = False, name: str = "lock", wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
        """Hold the folder's lock.

        Args:
            name: ``lock`` for state and slots, ``refresh.lock`` for being the one that refreshes.

        Raises:
            UndecidedError: ``locked``: another process holds it for longer than *wait_s* seconds.
        """
        until = time.monotonic() + wait_s
        # In line first: readers that follow upon each other without a gap must not keep a writer out for ever.
        line = self._take(f"{name}.next", shared=False, until=until)
        try:
            descriptor = self._take(name, shared=shared, until=until)
        finally:
            os.close(line)
        try:
            yield
        finally:
            os.close(descriptor)

    def _take(self, name: str, *, shared: bool, until: float) -> int:
        operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        while True:
            descriptor = self._open_lock(self.path / name)
            try:
                fcntl.flock(descriptor, operation)
                # Whoever holds a file that was moved away meanwhile holds nothing.
                if os.path.samestat(os.fstat(descriptor), (self.path / name).lstat()):
                    return descriptor
            except OSError:
                pass
            os.close(descriptor)
            if time.monotonic() >= until:
                raise UndecidedError(
                    "another process uses this device's folder", code="locked", hint="let it finish, and try again"
                )
            time.sleep(_LOCK_POLL_S)

    def _open_lock(self, path: Path) -> int:
        try:
            return _open_lock(path)
        except OSError as error:
            if tidy.is_missing(path) or (tidy.is_file(path) and os.access(path, os.R_OK | os.W_OK, effective_ids=True)):
                raise UndecidedError(f"{path}: cannot be locked ({error.strerror})", code="locked") from error
        self.set_aside(path)
        with foreign(UndecidedError, f"{path}: cannot be locked", code="locked"):
            return _open_lock(path)

    # Writing; whoever changes holds the lock, not shared

    def write(self, path: Path, data: bytes, *, mode: int = 0o644) -> None:
        """Replace *path*, which is below this folder, by *data*; what is in the way is set aside.

        Raises:
            UndecidedError: ``not-written``: what was there stands.
        """
        self._make_way(path)
        write_file(path, data, mode=mode)

    def move(self, path: Path, to: Path) -> None:
        """Move a file; what is in the way is set aside.

        Raises:
            UndecidedError: ``not-written``.
        """
        self._make_way(to)
        with foreign(UndecidedError, f"{path}: cannot be moved", code="not-written", hint=_NOT_WRITTEN):
            path.replace(to)

    def make(self, folder: Path) -> None:
        """Make *folder*, which is below this one, and what is missing above it; what is in the way is set aside.

        Raises:
            UndecidedError: ``not-written``.
        """
        path = self.path
        for name in folder.relative_to(self.path).parts:
            path /= name
            if not tidy.is_folder(path) and not tidy.is_missing(path):
                self.set_aside(path)
            tidy.own(path)
        with foreign(UndecidedError, f"{folder}: cannot be made", code="not-written", hint=_NOT_WRITTEN):
            make_folder(folder)

    def set_aside(self, path: Path) -> None:
        """Move what is at *path* to ``evidence/``.

        Raises:
            UndecidedError: ``not-written``.
        """
        if self._evidence_is_full():
            self.discard(path)
        else:
            self._keep(path)

    def keep_copy(self, name: str, data: bytes) -> None:
        """Write *data* to ``evidence/``.

        Raises:
            UndecidedError: ``not-written``.
        """
        if tidy.is_missing(self.evidence / name) and not self._evidence_is_full():
            self.write(self.evidence / name, data, mode=0o600)

    def discard(self, path: Path) -> None:
        """Remove what is at *path*, or at least take it away from there.

        Raises:
            UndecidedError: ``not-written``.
        """
        try:
            tidy.remove(path)
        except UndecidedError:
            self._keep(path)

    def sweep(self, trusted: Collection[Path] = ()) -> None:
        """Remove what interrupted writes and installations left. Nothing depends on it.

        Args:
            trusted: if any are given, the only files in ``trust/`` that are still of use.
        """
        for folder in (self.path, self.queue, self.evidence, self._trust):
            _remove_all(path for path in tidy.entries(folder) if path.match(TEMPORARY))
        _remove_all(path for path in tidy.entries(self._trust) if trusted and path not in trusted)
        wanted = {*map(str, Slot), _INCOMING}
        for model in tidy.entries(self.path / "slots"):
            _remove_all(path for path in tidy.entries(model) if path.name not in wanted)

    def make_room(self) -> None:
        """Remove what can be fetched again: half a package must not keep a revocation from being written."""
        self.sweep()
        for model in tidy.entries(self.path / "slots"):
            _remove_all([model / _INCOMING] if tidy.is_folder(model) else [])

    def _make_way(self, path: Path) -> None:
        self.make(path.parent)
        if not tidy.is_file(path) and not tidy.is_missing(path):
            self.set_aside(path)

    def _evidence_is_full(self) -> bool:
        return len(tidy.entries(self.evidence)) >= MAX_KEPT

    def _keep(self, path: Path) -> None:
        with foreign(UndecidedError, f"{path}: cannot be moved away", code="not-written", hint=_NOT_WRITTEN):
            found = path
            if not tidy.is_folder(self.evidence) and not tidy.is_missing(self.evidence):
                found = self.path / f"evidence.{secrets.token_hex(8)}"
                self.evidence.rename(found)
            self.evidence.mkdir(mode=tidy.OWN, exist_ok=True)
            tidy.own(self.evidence)
            for one in {found, path} - {self.evidence}:
                tidy.own(one)  # a folder is moved by who may write it
                one.rename(self.evidence / f"{one.name}.{secrets.token_hex(8)}")


def _remove_all(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(UndecidedError):
            tidy.remove(path)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
