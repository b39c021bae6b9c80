# SPDX-License-Identifier: Apache-2.0
"""A Sigstore ``trusted_root.json``, as far as logs go: which keys a reader believes. A second face, for tools.

The logs of one are read, and a log of ours is written into one, so that Sigstore's clients verify its entries. Certificate
authorities, CT logs and timestamp authorities pass through as they are: Sigstore's library reads them.

Clients find a log by its id, which each entry names. Those written in Go also require that the log's name in its checkpoints
is the host of its address; the name here is whichever of ``host`` and ``host/path`` the checkpoint says, under that key.

Source: protobuf-specs sigstore_trustroot.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from chopmark import canonical
from chopmark.canonical import decode_base64, encode_base64
from chopmark.errors import DecodeError, Refused
from chopmark.keys import PublicKey
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.note import LineKind, VerifierKey, decode_note
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.rekor.wire import P256, LogEntry, rekor_key, verify_entry
from chopmark.ledger.verify import Included

ROOT_TYPE: Final = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
"""What is written. All clients read it; sigstore-python 4.5 reads no other."""
_TYPES: Final = frozenset({
    ROOT_TYPE,
    "application/vnd.dev.sigstore.trustedroot+json;version=0.2",
    "application/vnd.dev.sigstore.trustedroot.v0.2+json",
})  # fmt: skip
MAX_ROOT_BYTES: Final = 4 * 1024 * 1024
MAX_LOGS: Final = 64
_ED25519: Final = "PKIX_ED25519"
_WHAT: Final = "trusted root"
_BEGINNING: Final = "1970-01-01T00:00:00Z"
"""A log's key is valid from the beginning: what it signed is dated by no clock that a reader could check."""
_NONE: Final = WitnessPolicy.parse("quorum none\n")


class _Key(msgspec.Struct, frozen=True, kw_only=True):
    raw: str = msgspec.field(name="rawBytes", default="")
    details: str = msgspec.field(name="keyDetails", default="")


class _LogId(msgspec.Struct, frozen=True, kw_only=True):
    key_id: str = msgspec.field(name="keyId", default="")


class _Log(msgspec.Struct, frozen=True, kw_only=True):
    base_url: str = msgspec.field(name="baseUrl", default="")
    key: _Key = msgspec.field(name="publicKey")
    log_id: _LogId = msgspec.field(name="logId", default=_LogId())


class _Root(canonical.Strict, frozen=True, kw_only=True):
    media_type: str = msgspec.field(name="mediaType")
    tlogs: list[dict[str, Any]] = []
    authorities: list[dict[str, Any]] = msgspec.field(name="certificateAuthorities", default=[])
    ctlogs: list[dict[str, Any]] = []
    timestamps: list[dict[str, Any]] = msgspec.field(name="timestampAuthorities", default=[])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedLog:
    """A log that is believed.

    Attributes:
        key_id: what its entries name.
        names: what it may call itself in its checkpoints.
    """

    key_id: bytes
    names: tuple[str, ...]
    public: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedRoot:
    """The logs of a trusted root that sign as ours can be read: Ed25519 or P-256."""

    logs: tuple[TrustedLog, ...]

    @classmethod
    def decode(cls, data: bytes) -> TrustedRoot:
        """Read a trusted root; logs with other kinds of keys are passed over, and found missing when an entry names them.

        Raises:
            DecodeError: not a trusted root.
        """
        return cls(logs=tuple(log for log in map(_log, _root(data).tlogs) if log is not None))

    def knows(self, entry: LogEntry) -> bool:
        """Tell whether *entry* names one of these logs."""
        return self._find(entry) is not None

    def _find(self, entry: LogEntry) -> TrustedLog | None:
        return next((log for log in self.logs if log.key_id == entry.log_id), None)

    def verify(self, entry: LogEntry, leaf: bytes) -> Included:
        """Check that *leaf* stands in the trusted log that *entry* names.

        Raises:
            Refused: ``log-unproven``: none of these logs, or as :func:`chopmark.ledger.rekor.verify_entry`.
        """
        log = self._find(entry)
        if log is None:
            raise Refused(
                "log-unproven",
                f"the entry is of the log {entry.log_id.hex()[:16]}…, which the trusted root does not name",
                hint="get the trusted root of whoever runs that log: chopmark sigstore trusted-root writes it",
            )
        said = Checkpoint.decode(decode_note(entry.checkpoint_note).text).origin
        origin = said if said in log.names else log.names[0]
        return verify_entry(entry, leaf, origin=origin, require=[rekor_key(origin, log.public)], policy=_NONE)


def trusted_root(key: VerifierKey, *, into: bytes | None = None) -> bytes:
    """Return a trusted root that names the log of *key*.

    Args:
        key: Ed25519, of a log of ours.
        into: another trusted root, whose authorities and logs are kept.

    Raises:
        DecodeError: *into* is none.
    """
    log_id = {"keyId": encode_base64(key.key_hash)}
    log = {
        "baseUrl": f"https://{key.name}",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": encode_base64(key.public.spki),
            "keyDetails": P256 if key.kind is LineKind.ECDSA else _ED25519,
            "validFor": {"start": _BEGINNING},
        },
        "logId": log_id,
    }
    root = _Root(media_type=ROOT_TYPE) if into is None else _root(into)
    members = {
        "tlogs": [log, *(other for other in root.tlogs if other.get("logId") != log_id)],
        "certificateAuthorities": root.authorities,
        "ctlogs": root.ctlogs,
        "timestampAuthorities": root.timestamps,
    }
    return canonical.encode({"mediaType": ROOT_TYPE, **{name: value for name, value in members.items() if value}})


def host_of(origin: str) -> bool:
    """Tell whether a log's name is a host name: clients written in Go verify entries of no other."""
    return urlsplit(f"https://{origin}").hostname == origin


def _root(data: bytes) -> _Root:
    root = canonical.decode_as(data, _Root, what=_WHAT, max_bytes=MAX_ROOT_BYTES)
    if root.media_type not in _TYPES:
        raise DecodeError(f"{_WHAT}: its media type is {root.media_type[:80]!r}, not {ROOT_TYPE}")
    if len(root.tlogs) > MAX_LOGS:
        raise DecodeError(f"{_WHAT}: more than {MAX_LOGS} logs")
    return root


def _log(value: dict[str, Any]) -> TrustedLog | None:
    log = canonical.convert(value, _Log, what=_WHAT)
    if log.key.details not in (P256, _ED25519):
        return None
    try:
        parts = urlsplit(log.base_url)
        host = parts.hostname or ""
    except ValueError as error:
        raise DecodeError(f"{_WHAT}: {log.base_url[:80]!r} is not an address") from error
    whole = (parts.netloc + parts.path).rstrip("/")
    names = tuple(name for name in dict.fromkeys((host, whole)) if name)
    if not names:
        raise DecodeError(f"{_WHAT}: a log without an address")
    public = PublicKey.from_spki(decode_base64(log.key.raw, what=f"{_WHAT}: key"))
    return TrustedLog(key_id=decode_base64(log.log_id.key_id, what=f"{_WHAT}: log id"), names=names, public=public)
