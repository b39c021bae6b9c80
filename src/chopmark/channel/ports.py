# SPDX-License-Identifier: Apache-2.0
"""What a follower needs from outside: bytes by path, from wherever the channel is served."""

from __future__ import annotations

from abc import ABC, abstractmethod

from chopmark.errors import ChopmarkError, DecodeError, UndecidedError


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
        try:
            data = self._fetch(path, max_bytes)
        except ChopmarkError:
            raise
        except Exception as error:
            raise UndecidedError(
                f"{path}: could not be fetched ({type(error).__name__})",
                code="unreachable",
                hint="check the network and the channel's address",
            ) from error
        if len(data) > max_bytes:
            raise DecodeError(f"{path}: more than the {max_bytes:,} bytes allowed")
        return data


class ChannelStore(ABC):
    """Where a channel is published: a folder or bucket of static files, written by operators only.

    Guarantees: a write is durable once it returns; readers see a file whole or not at all; :meth:`put_new` and
    :meth:`swap` hold across processes, so that of two operators at once one wins and the other is told.
    """

    @abstractmethod
    def get(self, path: str) -> bytes | None:
        """Return the file at *path*, or None."""

    @abstractmethod
    def put_new(self, path: str, data: bytes) -> bool:
        """Write *path* if nothing is there; tell whether *data* is there now."""

    @abstractmethod
    def replace(self, path: str, data: bytes) -> None:
        """Write *path*, whatever was there."""

    @abstractmethod
    def swap(self, path: str, old: bytes | None, new: bytes) -> bool:
        """Replace *path* by *new* if it still is *old* (None: absent); tell whether it was."""
