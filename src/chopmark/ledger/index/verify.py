# SPDX-License-Identifier: Apache-2.0
"""What anybody checks of an answer about a key, offline.

1. It is an answer about the key that was asked for.                            index-other-key
2. The root that it leads to was published in the index's own log.              log-unproven, log-unwitnessed
3. It is the newest one there, so that the witnesses' time is the answer's too. index-outdated
4. It is about the log that was meant, at a checkpoint which that log signed;   index-other-version, log-unproven,
   made by the function that is known here; not smaller than was asked for.     log-unwitnessed, index-behind
5. The key's way through the map ends where the answer says.                    index-unproven
6. The list is the whole one: its length and hash are those in the map.         index-list-wrong

Then the map holds exactly these indices for the key, or nothing. That the map is *right* is not proven by it: whoever
makes an index may leave something out, and :mod:`chopmark.ledger.index.mirror` finds it. Ages are the caller's.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from chopmark.errors import VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.index.lists import list_root
from chopmark.ledger.index.trie import EMPTY, climb, key_hash, map_leaf, stands_on_path
from chopmark.ledger.index.wire import Answer, IndexRoot
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.verify import Included, Witnessed, verify_checkpoint, verify_proof


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedLog:
    """A log as its verifier knows it: its name, the keys that all must have signed, which witnesses are enough."""

    origin: str
    require: Sequence[str]
    policy: WitnessPolicy

    def verify(self, note: bytes) -> Witnessed:
        """Verify a checkpoint, as :func:`chopmark.ledger.verify_checkpoint` does."""
        return verify_checkpoint(note, origin=self.origin, require=self.require, policy=self.policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIndex:
    """An index as its verifier knows it.

    Attributes:
        source: the log whose entries are indexed.
        own: the log in which its roots are published.
        about: the version of the function from entries to keys.
    """

    source: TrustedLog
    own: TrustedLog
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexAnswer:
    """What an index says about a key, verified.

    Attributes:
        indices: all entries about it, in order; empty: there is none.
        source: the log's checkpoint that was indexed: nothing is said of entries at or beyond its size.
        published: where its root stands in the index's own log, and who saw that when.
    """

    key: str
    indices: tuple[int, ...]
    source: Checkpoint
    published: Included


def verify_index_answer(data: bytes, key: str, *, trusted: TrustedIndex, at_least: int = 0) -> IndexAnswer:
    """Check an answer about *key*.

    Args:
        data: the file, as received.
        at_least: how many entries of the log it has to cover, e.g. those of a checkpoint that the caller has seen.

    Raises:
        DecodeError: it is no answer.
        VerificationError, Refused: as the module says, by name.
        UsageError: *trusted* holds no key.
    """
    answer = Answer.decode(data)
    if answer.key != key:
        raise _refused("index-other-key", f"an answer about {answer.key[:200]!r}, not about {key!r}")
    published = verify_proof(
        answer.proof,
        answer.entry,
        origin=trusted.own.origin,
        require=trusted.own.require,
        policy=trusted.own.policy,
    )
    if published.index != published.checkpoint.size - 1:
        newest = published.checkpoint.size - 1
        raise _refused("index-outdated", f"the answer is of root {published.index}; the index has published {newest}")
    root, source = verify_root(answer.entry, trusted)
    if source.size < at_least:
        raise _refused("index-behind", f"the index covers {source.size} entries, not {at_least}")
    _verify_way(answer, key_hash(key), root.root)
    _verify_list(answer, key_hash(key), source.size)
    return IndexAnswer(key=key, indices=answer.indices, source=source, published=published)


def verify_root(entry: bytes, trusted: TrustedIndex) -> tuple[IndexRoot, Checkpoint]:
    """Check what an entry of the index's log says of the log; return it with the log's checkpoint.

    Raises:
        DecodeError, VerificationError, Refused: step 4.
    """
    root = IndexRoot.decode(entry)
    if root.about != trusted.about:
        raise _refused("index-other-version", f"made by {root.about!r}; {trusted.about!r} is known here")
    return root, trusted.source.verify(root.checkpoint_note).checkpoint


def _verify_way(answer: Answer, key: bytes, root: bytes) -> None:
    leaf, terminal = answer.leaf, EMPTY
    if leaf is not None:
        if not stands_on_path(key, leaf.key, len(answer.path)):
            raise _refused("index-unproven", "the leaf that is shown does not stand on the key's way")
        terminal = map_leaf(leaf.key, leaf.count, leaf.root)
    found = climb(key, terminal, answer.path)
    if not hmac.compare_digest(found, root):
        raise _refused(
            "index-unproven",
            "the key's way leads to another root than the published one",
            evidence={"found": found.hex(), "published": root.hex()},
        )


def _verify_list(answer: Answer, key: bytes, size: int) -> None:
    leaf, indices = answer.leaf, answer.indices
    count, root = (0, None) if leaf is None or leaf.key != key else (leaf.count, leaf.root)
    if len(indices) != count:
        raise _refused("index-list-wrong", f"{len(indices)} entries are listed; the map has {count}")
    ascending = all(left < right for left, right in pairwise(indices))
    if not ascending or (indices and indices[-1] >= size):
        raise _refused("index-list-wrong", "the list is out of order, or goes beyond what was indexed")
    if root is not None and not hmac.compare_digest(list_root(indices), root):
        raise _refused("index-list-wrong", "the list is not the one whose hash is in the map")


def _refused(code: str, message: str, *, evidence: dict[str, object] | None = None) -> VerificationError:
    return VerificationError(message, code=code, hint="keep the file; ask who makes the index", evidence=evidence)
