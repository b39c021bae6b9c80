# SPDX-License-Identifier: Apache-2.0
"""What this noun needs from outside: a place for bytes, and something that runs a model.

Public methods guard the contract; adapters write the ones with an underscore.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from chopmark.artifacts.model import Digest
from chopmark.errors import UndecidedError, UsageError, VerificationError, foreign

_STORE_HINT: Final = "check that the store can be reached, and who may use it"


class BlobStore(ABC):
    """Bytes by their digest.

    Guarantee: a blob is durable once :meth:`put` returns, and :meth:`get` returns the bytes of that digest or raises.
    """

    @abstractmethod
    def _put(self, data: bytes) -> Digest: ...

    @abstractmethod
    def _get(self, digest: Digest) -> bytes: ...

    def put(self, data: bytes) -> Digest:
        """Keep *data*; keeping it again changes nothing.

        Raises:
            UndecidedError: it could not be written.
        """
        with foreign(UndecidedError, "the store does not take a blob", code="not-written", hint=_STORE_HINT):
            return self._put(data)

    def get(self, digest: Digest) -> bytes:
        """Return the bytes of *digest*.

        Raises:
            UndecidedError: not there, or the store cannot be reached.
            VerificationError: the store holds other bytes under it.
        """
        with foreign(UndecidedError, f"{digest}: cannot be read", code="not-read", hint=_STORE_HINT):
            return self._get(digest)


class Session(ABC):
    """A loaded model: rows of numbers in, rows of numbers out.

    A row is one example: the elements of all inputs, in the model's order. The answer is the model's first output, flat.
    One thread at a time uses a session.
    """

    @abstractmethod
    def width(self, open_size: int = 1) -> int:
        """Return how many numbers a row has, where each size that the model leaves open is *open_size*."""

    @abstractmethod
    def _run(self, rows: Sequence[Sequence[float]]) -> list[list[float]]: ...

    def run(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        """Return one row of outputs for each row of inputs.

        Raises:
            UsageError: no rows, or rows of different lengths.
            VerificationError: the model cannot compute them, or answers with another number of rows.
        """
        if not rows or any(len(row) != len(rows[0]) for row in rows):
            raise UsageError("inputs are one row or more, all of one length")
        hint = "compare the inputs with the model's"
        with foreign(VerificationError, "the model could not be run", code="model-not-runnable", hint=hint, quote=True):
            answers = self._run(rows)
        if len(answers) != len(rows):
            raise VerificationError(
                f"{len(answers)} rows of outputs for {len(rows)} of inputs", code="model-not-runnable"
            )
        return answers


class Runtime(ABC):
    """Something that loads models.

    Guarantee: only the bytes that were given are read, no file beside them; nothing is written or reported anywhere.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """As a release names it: ``onnxruntime``."""

    @property
    @abstractmethod
    def version(self) -> str:
        """As a release's range compares it: ``1.32.0``."""

    @abstractmethod
    def _load(self, model: bytes | int) -> Session: ...

    def load(self, model: bytes | int) -> Session:
        """Return a session over a verified model.

        Args:
            model: its bytes, or the descriptor of a sealed memory file that stays open while this runs.

        Raises:
            VerificationError: it is no model that this runtime can load.
        """
        what, hint = f"{self.name} cannot load the model", "compare the runtime with the release's"
        with foreign(VerificationError, what, code="model-not-loadable", hint=hint, quote=True):
            return self._load(model)
