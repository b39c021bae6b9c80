# SPDX-License-Identifier: Apache-2.0
"""The device's folder: its lock, its state file, and the roots and trust files it accepted. Step 1.

The agent and any number of applications use one folder at once. Who reads to decide holds the lock shared, who changes
holds it alone, nobody holds it over a network call; and only one refresh runs at a time. A state that cannot be believed
is set aside in ``evidence/`` before a new one takes its place: nothing that could tell what happened is deleted.

    device.toml root.json key.pem mac.key  state.json lock  trust/  slots/<model>/{A,B}/  queue/  evidence/
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from chopmark.artifacts import Digest, read_file, write_file
from chopmark.device.model import FileVersion, Slot, State
from chopmark.device.ports import Counter
from chopmark.device.wire import MAX_STATE_BYTES, decode_state, encode_state
from chopmark.errors import DecodeError, Refused, UndecidedError, UsageError
from chopmark.trust import MAX_ROOT_BYTES, MAX_TRUST_BYTES, TrustedRoot, TrustPolicy, decode_trust, pinned_root

LOCK_WAIT_S: Final = 30.0
_LOCK_POLL_S: Final = 0.02


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
    def evidence(self) -> Path:
        return self.path / "evidence"

    def root(self, version: int) -> Path:
        return self.path / "trust" / f"{version}.root.json"

    def trust(self, version: int) -> Path:
        return self.path / "trust" / f"{version}.trust.json"

    def slot(self, model: str, slot: Slot) -> Path:
        return self.path / "slots" / model / str(slot)

    def incoming(self, model: str) -> Path:
        """Where a package is downloaded to before it is moved into a slot."""
        return self.path / "slots" / model / "incoming"

    @contextmanager
    def locked(self, *, shared: bool = False, name: str = "lock", wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
        """Hold the folder's lock.

        Args:
            name: ``lock`` for state and slots, ``refresh.lock`` for being the one that refreshes.

        Raises:
            UndecidedError: ``locked``: another process holds it for longer than *wait_s* seconds.
        """
        try:
            descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise UndecidedError(f"{self.path}: cannot be locked ({error.strerror})", code="locked") from error
        try:
            _lock(descriptor, shared=shared, wait_s=wait_s)
            yield
        finally:
            os.close(descriptor)


def _lock(descriptor: int, *, shared: bool, wait_s: float) -> None:
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, operation)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise UndecidedError(
                    "another process uses this device's folder", code="locked", hint="let it finish, and try again"
                ) from None
            time.sleep(_LOCK_POLL_S)
        else:
            return


class StateStore:
    """Reads and replaces the state.

    Args:
        key: of the state's MAC; see :func:`chopmark.device.wire.state_key`.
    """

    def __init__(self, folder: Folder, *, key: bytes, counter: Counter) -> None:
        self._folder = folder
        self._key = key
        self.counter = counter

    def read(self) -> State:
        """Step 1. The caller holds the lock.

        Raises:
            Refused: ``state-corrupt`` (missing, or not with this device's MAC), ``state-restored`` (older than the
                counter).
            UndecidedError: the counter cannot be read.
        """
        state, failure = self._read()
        if failure is not None:
            raise failure
        if state is None:  # pragma: no cover - _read returns one or the other
            raise Refused("state-corrupt")
        return state

    def recovered(self, fresh: Callable[[], State]) -> tuple[State, Refused | None]:
        """Step 1, for a refresh: return the state, or what to start from when it cannot be believed, and why.

        A restored state is old and not false: its ratchets stay as lower bounds, its slots are forgotten until the
        refresh has looked at them again. Of a corrupt one only the pin stays: *fresh*.
        """
        state, failure = self._read()
        if failure is not None:
            state = replace(fresh() if state is None else state, slots={}, assigned={})
        return (fresh() if state is None else state), failure

    def commit(self, change: Callable[[State], State], *, otherwise: State | None = None) -> State:
        """Replace the state by ``change(state)``, one generation up, and let the counter follow.

        Args:
            otherwise: start from this where the file cannot be believed; the file is set aside.

        Raises:
            Refused: as :meth:`read`, without *otherwise*.
            UndecidedError: locked, or not written; the old state stands.
        """
        with self._folder.locked():
            return self.commit_locked(change, otherwise=otherwise)

    def commit_locked(self, change: Callable[[State], State], *, otherwise: State | None = None) -> State:
        """Do what :meth:`commit` does; the caller holds the lock, not shared."""
        state, failure = self._read()
        if failure is not None:
            if otherwise is None:
                raise failure
            self._set_aside()
            state = otherwise
        if state is None:  # pragma: no cover - _read returns one or the other
            raise Refused("state-corrupt")
        new = replace(change(state), gen=max(state.gen, self.counter.value()) + 1)
        write_file(self._folder.state, encode_state(new, self._key), mode=0o600)
        # In this order: a crash in between leaves a state that is newer than the counter, which is fine.
        self.counter.advance(new.gen)
        return new

    def _read(self) -> tuple[State | None, Refused | None]:
        try:
            state = decode_state(read_file(self._folder.state, max_bytes=MAX_STATE_BYTES), self._key)
        except (DecodeError, UsageError) as error:
            return None, Refused("state-corrupt", error.message)
        counted = self.counter.value()
        if state.gen < counted:
            return state, Refused("state-restored", evidence={"state": state.gen, "counter": counted})
        return state, None

    def _set_aside(self) -> None:
        try:
            data = read_file(self._folder.state, max_bytes=MAX_STATE_BYTES)
        except (DecodeError, UsageError):
            return  # missing, or nothing that was ever a state of ours
        kept = self._folder.evidence / f"state-{hashlib.sha256(data).hexdigest()[:16]}.json"
        if not kept.exists():
            write_file(kept, data, mode=0o600)


def read_root(folder: Folder, wanted: FileVersion, pin: Digest) -> TrustedRoot:
    """Return the root that the state names, or the pinned one where that file is damaged: a refresh goes on from it.

    Raises:
        Refused: ``root-untrusted``: neither is there.
    """
    for path, digest in ((folder.root(wanted.version), wanted.digest), (folder.pinned, pin)):
        try:
            return pinned_root(read_file(path, max_bytes=MAX_ROOT_BYTES), digest)
        except (Refused, DecodeError, UsageError):
            continue
    raise Refused("root-untrusted", "the pinned root.json is missing or altered", evidence={"pin": str(pin)})


def read_trust(folder: Folder, wanted: FileVersion | None) -> TrustPolicy:
    """Return what the trust.json says that the state names.

    Raises:
        Refused: ``trust-mismatch``: missing or altered.
    """
    if wanted is None:
        raise Refused("trust-mismatch", "no trust.json was ever verified here", hint="let the device refresh")
    try:
        data = read_file(folder.trust(wanted.version), max_bytes=MAX_TRUST_BYTES)
        if Digest.of(data) != wanted.digest:
            raise Refused("trust-mismatch", "trust.json on disk is not the one that was verified")
        return decode_trust(data)
    except (DecodeError, UsageError) as error:
        raise Refused("trust-mismatch", error.message) from error
