# SPDX-License-Identifier: Apache-2.0
"""Check the static files of anybody's log: every tile and bundle against a checkpoint whose signatures were checked.

Decides what the files say under keys and a witness policy that the caller brings; who keeps the files is not trusted.
A "no" is a value, as in :mod:`chopmark.ledger.fsck`. Files that no checkpoint promises are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from chopmark.errors import VerificationError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.fsck import MAX_PROBLEMS, RANGE, FsckReport, root_at
from chopmark.ledger.helpers import Progress, Reach, counting, do_all
from chopmark.ledger.merkle import EMPTY_ROOT
from chopmark.ledger.policy import WitnessPolicy
from chopmark.ledger.ports import LogFiles
from chopmark.ledger.static import CHECKPOINT, WITNESSED_CHECKPOINT, StaticLog, newest_note, witnessed_note
from chopmark.ledger.tiles import TILE_WIDTH
from chopmark.ledger.verify import Witnessed, verify_checkpoint


def fsck_files(
    files: LogFiles,
    *,
    origin: str,
    require: Sequence[str],
    policy: WitnessPolicy,
    opener: Callable[[], LogFiles] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> FsckReport:
    """Check everything that the newest checkpoint promises, and that a quorum saw it or an earlier one.

    Args:
        require: vkeys of which all must have signed.
        opener: opens *files* in another process; can be pickled.

    Raises:
        UndecidedError: a file cannot be read now.
        UsageError: *require* holds no key.
    """
    problems: list[str] = []
    try:
        seen = verify_log(newest_note(files), origin=origin, require=require, policy=policy)
    except VerificationError as error:
        return FsckReport(size=0, root=EMPTY_ROOT, problems=(f"{CHECKPOINT}: {error.message}",))
    checkpoint = seen.checkpoint
    reach = Reach(
        here=StaticLog(files, checkpoint), opener=None if opener is None else partial(_open, opener, checkpoint)
    )
    count = -(-checkpoint.size // TILE_WIDTH)
    jobs = [partial(check_bundles, first=at, end=min(at + RANGE, count)) for at in range(0, count, RANGE)]
    told = counting(progress, each=RANGE * TILE_WIDTH, total=checkpoint.size)
    for found in do_all(jobs, reach, workers=workers, progress=told):
        problems.extend(found)
    cosigned_by = _check_quorum(files, reach.here, origin=origin, require=require, policy=policy, problems=problems)
    return FsckReport(
        size=checkpoint.size,
        root=checkpoint.root,
        problems=tuple(problems[:MAX_PROBLEMS]),
        cosigned_by=cosigned_by,
    )


def check_bundles(log: StaticLog, *, first: int, end: int) -> tuple[str, ...]:
    """Check the bundles [first, end) and all tiles above them; return what is wrong."""
    problems: list[str] = []
    for index in range(first, end):
        try:
            log.check_bundle(index)
        except VerificationError as error:
            problems.append(error.message)
    return tuple(dict.fromkeys(problems))[:MAX_PROBLEMS]  # one tile above many bundles is said once


def verify_log(note: bytes, *, origin: str, require: Sequence[str], policy: WitnessPolicy) -> Witnessed:
    """Check the log's own signatures alone, by the keys required and those that *policy* lists."""
    alone = WitnessPolicy(logs=policy.logs, witnesses=(), groups=(), quorum="none")
    return verify_checkpoint(note, origin=origin, require=require, policy=alone)


def newest_witnessed(
    files: LogFiles, *, origin: str, require: Sequence[str], policy: WitnessPolicy
) -> tuple[bytes, Witnessed]:
    """Return the newest served checkpoint that the quorum cosigned.

    Raises:
        Refused: ``log-unwitnessed``: there is none.
    """
    newest = newest_note(files)
    try:
        return newest, verify_checkpoint(newest, origin=origin, require=require, policy=policy)
    except VerificationError:
        other = witnessed_note(files)
        if other is None:
            raise
    return other, verify_checkpoint(other, origin=origin, require=require, policy=policy)


def _check_quorum(
    files: LogFiles,
    log: StaticLog,
    *,
    origin: str,
    require: Sequence[str],
    policy: WitnessPolicy,
    problems: list[str],
) -> tuple[str, ...]:
    try:
        _, seen = newest_witnessed(files, origin=origin, require=require, policy=policy)
        if not starts_with(log, seen.checkpoint):
            problems.append(f"{WITNESSED_CHECKPOINT}: the log does not start with it")
    except VerificationError as error:
        problems.append(error.message)
        return ()
    return seen.cosigned_by


def starts_with(log: StaticLog, checkpoint: Checkpoint) -> bool:
    """Tell whether *log* starts with the entries of *checkpoint*."""
    size = checkpoint.size
    return size <= log.checkpoint.size and root_at(size, log.node()) == checkpoint.root


def _open(opener: Callable[[], LogFiles], checkpoint: Checkpoint) -> StaticLog:
    return StaticLog(opener(), checkpoint)
