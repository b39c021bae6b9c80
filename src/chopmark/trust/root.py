# SPDX-License-Identifier: Apache-2.0
"""root.json: who may act. A stock TUF root with one signed extra member, ``x-chopmark``.

This file decides steps 2 and 3 of the device's procedure (docs/concepts/trust.md): that a root follows the one before
it under the old *and* the new rule, and that trust.json is the file that root names. TUF's own threshold over keys is
checked first, so that stock clients and we never disagree about more than strictness; then owners are counted.

It does not look at the clock (step 4) and fetches nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import Signature, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, T, Targets
from tuf.api.metadata import Role as TufRole

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.errors import ChopmarkError, DecodeError, Refused, VerificationError
from chopmark.keys import Algorithm, AlgorithmGroup, Owner, OwnerCount, OwnerRule, PublicKey, Signer, count_valid
from chopmark.trust.model import TrustPolicy
from chopmark.trust.wire import decode_trust

EXTENSION: Final = "x-chopmark"
OWNER: Final = "x-owner"
MAX_ROOT_BYTES: Final = 512_000
ONLINE_ROLES: Final = ("timestamp", "snapshot")


class _Rule(canonical.Strict, frozen=True, kw_only=True):
    k: int
    algorithms: list[list[Algorithm]]


class _TrustFile(canonical.Strict, frozen=True, kw_only=True):
    version: int
    length: int
    sha256: str


class _Extension(canonical.Strict, frozen=True, kw_only=True):
    workspace: str
    rule: _Rule
    trust: _TrustFile
    reset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustFile:
    """What root says of trust.json: version, length in bytes, digest."""

    version: int
    length: int
    sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RootClaims:
    """What a root says, whoever signed it: nothing follows from it."""

    workspace: str
    rule: OwnerRule
    trust: TrustFile
    reset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedRoot:
    """A root that was verified against its predecessor or its pin.

    Attributes:
        data: bytes as received.
        tuf: the same, parsed; holds the keys of the online roles.
        rule: whom to count for the next root and for targets.json.
        reset: when it rises, devices drop their ratchets.
    """

    data: bytes
    tuf: Root
    workspace: str
    rule: OwnerRule
    trust: TrustFile
    reset: int

    @property
    def version(self) -> int:
        return self.tuf.version

    @property
    def expires(self) -> datetime:
        return self.tuf.expires

    @property
    def digest(self) -> Digest:
        return Digest.of(self.data)


def pinned_root(data: bytes, pin: Digest) -> TrustedRoot:
    """Read the root that a device or a person pinned by its digest.

    Raises:
        Refused: ``root-untrusted``: other bytes than the pinned, or not a root that signs itself.
    """
    if Digest.of(data) != pin:
        raise Refused("root-untrusted", "this root is not the pinned one", evidence={"pin": str(pin)})
    return _self_signed(data)


def next_root(current: TrustedRoot, data: bytes) -> TrustedRoot:
    """Accept *data* as the root after *current*: one version up, signed under the old and the new rule.

    Raises:
        Refused: ``root-untrusted``.
    """
    new = _self_signed(data)
    if new.version != current.version + 1:
        raise Refused("root-untrusted", f"root {new.version} does not follow root {current.version}")
    if new.workspace != current.workspace or new.reset < current.reset:
        raise Refused("root-untrusted", "the new root is another workspace's, or takes a reset back")
    metadata = _parse(data)
    _check_signed(metadata, current.tuf, current.rule, whose="old")
    return new


def open_trust(root: TrustedRoot, data: bytes) -> TrustPolicy:
    """Return what trust.json says, if it is the file that *root* names.

    Raises:
        Refused: ``trust-mismatch``.
    """
    named = root.trust
    if len(data) != named.length or Digest.of(data) != named.sha256:
        raise Refused("trust-mismatch", evidence={"wanted": str(named.sha256), "got": str(Digest.of(data))})
    try:
        trust = decode_trust(data)
    except DecodeError as error:
        raise Refused("trust-mismatch", error.message) from error
    if trust.version != named.version or trust.workspace != root.workspace:
        raise Refused("trust-mismatch", "trust.json is of another version or workspace than root says")
    return trust


def build_root(
    *,
    workspace: str,
    version: int,
    expires: datetime,
    rule: OwnerRule,
    operator: Sequence[PublicKey],
    trust: TrustFile,
    reset: int = 0,
) -> Metadata[Root]:
    """Return an unsigned root: *rule* for root and targets, *operator* for timestamp and snapshot."""
    root = Root(
        version=version,
        expires=expires,
        consistent_snapshot=True,
        unrecognized_fields={
            EXTENSION: {
                "workspace": workspace,
                "rule": {"k": rule.k, "algorithms": [sorted(str(a) for a in group) for group in rule.algorithms]},
                "trust": {"version": trust.version, "length": trust.length, "sha256": trust.sha256.hex},
                "reset": reset,
            }
        },
    )
    for owner in rule.owners:
        for key in owner.keys:
            for role in ("root", "targets"):
                root.add_key(tuf_key(key, owner=owner.name), role)
    # A key threshold that k whole owners meet and, for stock clients, fewer never do with one key each.
    for role in ("root", "targets"):
        root.roles[role].threshold = rule.k * len(rule.algorithms)
    for key in operator:
        for role in ONLINE_ROLES:
            root.add_key(tuf_key(key, owner="operator"), role)
    return Metadata(root)


_SCHEMES: Mapping[Algorithm, tuple[str, str]] = {
    Algorithm.ED25519: ("ed25519", "ed25519"),
    Algorithm.ECDSA_P256: ("ecdsa", "ecdsa-sha2-nistp256"),
    Algorithm.ML_DSA_44: ("ml-dsa", "ml-dsa-44/1"),
    Algorithm.ML_DSA_65: ("ml-dsa", "ml-dsa-65/1"),
}


def tuf_key(key: PublicKey, *, owner: str) -> SSlibKey:
    """Return *key* as TUF metadata carries it: our key id, and its owner in ``x-owner``."""
    keytype, scheme = _SCHEMES[key.algorithm]
    public = key.raw.hex() if key.algorithm is Algorithm.ED25519 else key.pem
    return SSlibKey(key.keyid, keytype, scheme, {"public": public}, {OWNER: owner})


def sign_metadata(metadata: Metadata[T], signers: Iterable[Signer]) -> None:
    """Add the signatures of *signers* to TUF metadata, over its canonical form."""
    for signer in signers:
        keyid = signer.public.keyid
        message = metadata.signed_bytes
        if signer.public.algorithm in (Algorithm.ML_DSA_44, Algorithm.ML_DSA_65):
            message = b"tuf\x01" + hashlib.sha512(message).digest()  # TAP 21: ML-DSA signs a hash, named as such
        metadata.signatures[keyid] = Signature(keyid, signer.sign(message).hex())


def count_signed(by: Root | Targets, role: str, metadata: Metadata[T], rule: OwnerRule) -> OwnerCount:
    """Count the owners of *rule* that signed *metadata*, by the keys that *by* gives to *role*.

    TUF's own threshold over those keys must be met as well: where it is not, nobody counts.

    Raises:
        VerificationError: *by* has no such role, or the metadata has no canonical form.
    """
    try:
        result = by.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise VerificationError(f"the signatures of {role} cannot be counted ({type(error).__name__})") from error
    # A key id is trusted as a name only where it is the key's own: two ids must not stand for one key.
    signed = {keyid for keyid, key in result.signed.items() if public_key(key).keyid == keyid}
    return count_valid(rule, signed if result.verified else ())


def _parse(data: bytes) -> Metadata[Root]:
    if len(data) > MAX_ROOT_BYTES:
        raise Refused("root-untrusted", f"root.json: more than {MAX_ROOT_BYTES:,} bytes")
    try:
        canonical.decode(data, what="root.json", max_bytes=MAX_ROOT_BYTES)  # no duplicate members, no floats
        metadata = Metadata[Root].from_bytes(data)
    except (RepositoryError, DecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused("root-untrusted", "root.json: cannot be decoded") from error
    if not isinstance(metadata.signed, Root):
        raise Refused("root-untrusted", "root.json: is other metadata")
    return metadata


def _self_signed(data: bytes) -> TrustedRoot:
    metadata = _parse(data)
    claims = read_claims(metadata.signed)
    _check_signed(metadata, metadata.signed, claims.rule, whose="its own")
    return TrustedRoot(
        data=data,
        tuf=metadata.signed,
        workspace=claims.workspace,
        rule=claims.rule,
        trust=claims.trust,
        reset=claims.reset,
    )


def read_claims(root: Root) -> RootClaims:
    """Return what *root* says.

    Raises:
        Refused: ``root-untrusted``: no root that any rule can rest on.
    """
    try:
        extension = canonical.convert(root.unrecognized_fields.get(EXTENSION), _Extension, what="root.json")
        rule = _rule(root, extension.rule)
        named = TrustFile(
            version=extension.trust.version,
            length=extension.trust.length,
            sha256=Digest.from_hex(extension.trust.sha256),
        )
    except Refused:
        raise
    except ChopmarkError as error:
        raise Refused("root-untrusted", error.message) from error
    return RootClaims(workspace=extension.workspace, rule=rule, trust=named, reset=extension.reset)


def _rule(root: Root, rule: _Rule) -> OwnerRule:
    keys = owner_keys(root, root.roles["root"])
    groups: tuple[AlgorithmGroup, ...] = tuple(frozenset(group) for group in rule.algorithms)
    if not 1 <= rule.k <= len(keys) or not groups or not all(groups) or not root.consistent_snapshot:
        raise Refused("root-untrusted", "root.json: a rule that can never be met, or no consistent snapshots")
    if set(root.roles["root"].keyids) != set(root.roles["targets"].keyids):
        raise Refused("root-untrusted", "root.json: root and targets belong to the same owners")
    return OwnerRule(owners=keys, k=rule.k, algorithms=groups)


def owner_keys(source: Root, role: TufRole) -> tuple[Owner, ...]:
    """Return the owners of a TUF role's keys, by ``x-owner``.

    Raises:
        DecodeError: a key without an owner, of an unused algorithm, or with another id than its own.
    """
    owners: dict[str, list[PublicKey]] = {}
    for keyid in role.keyids:
        key = source.keys.get(keyid)
        if key is None:
            raise DecodeError(f"key {str(keyid)[:16]!r} is named and not given")
        owner = key.unrecognized_fields.get(OWNER)
        public = public_key(key)
        if not isinstance(owner, str) or public.keyid != keyid:
            raise DecodeError(f"key {keyid[:16]!r} has no {OWNER}, or is another key than its id says")
        owners.setdefault(owner, []).append(public)
    return tuple(Owner(name=name, keys=tuple(keys)) for name, keys in sorted(owners.items()))


def public_key(key: object) -> PublicKey:
    """Return a TUF key as one of ours.

    Raises:
        DecodeError: its scheme is not one that is used here.
    """
    if isinstance(key, SSlibKey):
        try:
            if (key.keytype, key.scheme) == _SCHEMES[Algorithm.ED25519]:
                return PublicKey.from_raw(Algorithm.ED25519, bytes.fromhex(key.keyval["public"]))
            public = PublicKey.of(load_pem_public_key(key.keyval["public"].encode()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DecodeError("a key in TUF metadata cannot be read") from error
        if _SCHEMES[public.algorithm] == (key.keytype, key.scheme):
            return public
    raise DecodeError("a key in TUF metadata has a scheme that is not used here")


def _check_signed(metadata: Metadata[Root], by: Root, rule: OwnerRule, *, whose: str) -> None:
    try:
        count = count_signed(by, "root", metadata, rule)
    except VerificationError as error:
        raise Refused("root-untrusted", error.message) from error
    if not count.met:
        raise Refused(
            "root-untrusted",
            f"root {metadata.signed.version} does not meet {whose} rule: {count.explain()}",
            evidence=count.evidence(),
        )
