# SPDX-License-Identifier: Apache-2.0
"""What an object store shows readers as a log's newest checkpoints, against what the log knows. A second face, for servers.

A shown checkpoint counts only with the signatures of all of the log's keys. It is the head, or a beginning of the log; one
that is larger means that the log's database was restored from an old copy, one of another history is a fork. Nobody but
the log's writers should write it, and none of them shows a smaller one over a larger.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chopmark.errors import Refused, VerificationError
from chopmark.ledger.agreement import promised
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.files import newest_checkpoint
from chopmark.ledger.fsck import root_at
from chopmark.ledger.note import MAX_NOTE_BYTES, VerifierKey, decode_note, verify_lines
from chopmark.ledger.ports import Head, ObjectStore
from chopmark.ledger.static import CHECKPOINT, WITNESSED_CHECKPOINT, StaticLog


class ShownCheckpoints:
    """The checkpoints of one log in *objects*; who uses it keeps other writers away."""

    def __init__(self, objects: ObjectStore, keys: Sequence[VerifierKey]) -> None:
        """Take the parts; nothing is read yet.

        Args:
            keys: the log's; a shown checkpoint is signed by all of them.
        """
        self._objects = objects
        self._keys = tuple(keys)
        self._shown: dict[str, bytes] = {}  # what stands in the objects for all that this process knows
        self._agreed: Checkpoint | None = None  # shown, and found to be a beginning of the log

    def check(self, head: Head) -> None:
        """Look at the shown checkpoint; at the witnessed one too where this process did not put it there.

        Raises:
            Refused: ``log-rollback``: more was shown than *head* knows; ``log-fork``: the log starts otherwise.
            VerificationError: it is not signed by all of the log's keys, or is another log's.
            UndecidedError: it cannot be read now.
        """
        self._check(head, CHECKPOINT)
        if WITNESSED_CHECKPOINT not in self._shown:
            self._check(head, WITNESSED_CHECKPOINT)

    def due(self, head: Head) -> Iterator[tuple[str, bytes]]:
        """Yield what of *head* is to be shown now: path and note, the witnessed one first."""
        for path, note in ((WITNESSED_CHECKPOINT, head.witnessed), (CHECKPOINT, newest_checkpoint(head))):
            shown = self._shown.get(path)
            if note is not None and (shown is None or (shown != note and _size_of(shown) <= _size_of(note))):
                yield path, note

    def replace(self, path: str, note: bytes) -> None:
        """Show *note* at *path*."""
        self._objects.replace(path, note)
        self._shown[path] = note

    def _check(self, head: Head, path: str) -> None:
        """Check that the shown checkpoint is one of this log's, up to its *head*."""
        note = self._objects.find(path, max_bytes=MAX_NOTE_BYTES)
        if note is None:
            self._shown.pop(path, None)
            return
        self._shown[path] = note
        shown, own = self._verified(note, path), promised(head)
        if shown in (own, self._agreed):
            return
        if shown.size > head.size:
            raise went_back(own, shown, note)
        found = root_at(shown.size, StaticLog(self._objects, own).node())
        if found != shown.root:
            raise Refused(
                "log-fork",
                f"{path}: the log does not start with what it has shown",
                hint="keep both; call security",
                evidence={"database": own.encode(), "objects": shown.encode(), "signed": note},
            )
        self._agreed = shown

    def _verified(self, data: bytes, path: str) -> Checkpoint:
        note = decode_note(data)
        signed_by = {line.key for line in verify_lines(note.text, note.signatures, self._keys)}
        if not self._keys or signed_by != set(self._keys):
            raise VerificationError(
                f"{path}: is not signed by all of this log's keys",
                code="log-altered",
                hint="somebody else writes to the object store: keep it, find out who; then remove it",
                evidence={"shown": data},
            )
        checkpoint = Checkpoint.decode(note.text)
        if checkpoint.origin != self._keys[0].name:
            raise VerificationError(f"{path}: is of {checkpoint.origin}", code="log-altered")
        return checkpoint


def went_back(database: Checkpoint, objects: Checkpoint, signed: bytes | None) -> Refused:
    """Return what a database that knows less than was shown is refused with."""
    return Refused(
        "log-rollback",
        f"the database has {database.size} entries, but {objects.size} were shown: an old copy of it was restored",
        hint="put the newest copy of the database back; if it is lost, this log ends here and a new origin begins",
        evidence={"database": database.encode(), "objects": objects.encode(), "signed": signed},
    )


def _size_of(note: bytes) -> int:
    return Checkpoint.decode(decode_note(note).text).size
