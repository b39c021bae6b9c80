# SPDX-License-Identifier: Apache-2.0
"""What a device needs from outside: memory nobody can write, a counter nobody can turn back, and its fleet's service.

Runtimes are :mod:`chopmark.artifacts`' port, the channel's files :mod:`chopmark.channel`'s, keys :mod:`chopmark.keys`'.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from chopmark.errors import UndecidedError, foreign
from chopmark.telemetry import Enrolled, EnrolmentRequest


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
        what, hint = f"{name}: could not be copied into sealed memory", "free some memory, and load again"
        with foreign(UndecidedError, what, code="no-memory", hint=hint):
            return self._copy(name, source, max_bytes)


class Counter(ABC):
    """A number that only goes up, kept where a copy of the disk does not bring it back.

    Guarantee: :meth:`advance` is durable once it returns, and never lowers.
    """

    @property
    @abstractmethod
    def kind(self) -> str:
        """``hardware``, ``software`` (there is none) or ``simulated``: what the tier line says."""

    @abstractmethod
    def _value(self) -> int: ...

    @abstractmethod
    def _advance(self, to: int) -> None: ...

    def value(self) -> int:
        """Return the number; 0 where nothing was ever counted.

        Raises:
            UndecidedError: it cannot be read.
        """
        with foreign(UndecidedError, "the counter cannot be read", code="counter-unreadable"):
            return self._value()

    def advance(self, to: int) -> None:
        """Raise the number to *to*; a lower or equal one changes nothing.

        Raises:
            UndecidedError: it cannot be written.
        """
        with foreign(UndecidedError, "the counter cannot be raised", code="counter-unwritten"):
            self._advance(to)


class FleetClient(ABC):
    """The fleet's service. It is asked for an id once and told what happened; it decides nothing for the device.

    Guarantee: an answer of the service, or an error of ours.
    """

    @abstractmethod
    def _enroll(self, request: EnrolmentRequest) -> Enrolled: ...

    @abstractmethod
    def _report(self, data: bytes) -> bytes: ...

    def enroll(self, request: EnrolmentRequest) -> Enrolled:
        """Register a key; the same key again gets the same id.

        Raises:
            UndecidedError: the service cannot be reached.
            VerificationError: it does not accept the token.
            DecodeError: it answers nonsense.
        """
        with _reached():
            return self._enroll(request)

    def report(self, data: bytes) -> bytes:
        """Deliver a signed report; return the encoded envelope of the answer.

        Raises:
            UndecidedError: the service cannot be reached, or is busy.
            VerificationError: it does not accept the report.
        """
        with _reached():
            return self._report(data)


def _reached() -> AbstractContextManager[None]:
    hint = "check the network and the service's address; reports wait in the queue"
    return foreign(UndecidedError, "the service could not be reached", code="unreachable", hint=hint)
