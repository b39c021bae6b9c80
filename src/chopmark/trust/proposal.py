# SPDX-License-Identifier: Apache-2.0
"""A trust proposal: bytes <-> :class:`Proposal`, strictly. What it says is judged in :mod:`chopmark.trust.change`.

Nothing may stand in it that nobody signs: no note, no annotation, no member of TUF metadata beside ``signed`` and
``signatures``. It is carried between people who look at it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.errors import ChopmarkError, DecodeError

MAX_PROPOSAL_BYTES: Final = 4 * 1024 * 1024
_WHAT: Final = "trust proposal"
_S = TypeVar("_S", Root, Targets)


class _Base(canonical.Strict, frozen=True, kw_only=True):
    version: int
    sha256: str


class _Signature(canonical.Strict, frozen=True, kw_only=True):
    keyid: str
    sig: str


class _Metadata(canonical.Strict, frozen=True, kw_only=True):
    signed: dict[str, Any]
    signatures: list[_Signature]


class _Proposal(canonical.Strict, frozen=True, kw_only=True):
    v: int
    workspace: str
    base: _Base
    root: dict[str, Any]
    trust: dict[str, Any]
    targets: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """The three files of a change, with the signatures that they have so far.

    Attributes:
        base: version and digest of the root that it follows.
        trust: the bytes of trust.json.
    """

    workspace: str
    base_version: int
    base: Digest
    root: Metadata[Root]
    trust: bytes
    targets: Metadata[Targets]

    @property
    def version(self) -> int:
        """The version of the root that it would make."""
        return self.root.signed.version

    @property
    def digest(self) -> Digest:
        """What people compare: the digest of everything that is signed, and of no signature."""
        parts = {
            "base": self.base.hex,
            "root": Digest.of(self.root.signed_bytes).hex,
            "targets": Digest.of(self.targets.signed_bytes).hex,
        }
        return Digest.of(b"chopmark-trust-proposal-v1\0" + canonical.encode(parts))


def encode_proposal(proposal: Proposal) -> bytes:
    """Return the RFC 8785 bytes of *proposal*."""
    return canonical.encode(
        {
            "v": 1,
            "workspace": proposal.workspace,
            "base": {"version": proposal.base_version, "sha256": proposal.base.hex},
            "root": in_order(proposal.root).to_dict(),
            "trust": canonical.decode(proposal.trust, what=_WHAT, max_bytes=MAX_PROPOSAL_BYTES),
            "targets": in_order(proposal.targets).to_dict(),
        }
    )


def decode_proposal(data: bytes) -> Proposal:
    """Read a proposal; what it says is believed by nobody yet: :func:`check`.

    Raises:
        DecodeError: it is none: too long, an unknown member, TUF metadata that is not.
    """
    # Not convert(): it drops members that annotate, and here they are signed.
    value = canonical.decode(data, what=_WHAT, max_bytes=MAX_PROPOSAL_BYTES)
    wire = canonical.convert(value, _Proposal, what=_WHAT)
    if wire.v != 1 or not isinstance(value, dict):
        raise DecodeError(f"{_WHAT}: unknown version")
    if any(name not in _Proposal.__struct_fields__ for name in value):
        raise DecodeError(f"{_WHAT}: a member that nobody signs")
    return Proposal(
        workspace=canonical.decode_name(wire.workspace, what=_WHAT),
        base_version=wire.base.version,
        base=Digest.from_hex(wire.base.sha256),
        root=_metadata(value["root"], Root),
        trust=canonical.encode(value["trust"]),
        targets=_metadata(value["targets"], Targets),
    )


def _metadata(value: Any, kind: type[_S]) -> Metadata[_S]:
    """Return TUF metadata, if it is exactly what it was made of."""
    canonical.convert(value, _Metadata, what=_WHAT)
    if set(value) != {"signed", "signatures"} or any(set(s) != {"keyid", "sig"} for s in value["signatures"]):
        raise DecodeError(f"{_WHAT}: a member that nobody signs")
    try:
        metadata = Metadata[_S].from_dict(copy.deepcopy(value))
        if not isinstance(metadata.signed, kind) or _plain(metadata.to_dict()) != _plain(value):
            raise DecodeError(f"{_WHAT}: {kind.__name__.lower()} holds more, or other things, than it may")
        metadata.signed_bytes  # noqa: B018 - what has no canonical form cannot be signed
    except ChopmarkError:
        raise
    except (RepositoryError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DecodeError(f"{_WHAT}: {kind.__name__.lower()} is no TUF metadata") from error
    return metadata


def _plain(value: Any) -> bytes:
    return canonical.encode({**value, "signatures": sorted(value["signatures"], key=lambda s: str(s.get("keyid")))})


def in_order(metadata: Metadata[_S]) -> Metadata[_S]:
    """Return *metadata* with its signatures in one order, so that copies merged in any order are the same bytes."""
    ordered = copy.deepcopy(metadata)
    ordered.signatures = dict(sorted(ordered.signatures.items()))
    return ordered
