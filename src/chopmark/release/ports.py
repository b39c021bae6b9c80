# SPDX-License-Identifier: Apache-2.0
"""What releases need from outside: a Git repository, the statements of a ledger, and a ledger to write to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from chopmark.statements import Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Committer:
    """Who a commit is by.

    Attributes:
        key: OpenSSH private key file (Ed25519) that signs it.
    """

    name: str
    email: str
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit, and whose signature on it was found good.

    Attributes:
        id: full hexadecimal object name.
        signer: principal of the allowed-signers file; empty where the commit is unsigned, altered or by a stranger.
        fingerprint: ``SHA256:…`` of the signing key, empty as above.
    """

    id: str
    parents: tuple[str, ...]
    signer: str
    fingerprint: str
    subject: str


class GitHost(ABC):
    """A Git repository that holds the desired state.

    Guarantees: a commit id names the same bytes for ever. A branch moves only by compare-and-swap: when it is not where
    the caller saw it, nothing changes (``ref-moved``). Every commit made here is signed. Files that a person has
    changed and not committed are never overwritten (``dirty-tree``). Nothing that the repository's content or a user's
    configuration asks to be run is run. Errors are ours.
    """

    @abstractmethod
    def head(self, branch: str) -> str | None:
        """Return the commit that *branch* points to, or None where there is no such branch."""

    @abstractmethod
    def read(self, commit: str, path: str, *, max_bytes: int) -> bytes | None:
        """Return the regular file *path* at *commit*, or None where there is none.

        Raises:
            DecodeError: longer than *max_bytes*.
        """

    @abstractmethod
    def read_folder(self, commit: str, folder: str, *, max_bytes: int) -> dict[str, bytes]:
        """Return path -> content of the regular files directly in *folder* at *commit*, sorted by path.

        Raises:
            DecodeError: one is longer than *max_bytes*.
        """

    @abstractmethod
    def changed(self, before: str, after: str) -> tuple[str, ...]:
        """Return the paths that differ between two commits, sorted."""

    @abstractmethod
    def merge_base(self, one: str, other: str) -> str | None:
        """Return the best common ancestor."""

    @abstractmethod
    def is_ancestor(self, older: str, newer: str) -> bool:
        """Tell whether *newer* contains *older*; an unknown *older* is contained in nothing."""

    @abstractmethod
    def last_change(self, commit: str, path: str) -> tuple[str, str | None] | None:
        """Return the newest commit on the first-parent line of *commit* that changed *path*, and its first parent."""

    @abstractmethod
    def log(self, since: str | None, to: str, *, allowed_signers: str) -> tuple[Commit, ...]:
        """Return every commit that *to* contains and *since* does not, oldest first, merged branches included.

        Args:
            allowed_signers: the text of an OpenSSH allowed-signers file; nothing else makes a signature good.
        """

    @abstractmethod
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
        """Write *files* (None deletes) on top of *parent* and move *branch* there; return the new commit.

        A branch that does not exist is made at *parent*; None makes a first commit.
        """

    @abstractmethod
    def merge(self, commit: str, *, into: str, expect: str, message: str, by: Committer, at: datetime) -> str:
        """Merge *commit* into the branch *into*, which is at *expect*, always with a merge commit; return that.

        Raises:
            UsageError: ``merge-conflict``; nothing changed.
        """


class EvidenceSource(Protocol):
    """Every statement that a ledger holds."""

    def statements(self) -> Iterable[tuple[int, Envelope]]:
        """Yield (index, envelope), oldest first, also of entries that hold only a digest of their envelope.

        Raises:
            UndecidedError: the ledger, or an envelope that an entry names, cannot be read.
        """
        ...


class StatementLog(Protocol):
    """A ledger that statements are recorded in."""

    def log(self, envelope: Envelope) -> int:
        """Record *envelope* durably and return its index; one that is there already keeps its index."""
        ...
