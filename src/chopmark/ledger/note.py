# SPDX-License-Identifier: Apache-2.0
"""Signed notes and verifier keys. C2SP signed-note, tlog-cosignature.

Decides what is a note, what is a key, and which lines of a note are valid. It does not decide which keys are needed:
a note ignores lines of unknown keys, so "both algorithms" is a rule of :mod:`chopmark.ledger.verify`.

Three kinds of lines are made and checked:

* ``ED25519`` (0x01): Ed25519 over the text.
* ``COSIGNATURE`` (0x04): Ed25519 over a time and the text.
* ``ML_DSA_44`` (0x06): ML-DSA-44 over signer, time, origin, size and root; extension lines are *not* covered.

One is only checked, for logs of other people: ``ECDSA`` (0x02), P-256 over the text. Its key id does not hold the name, so
it has no vkey here: whoever verifies such a log has the name and the key from somewhere else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from chopmark.canonical import decode_base64, encode_base64
from chopmark.errors import DecodeError, UsageError, VerificationError
from chopmark.keys import Algorithm, PublicKey, Signer
from chopmark.ledger.checkpoint import Checkpoint

MAX_NOTE_BYTES = 1024 * 1024
MAX_SIGNATURES = 64
MAX_TIMESTAMP = 2**63 - 1
_MAX_NAME_BYTES = 255
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_KEY_ID_BYTES = 4
_TIME_BYTES = 8
_DASH = "— "


class LineKind(IntEnum):
    """The signature types of signed-note that are used here."""

    ED25519 = 0x01
    ECDSA = 0x02
    COSIGNATURE = 0x04
    ML_DSA_44 = 0x06

    @property
    def algorithm(self) -> Algorithm:
        others = {LineKind.ECDSA: Algorithm.ECDSA_P256, LineKind.ML_DSA_44: Algorithm.ML_DSA_44}
        return others.get(self, Algorithm.ED25519)

    @property
    def over_text(self) -> bool:
        """Whether it signs the text alone, with no time."""
        return self in (LineKind.ED25519, LineKind.ECDSA)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key under a name, for one kind of line: what a *vkey* spells."""

    name: str
    kind: LineKind
    public: PublicKey

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if self.public.algorithm is not self.kind.algorithm:
            raise UsageError(f"{self.name}: a line of this kind needs a key of {self.kind.algorithm}")

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of :attr:`key_hash`: an identifier, no protection."""
        return self.key_hash[:_KEY_ID_BYTES]

    @property
    def key_hash(self) -> bytes:
        """The hash of name, kind and key; of an ECDSA key, of its SubjectPublicKeyInfo alone."""
        if self.kind is LineKind.ECDSA:
            return hashlib.sha256(self.public.spki).digest()
        data = self.name.encode("utf-8") + b"\n" + bytes([self.kind]) + self.public.raw
        return hashlib.sha256(data).digest()

    def encode(self) -> str:
        """Return the vkey.

        Raises:
            UsageError: an ECDSA key has none.
        """
        if self.kind is LineKind.ECDSA:
            raise UsageError(f"{self.name}: an ECDSA key has no vkey", hint="hand over its name and its PEM")
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes([self.kind]) + self.public.raw)}"

    @classmethod
    def decode(cls, text: str) -> VerifierKey:
        """Read a vkey; its key id must be the one that name and key have.

        Raises:
            DecodeError: malformed, a kind that is not used here, or a wrong key id.
        """
        parts = text.split("+", 2)  # base64 may hold further plus signs
        if len(parts) != 3:
            raise DecodeError("vkey: not name+id+key")
        name, key_id, encoded = parts
        data = decode_base64(encoded, what="vkey")
        if not data or data[0] not in tuple(LineKind) or data[0] == LineKind.ECDSA:
            raise DecodeError("vkey: a signature type that is not used here")
        kind = LineKind(data[0])
        key = cls(name=name, kind=kind, public=PublicKey.from_raw(kind.algorithm, data[1:]))
        if key.key_id.hex() != key_id:
            raise DecodeError(f"vkey: {name[:80]!r} has the key id {key.key_id.hex()}, not {key_id[:20]!r}")
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureLine:
    """One line under a note: a name, a key id, and the bytes that follow it (with the time where the kind has one)."""

    name: str
    key_id: bytes
    signature: bytes

    def encode(self) -> str:
        """Return the line with its end."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedNote:
    """A text and the lines under it; nothing is verified yet."""

    text: str
    signatures: tuple[SignatureLine, ...]

    def encode(self) -> bytes:
        """Return the note's bytes."""
        return (self.text + "\n" + "".join(line.encode() for line in self.signatures)).encode("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidLine:
    """A line whose signature was verified.

    Attributes:
        timestamp: POSIX seconds; 0 where the kind has none or the signer says none.
    """

    key: VerifierKey
    line: SignatureLine
    timestamp: int


def log_key(origin: str, public: PublicKey) -> VerifierKey:
    """Return the verifier key of a log: its name is the origin.

    Raises:
        UsageError: an algorithm that no log line has.
    """
    return VerifierKey(name=origin, kind=_kind(public, LineKind.ED25519), public=public)


def witness_key(name: str, public: PublicKey) -> VerifierKey:
    """Return the verifier key of a witness.

    Raises:
        UsageError: an algorithm that no cosignature has.
    """
    return VerifierKey(name=name, kind=_kind(public, LineKind.COSIGNATURE), public=public)


def sign_line(key: VerifierKey, signer: Signer, text: str, *, timestamp: int = 0) -> SignatureLine:
    """Return the line of *key* under *text*.

    Args:
        key: the verifier key of *signer*.
        timestamp: POSIX seconds; required for cosignatures by a witness.

    Raises:
        UsageError: the signer is another key, or the time cannot be.
        DecodeError: the kind signs checkpoints only, and *text* is none.
        UndecidedError: the signer cannot sign now.
    """
    if signer.public != key.public or not 0 <= timestamp <= MAX_TIMESTAMP:
        raise UsageError(f"{key.name}: not this signer's key, or a time that cannot be")
    if key.kind.over_text:
        return SignatureLine(name=key.name, key_id=key.key_id, signature=signer.sign(text.encode("utf-8")))
    signature = timestamp.to_bytes(_TIME_BYTES, "big") + signer.sign(_message(key, text, timestamp))
    return SignatureLine(name=key.name, key_id=key.key_id, signature=signature)


def decode_note(data: bytes) -> SignedNote:
    """Read a signed note.

    Raises:
        DecodeError: too long, not UTF-8, control characters, no signature, more than 64, or a malformed line.
    """
    if len(data) > MAX_NOTE_BYTES:
        raise DecodeError(f"note: {len(data):,} bytes, more than the {MAX_NOTE_BYTES:,} allowed")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError("note: not UTF-8") from error
    if _CONTROL.search(whole):
        raise DecodeError("note: a control character")
    text, blank, lines = whole.rpartition("\n\n")  # a text may hold empty lines: the last one divides
    if not blank:
        raise DecodeError("note: no empty line before the signatures")
    return SignedNote(text=text + "\n", signatures=decode_lines(lines))


def decode_lines(text: str) -> tuple[SignatureLine, ...]:
    """Read signature lines, as under a note or in a witness's answer.

    Raises:
        DecodeError: none, more than 64, or a malformed one.
    """
    lines = text.split("\n")
    if lines.pop() != "" or not 0 < len(lines) <= MAX_SIGNATURES:
        raise DecodeError("note: no signature, too many, or the last without its end")
    return tuple(_decode_line(line) for line in lines)


def verify_lines(text: str, lines: Iterable[SignatureLine], keys: Iterable[VerifierKey]) -> tuple[ValidLine, ...]:
    """Return the lines that *keys* made, in their order; lines of unknown keys are passed over.

    Raises:
        UsageError: two keys have one name and id.
        VerificationError: a line of a known key does not verify; then the whole note is void.
    """
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.key_id), key) != key:
            raise UsageError(f"two keys are called {key.name}+{key.key_id.hex()}")
    valid: list[ValidLine] = []
    for line in lines:
        signed_by = known.get((line.name, line.key_id))
        if signed_by is not None:
            valid.append(ValidLine(key=signed_by, line=line, timestamp=_verify_line(signed_by, line, text)))
    return tuple(valid)


def _verify_line(key: VerifierKey, line: SignatureLine, text: str) -> int:
    """Return the time in the line."""
    timestamp, signature, message = 0, line.signature, text.encode("utf-8")
    if not key.kind.over_text:
        timestamp, signature = int.from_bytes(signature[:_TIME_BYTES], "big"), signature[_TIME_BYTES:]
        if len(line.signature) < _TIME_BYTES or timestamp > MAX_TIMESTAMP:
            raise VerificationError(f"the signature of {key.name} has no time that can be", code="bad-signature")
        message = _message(key, text, timestamp)
    if not key.public.verify(signature, message):
        raise VerificationError(f"the signature of {key.name} does not verify", code="bad-signature")
    return timestamp


def _message(key: VerifierKey, text: str, timestamp: int) -> bytes:
    """Return what a cosignature signs. Source: C2SP tlog-cosignature."""
    checkpoint = Checkpoint.decode(text)
    if key.kind is LineKind.COSIGNATURE:
        return f"cosignature/v1\ntime {timestamp}\n{text}".encode()
    name, origin = key.name.encode("utf-8"), checkpoint.origin.encode("utf-8")
    return b"".join(
        (
            b"subtree/v1\n\0",
            bytes([len(name)]) + name,
            timestamp.to_bytes(_TIME_BYTES, "big"),
            bytes([len(origin)]) + origin,
            (0).to_bytes(8, "big"),  # the subtree starts at entry 0: it is the whole tree
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )


def _decode_line(line: str) -> SignatureLine:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise DecodeError("note: a line that is not a signature")
    check_key_name(name)
    data = decode_base64(encoded, what="signature")
    if len(data) <= _KEY_ID_BYTES:
        raise DecodeError("note: a signature that is too short")
    return SignatureLine(name=name, key_id=data[:_KEY_ID_BYTES], signature=data[_KEY_ID_BYTES:])


def check_key_name(name: str) -> None:
    """Check that a line can be signed by this name.

    Raises:
        DecodeError: it has a space or a plus sign, or is empty or too long.
    """
    bad = not name or "+" in name or any(c.isspace() or c < " " or "\ud800" <= c <= "\udfff" for c in name)
    if bad or len(name.encode("utf-8")) > _MAX_NAME_BYTES:
        raise DecodeError(f"note: {name[:80]!r} is not a key name")


def _kind(public: PublicKey, classical: LineKind) -> LineKind:
    kinds = {Algorithm.ED25519: classical, Algorithm.ML_DSA_44: LineKind.ML_DSA_44}
    if public.algorithm not in kinds:
        raise UsageError(f"no line of a checkpoint is signed with {public.algorithm}", hint="use ed25519 or ml-dsa-44")
    return kinds[public.algorithm]
