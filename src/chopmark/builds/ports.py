# SPDX-License-Identifier: Apache-2.0
"""What this noun needs from outside: a place where commands run, and a tree of committed code.

Public methods guard the contract; adapters write the ones with an underscore.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from chopmark.errors import UndecidedError, foreign


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a command ended.

    Attributes:
        exit_code: 0 for success; negative: ended by that signal.
        log: what it printed, both streams in the order written; the middle of a very long log is cut out.
        isolated: it ran without any network.
        timed_out: it was ended because its time was up.
    """

    exit_code: int
    log: bytes
    isolated: bool
    timed_out: bool = False


class Runner(ABC):
    """Runs one command to its end.

    Guarantee: the command sees exactly the given environment; when :meth:`run` returns, neither the command nor a
    process of its group is left.
    """

    @property
    @abstractmethod
    def can_isolate(self) -> bool:
        """Tell whether commands can run without network here."""

    @abstractmethod
    def _run(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: timedelta, isolated: bool
    ) -> Completed: ...

    def run(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: timedelta, isolated: bool
    ) -> Completed:
        """Run *command* in *cwd*.

        Args:
            isolated: without network if that is possible here; the answer says whether it was.

        Raises:
            UsageError: there is no such program.
            UndecidedError: it could not be started.
        """
        with foreign(UndecidedError, f"{command[0]} could not be started", code="build-undecided", quote=True):
            return self._run(command, cwd=cwd, env=env, timeout=timeout, isolated=isolated)


class SourceTree(ABC):
    """A folder in a tree of code under version control.

    Guarantee: :meth:`export` writes exactly what was committed, bytes unchanged, whatever lies in the folder now.
    """

    @property
    @abstractmethod
    def uri(self) -> str:
        """Where the code comes from, without credentials."""

    @property
    @abstractmethod
    def prefix(self) -> str:
        """The folder inside the tree, ``/``-separated; "" for its top."""

    @abstractmethod
    def _commit(self) -> str: ...

    @abstractmethod
    def _changes(self) -> tuple[str, ...]: ...

    @abstractmethod
    def _differing(self, commit: str, files: Mapping[str, bytes]) -> tuple[str, ...]: ...

    @abstractmethod
    def _export(self, commit: str, folder: Path) -> None: ...

    def commit(self) -> str:
        """Return the id of the commit that is checked out: 40 or 64 hexadecimal digits.

        Raises:
            UsageError: no repository, or nothing was committed yet.
        """
        with foreign(UndecidedError, "the repository could not be read", code="build-undecided", quote=True):
            return self._commit()

    def changes(self) -> tuple[str, ...]:
        """Return the names of all files that differ from the commit, untracked ones included, ignored ones not."""
        with foreign(UndecidedError, "the repository could not be read", code="build-undecided", quote=True):
            return self._changes()

    def differing(self, commit: str, files: Mapping[str, bytes]) -> tuple[str, ...]:
        """Return the names of *files* that *commit* does not hold with exactly this content.

        It looks at what is in the files: a change that Git is told to overlook is one.

        Args:
            files: name from the top of the tree -> content.
        """
        with foreign(UndecidedError, "the repository could not be read", code="build-undecided", quote=True):
            return self._differing(commit, files)

    def export(self, commit: str, folder: Path) -> None:
        """Write all files of *commit* below *folder*, which is empty.

        Raises:
            UsageError: it holds a link that leads out of it, or a module of another repository.
        """
        with foreign(UndecidedError, "the commit could not be exported", code="build-undecided", quote=True):
            self._export(commit, folder)
