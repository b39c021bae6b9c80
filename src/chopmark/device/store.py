# SPDX-License-Identifier: Apache-2.0
"""The device's state file, and the roots and trust files it accepted. Step 1.

A state that cannot be believed is copied to ``evidence/`` before a new one takes its place. A state that could not be read
back is not written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from chopmark.artifacts import Digest, read_file
from chopmark.device.folder import Folder
from chopmark.device.model import FileVersion, State
from chopmark.device.ports import Counter
from chopmark.device.wire import MAX_STATE_BYTES, decode_state, encode_state
from chopmark.errors import DecodeError, Refused, UndecidedError, UsageError
from chopmark.trust import MAX_ROOT_BYTES, MAX_TRUST_BYTES, TrustedRoot, TrustPolicy, decode_trust, pinned_root


class StateStore:
    """Reads and replaces the state.

    Args:
        key: of the state's MAC; see :func:`chopmark.device.wire.state_key`.
        settings: digest of the files that enrolment wrote, as they are now.
    """

    def __init__(self, folder: Folder, *, key: bytes, settings: Digest, counter: Counter) -> None:
        self._folder = folder
        self._key = key
        self._settings = settings
        self.counter = counter

    def read(self) -> State:
        """Step 1. The caller holds the lock.

        Raises:
            Refused: ``state-corrupt`` (missing, not with this device's MAC, or of other settings), ``state-restored``
                (older than the counter).
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

        A restored state, or one of other settings, is not false: its ratchets stay as lower bounds, its slots are
        forgotten until the refresh has looked at them again. Of a corrupt one only the pin stays: *fresh*.
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
            UndecidedError: locked, not written, or ``not-readable``: it could not be read back. The old state stands.
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
        new = replace(change(state), gen=max(state.gen, self.counter.value()) + 1, settings=self._settings)
        self._folder.write(self._folder.state, self._encode(new), mode=0o600)
        # In this order: a crash in between leaves a state that is newer than the counter, which is fine.
        self.counter.advance(new.gen)
        return new

    def _read(self) -> tuple[State | None, Refused | None]:
        try:
            state = decode_state(read_file(self._folder.state, max_bytes=MAX_STATE_BYTES), self._key)
        except (DecodeError, UsageError) as error:
            return None, Refused("state-corrupt", error.message)
        if state.settings != self._settings:
            return state, Refused(
                "state-corrupt",
                "device.toml or key.pem is not as it was when the state was written",
                hint="undo the change, or let one refresh complete: it goes on with the new settings",
                evidence={"wanted": str(state.settings), "got": str(self._settings)},
            )
        counted = self.counter.value()
        if state.gen < counted:
            return state, Refused("state-restored", evidence={"state": state.gen, "counter": counted})
        return state, None

    def _set_aside(self) -> None:
        try:
            data = read_file(self._folder.state, max_bytes=MAX_STATE_BYTES)
        except (DecodeError, UsageError):
            return  # missing, or nothing that was ever a state of ours
        self._folder.keep_copy(f"state-{hashlib.sha256(data).hexdigest()[:16]}.json", data)

    def _encode(self, state: State) -> bytes:
        data = encode_state(state, self._key)
        try:
            if decode_state(data, self._key) == state:
                return data
        except DecodeError:
            pass
        raise UndecidedError(
            f"the device's state ({len(data):,} bytes) could not be read back",
            code="not-readable",
            hint="the channel is larger, or names more, than a device remembers: see the newest status",
        )


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
