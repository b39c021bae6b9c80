# SPDX-License-Identifier: Apache-2.0
"""What this noun needs from outside: something that signs."""

from __future__ import annotations

from abc import ABC, abstractmethod

from chopmark.errors import UndecidedError, foreign
from chopmark.keys.model import PublicKey


class Signer(ABC):
    """A private key that stays where it is: a file, an HSM, a KMS.

    Guarantee: :meth:`sign` returns a signature that :attr:`public` verifies, or raises an error of ours.
    """

    @property
    @abstractmethod
    def public(self) -> PublicKey:
        """The public half."""

    @abstractmethod
    def _sign(self, message: bytes) -> bytes: ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature over *message* (the message itself, not a hash of it).

        Raises:
            UndecidedError: the key could not be used.
        """
        what = f"key {self.public.keyid[:8]} could not sign"
        with foreign(UndecidedError, what, code="key-unavailable", hint="check that the key store is reachable"):
            return self._sign(message)
