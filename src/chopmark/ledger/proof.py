# SPDX-License-Identifier: Apache-2.0
"""A proof that travels: index, path and signed checkpoint in one file (``.tlog-proof``). C2SP tlog-proof.

The bytes only; :func:`chopmark.ledger.verify.verify_proof` decides what they prove.
"""

from __future__ import annotations

from dataclasses import dataclass

from chopmark.canonical import decode_base64, encode_base64
from chopmark.errors import DecodeError
from chopmark.ledger.checkpoint import decode_decimal, decode_hash
from chopmark.ledger.merkle import MAX_PATH
from chopmark.ledger.note import MAX_NOTE_BYTES

MAX_PROOF_BYTES = MAX_NOTE_BYTES + 64 * 1024
_HEADER = b"c2sp.org/tlog-proof@v1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlogProof:
    """What the file says.

    Attributes:
        index: 0-based.
        path: sibling hashes, leaf side first.
        checkpoint_note: the signed note, verbatim.
        extra: not authenticated by anything; None where there is no such line.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint_note: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """Return the file's bytes."""
        lines = [] if self.extra is None else [f"extra {encode_base64(self.extra)}"]
        lines += [f"index {self.index}", *(encode_base64(value) for value in self.path), ""]
        return _HEADER + "".join(f"{line}\n" for line in lines).encode("ascii") + self.checkpoint_note

    @classmethod
    def decode(cls, data: bytes) -> TlogProof:
        """Read a ``.tlog-proof``.

        Raises:
            DecodeError: too long, or not what the format says.
        """
        if len(data) > MAX_PROOF_BYTES or not data.startswith(_HEADER):
            raise DecodeError("proof: too long, or not a c2sp.org/tlog-proof@v1")
        head, blank, note = data.removeprefix(_HEADER).partition(b"\n\n")
        if not blank or not note or not head.isascii():
            raise DecodeError("proof: no checkpoint after an empty line")
        lines = head.decode("ascii").split("\n")
        extra = None
        if lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0).removeprefix("extra "), what="proof extra")
        if not lines or not lines[0].startswith("index ") or len(lines) > MAX_PATH + 1:
            raise DecodeError("proof: no index, or too many hashes")
        return cls(
            index=decode_decimal(lines[0].removeprefix("index "), what="proof index"),
            path=tuple(decode_hash(line, what="proof hash") for line in lines[1:]),
            checkpoint_note=note,
            extra=extra,
        )
