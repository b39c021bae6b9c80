# SPDX-License-Identifier: Apache-2.0
"""Make an index: read the log, grow the map, publish its root; and answer about a key. For servers.

What a crash leaves behind:

1. Entries are read in batches, and each batch is one transaction of the store: its keys, its lists, and the size that
   claims them. Killed inside: the batch was not read.
2. When the map covers the log's newest checkpoint, its root is appended to the index's own log. Killed before: the next
   update appends it. Of two updates at once, one publishes.

Before anything new is read, the map is compared with the log at the map's size and with the root that was published
last: a map or a log that was changed meanwhile publishes nothing. An entry that stands in the log by digest alone
(a statement too large to embed) is found under the digest of its envelope, and under nothing else: what it is about is not
in the log's signed bytes.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from chopmark.errors import ChopmarkError, MovedError, Refused, UndecidedError, UsageError, VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.files import LedgerFiles
from chopmark.ledger.fsck import root_at
from chopmark.ledger.index.lists import EMPTY_LIST, ListEdge, damaged, extend
from chopmark.ledger.index.ports import IndexState, IndexStore, Step
from chopmark.ledger.index.trie import EMPTY, Change, find, grow, key_hash, map_leaf
from chopmark.ledger.index.verify import TrustedIndex, TrustedLog, verify_index_answer
from chopmark.ledger.index.wire import MAX_ANSWER_BYTES, Answer, AnswerLeaf, IndexRoot
from chopmark.ledger.note import MAX_NOTE_BYTES, decode_note
from chopmark.ledger.ports import LogFiles
from chopmark.ledger.proof import TlogProof
from chopmark.ledger.sequencer import Ledger
from chopmark.ledger.static import CHECKPOINT, WITNESSED_CHECKPOINT, StaticLog
from chopmark.ledger.verify import check_growth

MAX_PAIRS: Final = 65_536
"""How many places of keys one batch holds in memory."""

Progress = Callable[[int, int], None]
"""Told after each batch: entries read, entries to read."""
Additions = Mapping[str, list[int]]


def quiet(_done: int, _size: int) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What entries are about: a function whose answer for given bytes never changes within one version."""

    version: str
    keys: Callable[[bytes], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """What an update did.

    Attributes:
        new: entries that were read.
        published: the index of the root in the index's own log, if one was appended.
    """

    state: IndexState
    new: int
    published: int | None


class StoredFiles(LogFiles):
    """A log of one's own, read as its files: each entry is checked against the root as with anybody else's."""

    def __init__(self, files: LedgerFiles) -> None:
        """Take the files of a log."""
        self._files = files

    def _find(self, path: str, max_bytes: int) -> bytes | None:  # noqa: ARG002 - the port's own check follows
        return self._files.find(path)


def newest_seen(files: LogFiles, log: TrustedLog) -> tuple[bytes, StaticLog]:
    """Return the largest checkpoint that *log*'s keys and witnesses vouch for, as signed, and the log up to it.

    Raises:
        UndecidedError: ``not-witnessed-yet``: no checkpoint is vouched for; or the files cannot be read now.
        Refused: a checkpoint is there, and is not this log's.
    """
    found: list[tuple[int, bytes, Checkpoint]] = []
    for path in (WITNESSED_CHECKPOINT, CHECKPOINT):
        note = files.find(path, max_bytes=MAX_NOTE_BYTES)
        if note is None:
            continue
        try:
            seen = log.verify(note).checkpoint
        except Refused as error:
            if error.code == "log-unwitnessed":
                continue  # the other one may be smaller, and witnessed
            raise
        found.append((seen.size, note, seen))
    if not found:
        hint = "let the witnesses cosign its checkpoint first"
        raise UndecidedError(f"{log.origin}: no checkpoint with its quorum yet", code="not-witnessed-yet", hint=hint)
    _, note, checkpoint = max(found, key=lambda one: one[0])
    return note, StaticLog(files, checkpoint)


def read_additions(source: StaticLog, start: int, end: int, about: About) -> tuple[int, dict[str, list[int]]]:
    """Read entries from *start* on, to *end* at most; return where it stopped, and key -> the entries about it."""
    additions: dict[str, list[int]] = {}
    pairs = 0
    for index, entry in enumerate(source.entries(start, end), start=start):
        for key in about.keys(entry):
            additions.setdefault(key, []).append(index)
            pairs += 1
        if pairs >= MAX_PAIRS:
            return index + 1, additions
    return end, additions


def derive(store: IndexStore, source: StaticLog, end: int, additions: Additions) -> Step:
    """Return what the entries up to *end* change; they are about *additions*. Writes nothing.

    Raises:
        VerificationError: ``index-damaged``: what the store holds is not what its root says.
    """
    state = store.state()
    by_hash = {key_hash(key): indices for key, indices in additions.items()}
    keys = sorted(by_hash)
    old = store.edges(keys)
    lists: dict[bytes, ListEdge] = {}
    chunks: list[tuple[bytes, int, tuple[int, ...]]] = []
    changes: list[Change] = []
    for key in keys:
        lists[key], full = extend(old.get(key, EMPTY_LIST), by_hash[key])
        chunks += [(key, number, indices) for number, indices in full]
        changes.append(Change(key, _leaf(key, old.get(key)), map_leaf(key, lists[key].count, lists[key].root)))
    grown = grow(
        store.page, state.root, changes, leaf_of=lambda key: _leaf(key, old.get(key) or store.edges([key]).get(key))
    )
    log_root = root_at(end, source.node())
    new = replace(state, size=end, log_root=log_root, root=grown.root)
    return Step(state=new, pages=grown.pages, lists=lists, chunks=chunks)


def check_state(state: IndexState, source: StaticLog, about: About) -> None:
    """Check that the map is of this log and function, and that the log still starts with what was read.

    Raises:
        UsageError: another log's map, or another version's.
        UndecidedError: the map covers more than the log shows.
        Refused: ``log-fork``.
    """
    if (state.origin, state.version) != (source.checkpoint.origin, about.version):
        raise UsageError(
            f"this map is of {state.origin} by {state.version}, not of {source.checkpoint.origin} by {about.version}",
            hint="remove the map's file: it is derived again",
        )
    if state.size > source.checkpoint.size:
        message = f"the map covers {state.size} entries; {source.checkpoint.size} are shown"
        raise UndecidedError(message, code="log-behind", hint="let the witnesses cosign the newest checkpoint")
    check_beginning(source, Checkpoint(origin=state.origin, size=state.size, root=state.log_root))


def check_beginning(source: StaticLog, old: Checkpoint) -> None:
    """Check that the log starts with *old*.

    Raises:
        Refused: ``log-rollback``: it is smaller; ``log-fork``: it starts otherwise, and both are in the evidence.
    """
    check_growth(old, source.checkpoint)
    found = root_at(old.size, source.node())
    if not hmac.compare_digest(found, old.root):
        raise Refused(
            "log-fork",
            f"{old.origin}: the first {old.size} entries are not those that were seen before",
            evidence={"seen": old.encode(), "served": source.checkpoint.encode()},
        )


def update(
    store: IndexStore, source: StaticLog, note: bytes, ledger: Ledger, *, about: About, progress: Progress = quiet
) -> Updated:
    """Read what is new in the log, and publish the root when all of it was read.

    Args:
        note: the log's checkpoint that *source* is read at, as signed and witnessed.
        ledger: the index's own log.

    Raises:
        Refused: ``log-rollback``, ``log-fork``: the log is not the one that was indexed before.
        VerificationError: ``index-differs``: the map is not the one that was published; ``index-damaged``.
    """
    before, target = store.state().size, source.checkpoint.size
    check_state(store.state(), source, about)
    last = _last_published(ledger)
    if last is not None:
        _check_version(last, about)
        check_beginning(source, _checkpoint(last))
        _catch_up(store, source, _checkpoint(last).size, about, progress)
        _same_as_published(store.state(), last)
    _catch_up(store, source, target, about, progress)
    state, published = _publish(store, ledger, IndexRoot(about=about.version, checkpoint_note=note, root=EMPTY), target)
    return Updated(state=state, new=target - before, published=published)


def look(store: IndexStore, key: str, *, own: StaticLog, note: bytes, trusted: TrustedIndex) -> bytes:
    """Return the answer about *key*, verified as whoever gets it will.

    Args:
        own: the index's own log at its newest witnessed checkpoint; *note* is that, as signed.

    Raises:
        UndecidedError: ``index-moving``: the map's root is not the one that was published last.
        UsageError: ``index-too-long``: the list does not fit into an answer; or *key* is none.
        VerificationError: ``index-damaged``.
    """
    size = own.checkpoint.size
    entry = next(own.entries(size - 1, size), None) if size else None
    if entry is None:
        raise UndecidedError("the index has published no root yet", code="index-moving", hint=_UPDATE_HINT)
    root = IndexRoot.decode(entry)
    proof = TlogProof(index=size - 1, path=own.prove_inclusion(size - 1), checkpoint_note=note).encode()
    with store.snapshot():
        state = store.state()
        if state.root != root.root or state.size != _checkpoint(root).size:
            raise UndecidedError("the map is not at the root published last", code="index-moving", hint=_UPDATE_HINT)
        hashed = key_hash(key)
        found, path = find(store.page, state.root, hashed)
        edge = None if found is None else store.edges([found[0]]).get(found[0])
        indices = store.indices(hashed) if found is not None and found[0] == hashed else ()
    leaf = None
    if found is not None:
        if edge is None:
            raise damaged("a list is missing")
        leaf = AnswerLeaf(key=found[0], count=edge.count, root=edge.root)
    try:
        answer = Answer(key=key, indices=indices, leaf=leaf, path=path, entry=entry, proof=proof).encode()
        if len(answer) > MAX_ANSWER_BYTES:
            raise UsageError(f"{len(indices):,} entries are more than fit into one answer", code="index-too-long")
        verify_index_answer(answer, key, trusted=trusted)
    except UsageError:
        raise
    except ChopmarkError as error:
        raise damaged(f"its answer does not verify ({error.code}: {error.message})") from error
    return answer


_UPDATE_HINT: Final = "chopmark ledger index update"


def _catch_up(store: IndexStore, source: StaticLog, end: int, about: About, progress: Progress) -> None:
    while True:
        with store.exclusive():
            start = store.state().size  # another process may have read on meanwhile
            if start >= end:
                return
            stop, additions = read_additions(source, start, end, about)
            store.write(derive(store, source, stop, additions))
        progress(stop, source.checkpoint.size)


def _check_version(last: IndexRoot, about: About) -> None:
    if last.about != about.version:
        raise UsageError(
            f"this index is made by {last.about}, not by {about.version}",
            code="index-other-version",
            hint="another function begins another index, in a folder and under an origin of its own",
        )


def _publish(store: IndexStore, ledger: Ledger, root: IndexRoot, size: int) -> tuple[IndexState, int | None]:
    """Append the map's root, which covers *size* entries; one process after another, so that roots never go back."""
    with store.exclusive():
        state, last = store.state(), _last_published(ledger)
        if last is not None and _checkpoint(last).size >= size:
            return state, None
        if state.size != size:
            raise MovedError("another process updates this index", hint="it publishes what it read; look again then")
        (index,) = ledger.append([replace(root, root=state.root).encode()])
    return state, index


def _same_as_published(state: IndexState, last: IndexRoot) -> None:
    if state.size == _checkpoint(last).size and state.root != last.root:
        raise VerificationError(
            "the map that the log's entries make is not the one that was published",
            code="index-differs",
            hint="keep both; this index ends here: publish no more under its name",
            evidence={"size": state.size, "found": state.root.hex(), "published": last.root.hex()},
        )


def _last_published(ledger: Ledger) -> IndexRoot | None:
    size = ledger.checkpoint.size
    return IndexRoot.decode(ledger.entry(size - 1)) if size else None


def _checkpoint(root: IndexRoot) -> Checkpoint:
    return Checkpoint.decode(decode_note(root.checkpoint_note).text)


def _leaf(key: bytes, edge: ListEdge | None) -> bytes | None:
    return None if edge is None else map_leaf(key, edge.count, edge.root)
