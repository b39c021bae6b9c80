# SPDX-License-Identifier: Apache-2.0
"""What a recorder works with: this machine's Git and clock, a key, and the workspace that it is used in."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from chopmark.adapters.kms import file as kms
from chopmark.adapters.processes.source import GitSource
from chopmark.builds import Builder, SourceTree
from chopmark.clock import Clock, SystemClock
from chopmark.errors import UndecidedError, UsageError
from chopmark.keys import Signer
from chopmark.release.workspace import Workspace, open_workspace
from chopmark.statements import Envelope, Statement, sign

BUILDER: Final = "builder"
NOBODY: Final = "https://chopmark.dev/builder/unnamed"
"""The builder outside of any workspace: whoever holds the key says who that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where a run is signed and recorded.

    Attributes:
        signers: none leaves the statement unsigned.
        log: records a signed statement; None where there is no workspace.
        unsigned: why it is not signed, for people; "" where it is.
    """

    builder: Builder
    clock: Clock
    new_id: Callable[[], str]
    source: Callable[[Path], SourceTree]
    signers: Sequence[Signer] = ()
    log: Callable[[Envelope], int] | None = None
    unsigned: str = ""

    def sign(self, statement: Statement) -> Envelope | None:
        """Return *statement* signed, or None where nobody signs here."""
        return sign(statement, self.signers) if self.signers else None


def open_desk(folder: Path, *, key: str | Path | None, signed: bool) -> Desk:
    """Return where a run in *folder* is signed: with *key*; else as the builder of the workspace that *folder* is in.

    Raises:
        UsageError, UndecidedError: *key* cannot be used; the workspace cannot be read.
    """
    workspace = _workspace(folder)
    name = NOBODY if workspace is None else f"https://chopmark.dev/builder/{workspace.name}"
    signers: Sequence[Signer] = ()
    log, unsigned = None, ""
    if not signed:
        unsigned = "not asked to sign"
    elif key is not None:
        signers = (kms.load(Path(key)),)
    elif workspace is None:
        unsigned = "in no workspace and without a key: record(…, key=FILE) signs it"
    else:
        try:
            signers, log = kms.load_all(workspace.owner_keys(BUILDER)), _log_of(workspace)
        except UndecidedError as error:
            unsigned = f"{error.message}; {error.hint}"
    return Desk(
        builder=Builder(id=name, version={"chopmark": _own_version(), "python": platform.python_version()}),
        clock=SystemClock(),
        new_id=lambda: str(uuid.uuid4()),
        source=GitSource,
        signers=signers,
        log=log,
        unsigned=unsigned,
    )


def _own_version() -> str:
    try:
        return version("chopmark")
    except PackageNotFoundError:
        return "unknown"  # run from its source without being installed


def _workspace(folder: Path) -> Workspace | None:
    try:
        return open_workspace(folder)
    except UsageError as error:
        if error.code == "no-workspace":
            return None
        raise


def _log_of(workspace: Workspace) -> Callable[[Envelope], int]:
    """Return what logs a statement: the ledger is opened for it alone, since a training takes hours and others append."""

    def log(envelope: Envelope) -> int:
        from chopmark.adapters.blobs.folder import FolderBlobs
        from chopmark.apps.cli.ledger.wiring import LogSite  # one way into a ledger, whatever store it has
        from chopmark.release.evidence import StatementLedger

        site = LogSite(workspace.log_place(workspace.trusted()[1]))
        try:
            return StatementLedger(site.ledger, FolderBlobs(workspace.blobs)).log(envelope)
        finally:
            for store in site.stores:
                store.close()

    return log
