# SPDX-License-Identifier: Apache-2.0
"""What a channel needs from outside: its files, a place to publish them, and a way to the security host.

Public methods guard the contract; adapters write the ones with an underscore.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Final

from chopmark.errors import DecodeError, UndecidedError, foreign

_STORE_HINT: Final = "check that the channel's store can be reached, and who may write there"


class MissingError(UndecidedError):
    """The server answered, and has no such file."""

    code = "missing"

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="nothing is published there yet, or this is the address of something else")


class Fetcher(ABC):
    """A channel's files, by relative path. Trusted with nothing: it may lie, delay and withhold.

    Guarantee: :meth:`fetch` returns at most *max_bytes* bytes, or raises an error of ours.
    """

    @abstractmethod
    def _fetch(self, path: str, max_bytes: int) -> bytes: ...

    def fetch(self, path: str, *, max_bytes: int) -> bytes:
        """Return the file at *path*.

        Raises:
            MissingError: there is none.
            UndecidedError: the channel cannot be reached.
            DecodeError: the file is longer than *max_bytes*.
        """
        hint = "check the network and the channel's address"
        with foreign(UndecidedError, f"{path}: could not be fetched", code="unreachable", hint=hint):
            data = self._fetch(path, max_bytes)
        if len(data) > max_bytes:
            raise DecodeError(f"{path}: more than the {max_bytes:,} bytes allowed")
        return data


class ChannelStore(ABC):
    """Where a channel is published: a folder or bucket of static files, written by operators only.

    Guarantees: a write is durable once it returns; readers see a file whole or not at all; :meth:`put_new` and
    :meth:`swap` hold across processes, so that of two operators at once one wins and the other is told.
    """

    @abstractmethod
    def _get(self, path: str) -> bytes | None: ...

    @abstractmethod
    def _put_new(self, path: str, data: bytes) -> bool: ...

    @abstractmethod
    def _replace(self, path: str, data: bytes) -> None: ...

    @abstractmethod
    def _swap(self, path: str, old: bytes | None, new: bytes) -> bool: ...

    def get(self, path: str) -> bytes | None:
        """Return the file at *path*, or None."""
        with foreign(UndecidedError, f"{path}: cannot be read", code="not-read", hint=_STORE_HINT):
            return self._get(path)

    def put_new(self, path: str, data: bytes) -> bool:
        """Write *path* if nothing is there; tell whether *data* is there now.

        Raises:
            UndecidedError: it could not be written; so for :meth:`replace` and :meth:`swap`.
        """
        with _written(path):
            return self._put_new(path, data)

    def replace(self, path: str, data: bytes) -> None:
        """Write *path*, whatever was there."""
        with _written(path):
            self._replace(path, data)

    def swap(self, path: str, old: bytes | None, new: bytes) -> bool:
        """Replace *path* by *new* if it still is *old* (None: absent); tell whether it was."""
        with _written(path):
            return self._swap(path, old, new)


class SecurityHost(ABC):
    """A way to the security host. It verifies what it is given and believes no caller.

    Guarantee: when :meth:`submit` returns, the host has taken what it was given.
    """

    @abstractmethod
    def _submit(self, envelope: bytes) -> None: ...

    def submit(self, envelope: bytes) -> None:
        """Hand in a signed revocation or hold.

        Raises:
            VerificationError: the host refused it.
            UndecidedError: the host cannot be reached.
        """
        hint = "start it: chopmark serve --only security"
        with foreign(UndecidedError, "the security host cannot be reached", code="unreachable", hint=hint):
            self._submit(envelope)


def _written(path: str) -> AbstractContextManager[None]:
    return foreign(UndecidedError, f"{path}: cannot be written", code="not-written", hint=_STORE_HINT)
