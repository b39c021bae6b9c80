# SPDX-License-Identifier: Apache-2.0
"""The two formats of an index: the entry of its own log that publishes a root, and the answer about a key. RFC 8785 JSON.

    entry    {"about", "checkpoint", "kind": "index-root", "map", "root", "v"}
    answer   {"entry", "indices", "key", "kind": "index-answer", "leaf", "path", "proof", "v"}

The bytes only; :mod:`chopmark.ledger.index.verify` decides what they prove.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from chopmark import canonical
from chopmark.errors import DecodeError
from chopmark.ledger.checkpoint import decode_hash
from chopmark.ledger.index.trie import KEY_BITS, MAP
from chopmark.ledger.tiles import MAX_ENTRY_BYTES

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""A list of about two million indices."""
MAX_KEY_BYTES: Final = MAX_ENTRY_BYTES
_MAX_VERSION_CHARS: Final = 128


class _Root(canonical.Strict, frozen=True, kw_only=True):
    about: str
    checkpoint: str
    kind: Literal["index-root"]
    map: str
    root: str
    v: Literal[1]


class _Leaf(canonical.Strict, frozen=True, kw_only=True):
    count: int
    key: str
    root: str


class _Answer(canonical.Strict, frozen=True, kw_only=True):
    entry: str
    indices: list[int]
    key: str
    kind: Literal["index-answer"]
    leaf: _Leaf | None
    path: list[str]
    proof: str
    v: Literal[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRoot:
    """What an entry of an index's log says: of the log at this checkpoint, by this function, the map has this root.

    Attributes:
        about: the version of the function from entries to keys.
        checkpoint_note: the log's signed checkpoint, verbatim: nobody can say later that the log never showed it.
    """

    about: str
    checkpoint_note: bytes
    root: bytes

    def encode(self) -> bytes:
        """Return the entry's bytes."""
        return canonical.encode(
            {
                "about": self.about,
                "checkpoint": self.checkpoint_note.decode("utf-8"),
                "kind": "index-root",
                "map": MAP,
                "root": canonical.encode_base64(self.root),
                "v": 1,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> IndexRoot:
        """Read an entry.

        Raises:
            DecodeError: it is none, or of a map that is not known here.
        """
        wire = canonical.decode_as(data, _Root, what="index root", max_bytes=MAX_ENTRY_BYTES, canonical=True)
        if wire.map != MAP or not 0 < len(wire.about) <= _MAX_VERSION_CHARS:
            raise DecodeError(f"index root: a map of the kind {wire.map[:80]!r}; {MAP} is known here")
        return cls(
            about=wire.about,
            checkpoint_note=wire.checkpoint.encode("utf-8"),
            root=decode_hash(wire.root, what="root of a map"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLeaf:
    """A leaf of the map: the hash of a key, and length and root of its list."""

    key: bytes
    count: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a file says about a key.

    Attributes:
        leaf: what stands at the end of the key's way: its own leaf, another's, or nothing.
        path: the hashes beside the way, the root's children last.
        entry: the entry of the index's log that published the root.
        proof: that it is in that log (``.tlog-proof``).
    """

    key: str
    indices: tuple[int, ...]
    leaf: AnswerLeaf | None
    path: tuple[bytes, ...]
    entry: bytes
    proof: bytes

    def encode(self) -> bytes:
        """Return the file's bytes."""
        leaf = self.leaf
        base64 = canonical.encode_base64
        return canonical.encode(
            {
                "entry": self.entry.decode("utf-8"),
                "indices": list(self.indices),
                "key": self.key,
                "kind": "index-answer",
                "leaf": leaf and {"count": leaf.count, "key": base64(leaf.key), "root": base64(leaf.root)},
                "path": [base64(value) for value in self.path],
                "proof": self.proof.decode("utf-8"),
                "v": 1,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Answer:
        """Read an answer.

        Raises:
            DecodeError: too long, or not what the format says.
        """
        wire = canonical.decode_as(data, _Answer, what="index answer", max_bytes=MAX_ANSWER_BYTES, canonical=True)
        if len(wire.path) > KEY_BITS or not 0 < len(wire.key.encode("utf-8")) <= MAX_KEY_BYTES:
            raise DecodeError("index answer: too many hashes, or a key that cannot be")
        if any(index < 0 for index in wire.indices):
            raise DecodeError("index answer: an index below 0")
        return cls(
            key=wire.key,
            indices=tuple(wire.indices),
            leaf=_leaf(wire.leaf),
            path=tuple(decode_hash(text, what="hash of the map") for text in wire.path),
            entry=wire.entry.encode("utf-8"),
            proof=wire.proof.encode("utf-8"),
        )


def _leaf(wire: _Leaf | None) -> AnswerLeaf | None:
    if wire is None:
        return None
    if wire.count < 1:
        raise DecodeError("index answer: a list without an index is in no map")
    return AnswerLeaf(
        key=decode_hash(wire.key, what="hash of a key"),
        count=wire.count,
        root=decode_hash(wire.root, what="root of a list"),
    )
