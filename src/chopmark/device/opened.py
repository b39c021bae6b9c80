# SPDX-License-Identifier: Apache-2.0
"""A device as its parts: what is in its folder, and what it was given to work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final

from chopmark.artifacts import read_file
from chopmark.artifacts.ports import Runtime
from chopmark.clock import Clock
from chopmark.device import tidy
from chopmark.device.folder import Folder
from chopmark.device.journal import Journal
from chopmark.device.model import Config, FileVersion, State
from chopmark.device.ports import Counter, SealedMemory
from chopmark.device.store import StateStore, read_root
from chopmark.device.timefloor import trusted_now
from chopmark.device.wire import MAX_CONFIG_BYTES, decode_config, settings_digest, state_key
from chopmark.errors import DecodeError, UndecidedError, UsageError
from chopmark.keys import Signer

SECRET_BYTES: Final = 32
MAX_KEY_BYTES: Final = 16384


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device.

    Attributes:
        runtime: called when the runtime is first needed: importing one takes longer than checking a package.
    """

    folder: Folder
    config: Config
    store: StateStore
    journal: Journal
    clock: Clock
    memory: SealedMemory
    make_runtime: Callable[[], Runtime]

    @cached_property
    def runtime(self) -> Runtime:
        return self.make_runtime()

    def now(self, state: State | None) -> datetime:
        """Step 4: return the time that is believed."""
        return trusted_now(self.clock.now(), self.clock.power_on(), None if state is None else state.floor)

    def fresh_state(self) -> State:
        """Return what a device knows without its state: the pinned root, and where its chain of reports is.

        Raises:
            Refused: ``root-untrusted``.
        """
        pinned = FileVersion(version=0, digest=self.config.pin)
        root = read_root(self.folder, pinned, self.config.pin)
        state = State(gen=0, root=FileVersion(version=root.version, digest=root.digest), reset=root.reset)
        return State(gen=0, root=state.root, reset=state.reset, chain=self.journal.chain(state.chain))

    @property
    def rollback_memory(self) -> str:
        """What keeps the state from being restored: ``software`` where nothing does."""
        return self.store.counter.kind


def open_device(
    path: Path,
    *,
    load_signer: Callable[[Path], Signer],
    clock: Clock,
    memory: SealedMemory,
    counter: Counter,
    runtimes: Callable[[str], Runtime],
) -> Device:
    """Open the device in *path*.

    Args:
        load_signer: opens the device's key from its file.
        runtimes: returns the runtime of a name, when it is first needed.

    Raises:
        UsageError: no device is enrolled there, its configuration or secret cannot be read, or its key is another.
        UndecidedError: its key is not there.
    """
    folder = Folder(path)
    if tidy.is_missing(folder.config):
        raise UsageError(f"{path}: no device is enrolled here", hint="chopmark device enroll")
    data = read_file(folder.config, max_bytes=MAX_CONFIG_BYTES)
    config = decode_config(data)
    signer = load_signer(folder.key)
    if signer.public.keyid != config.key:
        raise UsageError(
            f"{folder.key}: is not the key that was enrolled", hint="put it back, or enrol the device again"
        )
    key = state_key(_secret(folder.secret), config, signer.public)
    return Device(
        folder=folder,
        config=config,
        store=StateStore(folder, key=key, settings=settings_digest(data, key_file(folder)), counter=counter),
        journal=Journal(folder, device=config.device, signer=signer),
        clock=clock,
        memory=memory,
        make_runtime=lambda: runtimes(config.runtime),
    )


def key_file(folder: Folder) -> bytes:
    """Return the file of the device's key as it is; nothing where the key is kept elsewhere.

    Raises:
        UsageError: it cannot be read.
    """
    return b"" if tidy.is_missing(folder.key) else read_file(folder.key, max_bytes=MAX_KEY_BYTES)


def _secret(path: Path) -> bytes:
    if tidy.is_missing(path):
        raise UndecidedError(f"{path}: no such key", code="key-missing", hint="enrol the device again")
    try:
        secret = read_file(path, max_bytes=SECRET_BYTES)
    except DecodeError:
        secret = b""
    if path.stat().st_mode & 0o077:
        raise UsageError(f"{path}: others may read this key", hint=f"chmod 600 {path}; consider it known to them")
    if len(secret) != SECRET_BYTES:
        raise UsageError(f"{path}: is not a secret of {SECRET_BYTES} bytes", hint="enrol the device again")
    return secret
