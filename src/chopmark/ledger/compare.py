# SPDX-License-Identifier: Apache-2.0
"""Do these checkpoints belong to one history? A second face, for :mod:`chopmark.ledger.monitor`.

Decides whether a log only grew from what was seen of it to what is served now, and whether what others saw fits. Every answer
is computed from tiles that lead to a signed root, so that whoever serves the files cannot choose it:

* two checkpoints of one log that cannot both be true are a :class:`Split`; its evidence holds both as they were signed;
* what one device *says* it saw proves nothing to others: it raises :class:`Refused`, never a split;
* what cannot be compared yet (somebody saw more than is served here) is an :class:`UndecidedError`.

It does not decide how old a checkpoint may be.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chopmark import canonical
from chopmark.errors import DecodeError, Refused, UndecidedError, VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.followed import Followed
from chopmark.ledger.fsck import root_at
from chopmark.ledger.merkle import EMPTY_ROOT, HASH_BYTES
from chopmark.ledger.note import MAX_NOTE_BYTES
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.ports import LogFiles
from chopmark.ledger.seal import decode_seal
from chopmark.ledger.static import WITNESSED_CHECKPOINT, StaticLog, newest_note
from chopmark.ledger.verify import Witnessed, check_growth, verify_checkpoint

MAX_REPORTED_BYTES = 64 * 1024 * 1024


class Split(Refused):
    """Two checkpoints that one log signed and of which one must be a lie.

    The evidence: ``remembered`` and ``served``, both as they were signed.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A log that is followed.

    Attributes:
        require: the keys that must all have signed its checkpoints, as vkeys.
        policy: which witnesses are enough.
    """

    origin: str
    require: tuple[str, ...]
    policy: WitnessPolicy
    files: LogFiles

    def signed(self, note: bytes) -> Checkpoint:
        """Verify that the log signed *note* with all required keys; no witness is asked for."""
        alone = replace(self.policy, witnesses=(), groups=(), quorum="none")
        return verify_checkpoint(note, origin=self.origin, require=self.require, policy=alone).checkpoint

    def witnessed(self, note: bytes) -> Witnessed:
        """Verify that the log signed *note* and that the quorum saw it."""
        return verify_checkpoint(note, origin=self.origin, require=self.require, policy=self.policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """What a log serves now.

    Attributes:
        note: the newest checkpoint that a quorum saw, as served; *seen*: what it says.
        promised: the newest that the log signed; it may be ahead of the witnesses.
    """

    note: bytes
    seen: Witnessed
    promised: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What somebody says they saw of a log, without a signature by the log."""

    who: str
    origin: str
    size: int
    root: bytes


class _Reported(canonical.Strict, frozen=True, kw_only=True):
    device: str
    origin: str
    size: int
    root: str


class _ReportedFile(canonical.Strict, frozen=True, kw_only=True):
    ok: bool
    checkpoints: list[_Reported]


def decode_reported(data: bytes) -> tuple[Reported, ...]:
    """Read what ``chopmark fleet checkpoints --json`` writes.

    Raises:
        DecodeError: it is something else.
    """
    file = canonical.decode_as(data, _ReportedFile, what="reported checkpoints", max_bytes=MAX_REPORTED_BYTES)
    found = []
    for each in file.checkpoints:
        try:
            root = bytes.fromhex(each.root)
        except ValueError as error:
            raise DecodeError("reported checkpoints: a root that is not hexadecimal") from error
        if len(root) != HASH_BYTES or root.hex() != each.root or each.size < 0:
            raise DecodeError("reported checkpoints: a size or root that cannot be")
        found.append(Reported(who=each.device, origin=each.origin, size=each.size, root=root))
    return tuple(found)


def read_newest(log: Watched, followed: Followed | None) -> Newest:
    """Read and verify what *log* serves, and that it only grew from what is remembered of it.

    Raises:
        Split: smaller than remembered, or it contradicts it.
        Refused: ``log-unproven``: a signature of the log is missing or bad; ``log-unwitnessed``: no quorum saw it.
        VerificationError: ``log-incomplete``, ``log-altered``: files are missing, or are not what was signed.
        UndecidedError: it cannot be read now.
    """
    promised = newest_note(log.files)
    _check_follows(log, followed, promised)
    try:
        note, unseen = promised, None
        seen = log.witnessed(promised)
    except Refused as error:
        # The log may be ahead of its witnesses; what they saw last is served beside it.
        kept = log.files.find(WITNESSED_CHECKPOINT, max_bytes=MAX_NOTE_BYTES)
        if kept is None:
            raise
        note, unseen = kept, error
        seen = log.witnessed(kept)
    largest = max((promised, note), key=lambda each: log.signed(each).size)
    point = log.signed(largest)
    for other in {promised, note, *((followed.note, followed.promised) if followed else ())} - {largest}:
        before = log.signed(other)
        if before.size <= point.size:
            check_history(StaticLog(log.files, point), largest, before, other)
        else:  # promised, and not served yet again: between two signatures a log serves what its witnesses saw
            _shown(log.files, before, other, point, largest)
    if unseen is not None and followed is not None and seen.checkpoint.size < followed.checkpoint.size:
        raise unseen  # what the quorum saw is older than what it was seen to have seen
    return Newest(note=note, seen=seen, promised=largest)


def check_history(tree: StaticLog, note: bytes, smaller: Checkpoint, smaller_note: bytes) -> None:
    """Check that *tree*, whose signed checkpoint is *note*, starts with the history of a *smaller* one (or an equal one).

    Raises:
        Split: it does not.
        VerificationError, UndecidedError: as :meth:`StaticLog.entries`.
    """
    same = smaller.size == tree.checkpoint.size  # then no tile has a say
    found = tree.checkpoint.root if same else root_at(smaller.size, tree.node())
    if not hmac.compare_digest(found, smaller.root):
        raise Split(
            "log-fork",
            f"{smaller.origin}: the first {smaller.size} of {tree.checkpoint.size} entries are not those seen before",
            evidence={"remembered": smaller_note, "served": note},
        )


def compare_second(log: Watched, newest: Newest, second: bytes, elsewhere: LogFiles) -> Checkpoint:
    """Check that a checkpoint of the same log from *elsewhere* is of the same history; return what it says.

    One of the log's required keys is enough under it: a witness keeps the lines that it knows.

    Raises:
        Split: another history.
        Refused: ``log-unproven``: the log did not sign it.
        UndecidedError: it is ahead of what is served here, and its tiles are not to be had.
    """
    theirs = _signed_by_one(log, second)
    ours = newest.seen.checkpoint
    if theirs.size <= ours.size:
        check_history(StaticLog(log.files, ours), newest.note, theirs, second)
        return theirs
    if any(_shown(files, theirs, second, ours, newest.note) for files in (log.files, elsewhere)):
        return theirs
    raise UndecidedError(
        f"{log.origin}: {theirs.size} entries were seen elsewhere, {ours.size} are served here",
        code="log-behind",
        hint="look again; where it stays so, what is served here is held back",
    )


def compare_reported(log: Watched, newest: Newest, reported: Sequence[Reported]) -> int:
    """Check what others say they saw of *log*; return how many were about it.

    Raises:
        Refused: ``log-fork``: somebody saw another root.
        UndecidedError: somebody saw more than is served here.
    """
    ours = newest.seen.checkpoint
    tree = StaticLog(log.files, ours)
    own = [each for each in reported if each.origin == log.origin]
    for each in own:
        if each.size <= ours.size and not hmac.compare_digest(root_at(each.size, tree.node()), each.root):
            raise Refused(
                "log-fork",
                f"{log.origin}: {each.who} says it saw another ledger of {each.size} entries",
                evidence={"who": each.who, "reported": each.root.hex(), "served": newest.note},
            )
    ahead = max(own, key=lambda each: each.size, default=None)
    if ahead is not None and ahead.size > ours.size:
        raise UndecidedError(
            f"{log.origin}: {ahead.who} says it saw {ahead.size} entries, {ours.size} are served here",
            code="log-behind",
            hint="look again; where it stays so, what is served here is held back",
        )
    return len(own)


def read_seal(log: Watched, followed: Followed, following: Watched, newest: Newest) -> None:
    """Check that entry 0 of the log *following* seals exactly what is remembered of *log*.

    Args:
        newest: what *following* serves.

    Raises:
        VerificationError: ``seal-mismatch``: it is no seal, of another log, or *log* went on after it was sealed.
        Refused: ``log-unproven``: *log* did not sign what was sealed.
        Split: *log* signed what was sealed, and something else that contradicts it.
        UndecidedError: nothing is sealed yet, or not all of *log* was seen.
    """
    point = newest.seen.checkpoint
    if point.size == 0:
        raise UndecidedError(f"{following.origin}: has no entry yet", code="log-behind", hint="look again")
    try:
        seal = decode_seal(next(StaticLog(following.files, point).entries(0, 1)))
    except DecodeError as error:
        raise _mismatch(f"{following.origin}: its entry 0 seals no log") from error
    sealed, old, promised = seal.checkpoint, followed.checkpoint, log.signed(followed.promised)
    if sealed.origin != log.origin:
        raise _mismatch(f"{following.origin}: is the successor of {sealed.origin}, not of {log.origin}")
    log.signed(seal.note)
    if sealed.size > old.size:
        message = f"{log.origin}: ended with {sealed.size} entries, of which {old.size} were seen"
        raise UndecidedError(message, code="log-behind", hint="find the files of the old log")
    if sealed.size == old.size and not hmac.compare_digest(sealed.root, old.root):
        raise Split("log-fork", evidence={"remembered": followed.note, "served": seal.note})
    if promised.size > sealed.size:
        _shown(log.files, promised, followed.promised, sealed, seal.note)
        raise _mismatch(f"{log.origin}: was sealed at {sealed.size} entries, and went on to {promised.size}")


def _shown(files: LogFiles, larger: Checkpoint, note: bytes, smaller: Checkpoint, smaller_note: bytes) -> bool:
    """Tell whether *files* show that *larger* grew from *smaller*; Split where they show the contrary."""
    try:
        check_history(StaticLog(files, larger), note, smaller, smaller_note)
    except Split:
        raise
    except (VerificationError, UndecidedError):
        return False  # whoever has no tiles of this size cannot show anything
    return True


def _check_follows(log: Watched, followed: Followed | None, served: bytes) -> None:
    """Check the log's signatures on *served*, and that it is no smaller and no other one than a quorum saw before."""
    checkpoint = log.signed(served)
    if checkpoint.size == 0 and not hmac.compare_digest(checkpoint.root, EMPTY_ROOT):
        raise VerificationError(f"{log.origin}: an empty log with a root of its own", code="log-altered")
    if followed is None:
        return
    try:
        check_growth(log.signed(followed.note), checkpoint)
    except Refused as error:
        evidence = {"remembered": followed.note, "served": served}
        raise Split(error.code, error.message, evidence=evidence) from error


def _signed_by_one(log: Watched, note: bytes) -> Checkpoint:
    refused: Refused | None = None
    for key in log.require:
        try:
            return replace(log, require=(key,)).signed(note)
        except Refused as error:
            refused = refused or error
    raise refused or Refused("log-unproven")


def _mismatch(message: str) -> VerificationError:
    hint = "keep both logs' files; ask their operator; the old log is followed on"
    return VerificationError(message, code="seal-mismatch", hint=hint)
