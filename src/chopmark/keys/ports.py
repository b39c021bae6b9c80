# SPDX-License-Identifier: Apache-2.0
"""What this noun needs from outside: something that signs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from chopmark.errors import UndecidedError, VerificationError, foreign
from chopmark.keys.model import PublicKey

Passphrase = Callable[[], bytes]
"""Asks for what opens a key (a passphrase, a PIN), when it is needed; a command line's prompt, for instance."""


class Signer(ABC):
    """A private key that stays where it is: a file, an HSM, a KMS.

    Guarantee: :meth:`sign` returns a signature that :attr:`public` verifies, or raises an error of ours. It may be called
    from any thread.

    Attributes:
        checked: each signature is verified before it is returned, since something outside of this process makes it. An
            adapter says no only where it makes the signature itself, or verifies enough of them itself.
    """

    checked: ClassVar[bool] = True

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
            VerificationError: what came back is no signature of this key (``key-mismatch``).
        """
        what = f"key {self.public.keyid[:8]} could not sign"
        with foreign(UndecidedError, what, code="key-unavailable", hint="check that the key store is reachable"):
            signature = self._sign(message)
        if self.checked:
            self._check(signature, message)
        return signature

    def _check(self, signature: bytes, message: bytes) -> None:
        if not self.public.verify(signature, message):
            raise VerificationError(
                f"what came back is no signature of key {self.public.keyid[:8]}",
                code="key-mismatch",
                hint="the key store holds another key or another version than it says, or something stands in between",
            )
