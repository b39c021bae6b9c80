# SPDX-License-Identifier: Apache-2.0
"""What this noun needs from outside: a place for bytes, and something that runs a model.

Where a public method is not abstract, it guards the contract, and adapters write the one with an underscore.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from chopmark.artifacts.model import Digest
from chopmark.errors import ChopmarkError, UsageError, VerificationError


class BlobStore(ABC):
    """Bytes by their digest.

    Guarantee: a blob is durable once :meth:`put` returns, and :meth:`get` returns the bytes of that digest or raises.
    """

    @abstractmethod
    def put(self, data: bytes) -> Digest:
        """Keep *data*; keeping it again changes nothing.

        Raises:
            UndecidedError: it could not be written.
        """

    @abstractmethod
    def get(self, digest: Digest) -> bytes:
        """Return the bytes of *digest*.

        Raises:
            UndecidedError: not there, or the store cannot be reached.
            VerificationError: the store holds other bytes under it.
        """


class Session(ABC):
    """A loaded model: rows of numbers in, rows of numbers out.

    A row is one example: the elements of all inputs, in the model's order. The answer is the model's first output, flat.
    One thread at a time uses a session.
    """

    @property
    @abstractmethod
    def width(self) -> int:
        """How many numbers a row has."""

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
        try:
            answers = self._run(rows)
        except ChopmarkError:
            raise
        except Exception as error:
            msg = f"the model could not be run ({type(error).__name__}: {str(error)[:200]})"
            raise VerificationError(
                msg, code="model-not-runnable", hint="compare the inputs with the model's"
            ) from error
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
        try:
            return self._load(model)
        except ChopmarkError:
            raise
        except Exception as error:
            msg = f"{self.name} cannot load the model ({type(error).__name__}: {str(error)[:200]})"
            raise VerificationError(
                msg, code="model-not-loadable", hint="compare the runtime with the release's"
            ) from error
