# SPDX-License-Identifier: Apache-2.0
"""Algorithms, public keys, owners, and how many owners have signed.

An owner counts when *every* algorithm group that a rule requires has a valid signature by a key of that owner. Keys of
one owner never count twice, and one half of a hybrid never counts: that is the difference to a threshold over keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, utils

from chopmark.errors import DecodeError


class Algorithm(StrEnum):
    """Signature algorithms, by the name they have in every format of ours."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"
    ML_DSA_44 = "ml-dsa-44"
    ML_DSA_65 = "ml-dsa-65"


_PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey

_MAX_SPKI_BYTES = 8192


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key, held as its SubjectPublicKeyInfo.

    Attributes:
        algorithm: decided by the key itself, never by whoever sent it.
        spki: DER.
        keyid: SHA-256 of it, hex.
    """

    algorithm: Algorithm
    spki: bytes
    keyid: str
    _key: _PublicKey = field(repr=False, compare=False)

    @classmethod
    def from_spki(cls, spki: bytes) -> PublicKey:
        """Read a SubjectPublicKeyInfo (DER) of an algorithm in :class:`Algorithm`.

        Raises:
            DecodeError: not a key, trailing bytes, or another algorithm or curve.
        """
        try:
            if len(spki) > _MAX_SPKI_BYTES:
                raise ValueError
            key = serialization.load_der_public_key(spki)
            canonical = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise DecodeError("not a public key (SubjectPublicKeyInfo, DER)") from error
        if canonical != spki:
            raise DecodeError("a public key that is not in its one DER form")
        return cls.of(key)

    @classmethod
    def of(cls, key: object) -> PublicKey:
        """Wrap a key object of ``cryptography``.

        Raises:
            DecodeError: an algorithm or curve that is not in :class:`Algorithm`.
        """
        if isinstance(key, _PublicKey) and (
            not isinstance(key, ec.EllipticCurvePublicKey) or isinstance(key.curve, ec.SECP256R1)
        ):
            spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            return cls(_algorithm(key), spki, hashlib.sha256(spki).hexdigest(), key)
        raise DecodeError(
            "a public key of an algorithm that is not used here", hint="use one of: " + ", ".join(Algorithm)
        )

    @classmethod
    def from_raw(cls, algorithm: Algorithm, raw: bytes) -> PublicKey:
        """Read the bare public bytes, as signed notes carry them (Ed25519 and ML-DSA-44).

        Raises:
            DecodeError: wrong length, or an algorithm without a bare form here.
        """
        try:
            if algorithm is Algorithm.ED25519:
                return cls.of(ed25519.Ed25519PublicKey.from_public_bytes(raw))
            if algorithm is Algorithm.ML_DSA_44:
                return cls.of(mldsa.MLDSA44PublicKey.from_public_bytes(raw))
        except ValueError as error:
            raise DecodeError(f"not a public key of {algorithm}") from error
        raise DecodeError(f"{algorithm} has no bare public form")

    @property
    def raw(self) -> bytes:
        """The bare public bytes (Ed25519: 32, ML-DSA-44: 1,312; P-256: the uncompressed point)."""
        if isinstance(self._key, ec.EllipticCurvePublicKey):
            return self._key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        return self._key.public_bytes_raw()

    @property
    def pem(self) -> str:
        return self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode("ascii")

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Tell whether *signature* over *message* is this key's; P-256 signs SHA-256 and writes DER."""
        try:
            if isinstance(self._key, ec.EllipticCurvePublicKey):
                self._key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            else:
                self._key.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def verify_digest(self, signature: bytes, digest: bytes) -> bool:
        """Tell whether *signature* is this key's over what has the SHA-256 *digest*; only P-256 signs a digest."""
        if not isinstance(self._key, ec.EllipticCurvePublicKey):
            return False
        try:
            self._key.verify(signature, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        except (InvalidSignature, ValueError):
            return False
        return True


def _algorithm(key: _PublicKey) -> Algorithm:
    match key:
        case ed25519.Ed25519PublicKey():
            return Algorithm.ED25519
        case ec.EllipticCurvePublicKey():
            return Algorithm.ECDSA_P256
        case mldsa.MLDSA44PublicKey():
            return Algorithm.ML_DSA_44
        case mldsa.MLDSA65PublicKey():
            return Algorithm.ML_DSA_65


def read_public_key(pem: bytes) -> PublicKey:
    """Read a public key from PEM.

    Raises:
        DecodeError: not PEM, or an algorithm that is not used here.
    """
    try:
        return PublicKey.of(serialization.load_pem_public_key(pem))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DecodeError("not a public key (PEM)") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A person or machine that answers for some keys."""

    name: str
    keys: tuple[PublicKey, ...]


AlgorithmGroup = frozenset[Algorithm]
"""Algorithms of which any one will do; a rule requires every group it lists."""

HYBRID: tuple[AlgorithmGroup, ...] = (
    frozenset({Algorithm.ED25519, Algorithm.ECDSA_P256}),
    frozenset({Algorithm.ML_DSA_65}),
)
"""The default rule: one classical and one post-quantum signature, both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerRule:
    """At least *k* of *owners*, each with all of *algorithms*."""

    owners: tuple[Owner, ...]
    k: int
    algorithms: tuple[AlgorithmGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerCount:
    """Who counted, and who came with half a signature.

    Attributes:
        counted: owners with a valid signature of every group, in the rule's order.
        partial: owner -> the groups that are missing, as text; e.g. a hybrid with one half stripped.
        k: how many were needed.
    """

    counted: tuple[str, ...]
    partial: Mapping[str, tuple[str, ...]]
    k: int

    @property
    def met(self) -> bool:
        return self.k > 0 and len(self.counted) >= self.k

    def evidence(self) -> dict[str, str]:
        """Return what was counted, for an error: who signed, how many are needed, who came with half a signature."""
        halves = "; ".join(f"{owner} lacks {' and '.join(groups)}" for owner, groups in self.partial.items())
        found = {"signed": ", ".join(self.counted) or "nobody", "needed": str(self.k)}
        return found | ({"halves": halves} if halves else {})

    def explain(self) -> str:
        """Return one line for a person: who signed, who is missing what."""
        count = f"{len(self.counted)} of {self.k} owners signed"
        if len(self.counted) > self.k:
            count = f"{len(self.counted)} owners signed, {self.k} needed"
        words = [count + (f" ({', '.join(self.counted)})" * bool(self.counted))]
        words += [f"{owner} lacks {' and '.join(groups)}" for owner, groups in self.partial.items()]
        return "; ".join(words)


def count_owners(rule: OwnerRule, signatures: Iterable[tuple[str, bytes]], message: bytes) -> OwnerCount:
    """Count the owners of *rule* that signed *message*.

    Args:
        signatures: (key id, signature); unknown key ids are passed over, a bad signature of a known key does not count.
    """
    keys = {key.keyid: key for owner in rule.owners for key in owner.keys}
    # The first signature of a key decides, so that a thousand copies cost one verification.
    first = dict(reversed([(keyid, signature) for keyid, signature in signatures if keyid in keys]))
    return count_valid(rule, {keyid for keyid, signature in first.items() if keys[keyid].verify(signature, message)})


def count_valid(rule: OwnerRule, keyids: Collection[str]) -> OwnerCount:
    """Count the owners of *rule*, given the ids of keys whose signatures were verified."""
    counted: list[str] = []
    partial: dict[str, tuple[str, ...]] = {}
    for owner in rule.owners:
        valid = {key.algorithm for key in owner.keys if key.keyid in keyids}
        missing = tuple("|".join(sorted(group)) for group in rule.algorithms if not group & valid)
        if valid and not missing and rule.algorithms:
            counted.append(owner.name)
        elif valid:
            partial[owner.name] = missing
    return OwnerCount(counted=tuple(counted), partial=partial, k=rule.k)
