# SPDX-License-Identifier: Apache-2.0
"""Make an index again from the log's signed bytes, and compare it with the one that is published. For monitors.

Whoever makes an index can leave an entry out of it: every proof then verifies, and only somebody who reads the whole log
notices. A mirror reads it, root by root:

1. The index's own log starts with what was compared before, and each of its entries is a root of the log that is meant.
2. The log starts with the checkpoint that was indexed.
3. The map that the log's entries make has that root. Where it has another, the entries since the root before are tried:
   left out one by one, until the published root comes out. Answers that somebody got are looked at too.

A difference is an alarm, again at each run: the map is kept as it was before, and no root is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chopmark.errors import UndecidedError, VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.fsck import root_at
from chopmark.ledger.index.build import (
    About,
    Additions,
    Progress,
    check_beginning,
    check_state,
    derive,
    quiet,
    read_additions,
)
from chopmark.ledger.index.ports import IndexState, IndexStore
from chopmark.ledger.index.trie import key_hash
from chopmark.ledger.index.verify import TrustedIndex, verify_index_answer, verify_root
from chopmark.ledger.index.wire import Answer
from chopmark.ledger.static import StaticLog

MAX_TRIALS: Final = 256
"""Places of keys that are tried one by one; each trial takes as long as there are places."""
_SHOWN_KEYS: Final = 100
_SHOWN_CHARS: Final = 200
_HINT: Final = "keep the evidence and call security: who makes the index left something out, or shows two of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """What a mirror found to be so.

    Attributes:
        roots: how many published roots there are, all compared now or before.
        answers: how many answers are of these roots.
    """

    state: IndexState
    roots: int
    answers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """A root of the index: its place there, the root, and the log's checkpoint that it covers."""

    number: int
    entry: bytes
    root: bytes
    source: Checkpoint


def mirror(
    store: IndexStore,
    source: StaticLog,
    own: StaticLog,
    *,
    trusted: TrustedIndex,
    about: About,
    answers: Sequence[bytes] = (),
    progress: Progress = quiet,
) -> Mirrored:
    """Compare every root that was published since the last time, then *answers*.

    Args:
        store: the mirror's own map.
        own: the index's own log.
        answers: files about keys, as somebody got them.

    Raises:
        VerificationError: ``index-differs``: the evidence names what is missing, where it could be found. Or an entry
            or answer that is none, by its name.
        Refused: ``log-rollback``, ``log-fork``: of the log, or of the index's own.
        UndecidedError: the log's files are behind the index.
    """
    state = store.state()
    check_state(state, source, about)
    check_beginning(own, Checkpoint(origin=own.checkpoint.origin, size=state.compared, root=state.compared_root))
    for published in _published(own, state.compared, trusted):
        _compare_root(_Mirror(store, source, own, trusted, about, tuple(answers), progress), published)
    for data in answers:
        _check_answer(store, own, data, trusted)
    return Mirrored(state=store.state(), roots=own.checkpoint.size, answers=len(answers))


@dataclass(frozen=True, slots=True)
class _Mirror:
    """What comparing a root needs."""

    store: IndexStore
    source: StaticLog
    own: StaticLog
    trusted: TrustedIndex
    about: About
    answers: tuple[bytes, ...]
    progress: Progress


def _published(own: StaticLog, start: int, trusted: TrustedIndex) -> Iterator[_Published]:
    """Yield the roots from *start* on."""
    for number, entry in enumerate(own.entries(start, own.checkpoint.size), start=start):
        try:
            root, source = verify_root(entry, trusted)
        except VerificationError as error:
            raise VerificationError(
                f"entry {number} of {own.checkpoint.origin}: {error.message}",
                code=error.code,
                hint=_HINT,
                evidence={**error.evidence, "number": number, "entry": entry},
            ) from error
        yield _Published(number=number, entry=entry, root=root.root, source=source)


def _compare_root(parts: _Mirror, published: _Published) -> None:
    store, point = parts.store, published.source
    if point.size > parts.source.checkpoint.size:
        message = f"root {published.number} covers {point.size} entries; the log's files show fewer"
        raise UndecidedError(message, code="log-behind", hint="try again when the log's files are newer")
    check_beginning(parts.source, point)
    done = False
    while not done:
        with store.exclusive():
            state = store.state()
            if state.compared > published.number:  # another process was faster
                return
            if state.size > point.size:
                raise _alarm(published, f"covers {point.size} entries, fewer than the one before", {})
            stop, additions = read_additions(parts.source, state.size, point.size, parts.about)
            step = derive(store, parts.source, stop, additions)
            done = stop == point.size
            if done and step.state.root != published.root:
                raise _root_differs(parts, published, state, additions, step.state.root)
            store.write(step)
            if done:
                seen = published.number + 1
                store.keep_compared(seen, root_at(seen, parts.own.node()))
        parts.progress(stop, parts.source.checkpoint.size)


def _root_differs(
    parts: _Mirror, published: _Published, state: IndexState, additions: Additions, found: bytes
) -> VerificationError:
    missing = {(key, index) for key, index in _omitted(parts, published, additions)}
    for data in parts.answers:
        missing |= _missing_in(parts, data, published, additions)
    named = [{"key": key, "index": index} for key, index in sorted(missing)]
    evidence: dict[str, object] = {
        "between": [state.size, published.source.size],
        "found": found.hex(),
        "keys": sorted(additions)[:_SHOWN_KEYS],
        "missing": named,
    }
    first = next(iter(sorted(missing)), None)
    if first is None:
        message = f"is not the map that the first {published.source.size} entries make"
    else:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        message = f"index {first[1]} is missing from {first[0][:_SHOWN_CHARS]}{more}"
    return _alarm(published, message, evidence)


def _omitted(parts: _Mirror, published: _Published, additions: Additions) -> list[tuple[str, int]]:
    """Return what was left out, where leaving out one place of a key, or one entry, makes the published root."""
    pairs = [(key, index) for key, indices in additions.items() for index in indices]
    if len(pairs) > MAX_TRIALS:
        return []
    entries = [[pair for pair in pairs if pair[1] == index] for index in sorted({index for _, index in pairs})]
    for trial in [*([pair] for pair in pairs), *entries]:
        rest = {
            key: kept for key, indices in additions.items() if (kept := [i for i in indices if (key, i) not in trial])
        }
        if derive(parts.store, parts.source, published.source.size, rest).state.root == published.root:
            return trial
    return []


def _missing_in(parts: _Mirror, data: bytes, published: _Published, additions: Additions) -> set[tuple[str, int]]:
    """Return what an answer of this root lacks."""
    key = Answer.decode(data).key
    answer = verify_index_answer(data, key, trusted=parts.trusted)
    if answer.published.index != published.number:
        return set()
    ours = {*parts.store.indices(key_hash(key)), *additions.get(key, ())}
    return {(key, index) for index in ours - set(answer.indices)}


def _check_answer(store: IndexStore, own: StaticLog, data: bytes, trusted: TrustedIndex) -> None:
    """Check that an answer is of a root that was compared: then its list is what the log's entries make."""
    key = Answer.decode(data).key
    answer = verify_index_answer(data, key, trusted=trusted)
    point, size = answer.published.checkpoint, answer.source.size
    if point.size > own.checkpoint.size or size > store.state().size:
        message = f"the answer about {key} is newer than what is mirrored"
        raise UndecidedError(message, code="index-behind", hint="mirror again when the files are newer")
    check_beginning(own, point)


def _alarm(published: _Published, message: str, evidence: Mapping[str, object]) -> VerificationError:
    shown = {"number": published.number, "published": published.root.hex(), "entry": published.entry}
    return VerificationError(
        f"root {published.number} of the index: {message}",
        code="index-differs",
        hint=_HINT,
        evidence={**evidence, **shown},
    )
