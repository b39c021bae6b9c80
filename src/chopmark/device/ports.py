# SPDX-License-Identifier: Apache-2.0
"""What a device needs from outside: memory nobody can write, a counter nobody can turn back, and its fleet's service.

Runtimes are :mod:`chopmark.artifacts`' port, the channel's files :mod:`chopmark.channel`'s, keys :mod:`chopmark.keys`'.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from chopmark.errors import ChopmarkError, UndecidedError
from chopmark.keys import PublicKey


class Sealed(ABC):
    """Bytes in memory that nobody can change any more, this process included.

    Attributes:
        fd: a descriptor of them, open until :meth:`close`; for a runtime.
        length: bytes.
    """

    fd: int
    length: int

    @abstractmethod
    def read(self) -> bytes:
        """Return all of them."""

    @abstractmethod
    def close(self) -> None:
        """Give the memory back; closing twice changes nothing."""


class SealedMemory(ABC):
    """Where files are copied to before anybody looks at them.

    Guarantee: what :meth:`copy` returns is sealed before its digest is taken, so the bytes that were hashed are the
    bytes that a reader gets.
    """

    @abstractmethod
    def _copy(self, name: str, source: int, max_bytes: int) -> tuple[Sealed, bytes]: ...

    def copy(self, name: str, source: int, *, max_bytes: int) -> tuple[Sealed, bytes]:
        """Return the content of *source* in sealed memory, and its SHA-256.

        Args:
            name: for people who look at the process.
            source: a descriptor, read from its start; at most *max_bytes* + 1 bytes are taken, so that a longer file
                shows by its length.

        Raises:
            UndecidedError: this system has no such memory, or too little of it.
        """
        try:
            return self._copy(name, source, max_bytes)
        except ChopmarkError:
            raise
        except Exception as error:
            raise UndecidedError(
                f"{name}: could not be copied into sealed memory ({type(error).__name__})",
                code="no-memory",
                hint="free some memory, and load again",
            ) from error


class Counter(ABC):
    """A number that only goes up, kept where a copy of the disk does not bring it back.

    Guarantee: :meth:`advance` is durable once it returns, and never lowers.
    """

    @property
    @abstractmethod
    def kind(self) -> str:
        """``hardware``, ``software`` (there is none) or ``simulated``: what the tier line says."""

    @abstractmethod
    def value(self) -> int:
        """Return the number; 0 where nothing was ever counted.

        Raises:
            UndecidedError: it cannot be read.
        """

    @abstractmethod
    def advance(self, to: int) -> None:
        """Raise the number to *to*; a lower or equal one changes nothing.

        Raises:
            UndecidedError: it cannot be written.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What the service gave a new device: its id, and the challenge for its first report."""

    device: str
    nonce: str


class FleetClient(ABC):
    """The fleet's service. It is asked for an id once and told what happened; it decides nothing for the device.

    Guarantee: an answer of the service, or an error of ours.
    """

    @abstractmethod
    def _enroll(self, token: str, key: PublicKey, name: str) -> Enrolled: ...

    @abstractmethod
    def _report(self, data: bytes) -> bytes: ...

    def enroll(self, *, token: str, key: PublicKey, name: str) -> Enrolled:
        """Register *key*; the same key again gets the same id.

        Raises:
            UndecidedError: the service cannot be reached.
            VerificationError: it does not accept the token.
            DecodeError: it answers nonsense.
        """
        try:
            return self._enroll(token, key, name)
        except ChopmarkError:
            raise
        except Exception as error:
            raise _unreachable(error) from error

    def report(self, data: bytes) -> bytes:
        """Deliver a signed report; return the encoded envelope of the answer.

        Raises:
            UndecidedError: the service cannot be reached, or is busy.
            VerificationError: it does not accept the report.
        """
        try:
            return self._report(data)
        except ChopmarkError:
            raise
        except Exception as error:
            raise _unreachable(error) from error


def _unreachable(error: Exception) -> UndecidedError:
    return UndecidedError(
        f"the service could not be reached ({type(error).__name__})",
        code="unreachable",
        hint="check the network and the service's address; reports wait in the queue",
    )
