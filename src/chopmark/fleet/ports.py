# SPDX-License-Identifier: Apache-2.0
"""What the fleet needs from outside: a store, somebody to tell, and a look at the ledger."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from chopmark.artifacts import Digest
from chopmark.errors import UndecidedError, foreign
from chopmark.fleet.model import Device, Refusal
from chopmark.telemetry import SeenLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A report that was received: kept for ever, as evidence.

    Attributes:
        data: signed bytes as they came; *answer*: the bytes that were answered.
    """

    digest: Digest
    device: str
    seq: int
    prev: Digest | None
    time: datetime
    data: bytes
    answer: bytes


class FleetStore(ABC):
    """Devices, reports and refusals.

    Guarantees: what is written inside one :meth:`transaction` becomes visible and durable together when the block ends,
    or not at all; transactions of all threads and processes run one after another. Errors are of ours.
    """

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Hold the store for writing; an exception inside undoes everything."""

    @abstractmethod
    def devices(self) -> Sequence[Device]:
        """Return all devices, by id."""

    @abstractmethod
    def device(self, device: str) -> Device | None:
        """Return the device with this id."""

    @abstractmethod
    def device_by_key(self, keyid: str) -> Device | None:
        """Return the device whose key has this id."""

    @abstractmethod
    def put_device(self, device: Device) -> None:
        """Keep *device*, new or changed."""

    @abstractmethod
    def add_report(self, report: Received) -> None:
        """Keep a report; its digest is new."""

    @abstractmethod
    def report(self, digest: Digest) -> Received | None:
        """Return the report with this digest."""

    @abstractmethod
    def successors(self, device: str, prev: Digest | None) -> Sequence[Digest]:
        """Return the reports of *device* that name *prev* as their predecessor, oldest first."""

    @abstractmethod
    def next_refusal(self) -> int:
        """Return the number that the next refusal gets: 1 for the first."""

    @abstractmethod
    def put_refusal(self, refusal: Refusal) -> None:
        """Keep *refusal*, new or changed."""

    @abstractmethod
    def refusal(self, number: int) -> Refusal | None:
        """Return one refusal."""

    @abstractmethod
    def refusals(self, *, device: str | None = None, limit: int = 1000) -> Sequence[Refusal]:
        """Return the newest refusals, newest first."""

    @abstractmethod
    def unalerted(self) -> Sequence[Refusal]:
        """Return the refusals that no sink has taken yet, oldest first."""

    @abstractmethod
    def count_refusals(self) -> int:
        """Return how many refusals there are."""

    @abstractmethod
    def see_checkpoint(self, device: str, log: SeenLog, *, agreed: bool | None) -> None:
        """Keep what *device* saw, and whether the organisation's ledger agreed; None where it is not that far yet.

        What it once agreed or disagreed with stays so.
        """

    @abstractmethod
    def open_checkpoints(self, device: str) -> Sequence[SeenLog]:
        """Return some of what *device* was the first to see and the organisation's ledger has not spoken about."""

    @abstractmethod
    def seen_roots(self, origin: str, size: int, *, confirmed: bool) -> Mapping[bytes, str]:
        """Return each root that was seen of this origin and size, with the device that saw it first.

        Args:
            confirmed: only those that the organisation's ledger agreed with.
        """


class AlertSink(ABC):
    """Somebody who is told: a file, a SIEM. The same finding may be told twice; its uid says so."""

    def send(self, finding: Mapping[str, object]) -> None:
        """Tell; when this returns, the finding is where it should be.

        Raises:
            UndecidedError: it is not.
        """
        hint = "check the sink; the alert is kept and sent again"
        with foreign(UndecidedError, "an alert could not be delivered", code="alert-undelivered", hint=hint):
            self._send(finding)

    @abstractmethod
    def _send(self, finding: Mapping[str, object]) -> None: ...


class LedgerView(Protocol):
    """A look at the organisation's own ledger."""

    def root_at(self, origin: str, size: int) -> bytes | None:
        """Return the root over the first *size* entries; None for another origin, or a size that is not reached."""
        ...
