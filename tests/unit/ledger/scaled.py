# SPDX-License-Identifier: Apache-2.0
"""What tests of a log at scale share: processes on one database and one object store."""

from __future__ import annotations

from dataclasses import dataclass, field

from chopmark.errors import ChopmarkError
from chopmark.ledger import Checkpoint, VerifierKey, decode_note, leaf_hash, log_key, root_of
from chopmark.ledger.objects import ObjectLog
from chopmark.ledger.sequencer import Ledger
from chopmark.ledger.static import StaticLog, newest_note
from chopmark.ledger.verify import verify_checkpoint
from simulators import StandingClock
from simulators.sequence import Database, Faults, MemoryObjects, SimHead, SimSequence
from unit.ledger.kit import LOG_SIGNERS, NONE, ORIGIN

SIGNERS = LOG_SIGNERS[:1]  # one is enough where signing is not what is tried
KEYS: tuple[VerifierKey, ...] = tuple(log_key(ORIGIN, signer.public) for signer in SIGNERS)


@dataclass
class World:
    """What outlives processes."""

    database: Database = field(default_factory=lambda: Database(ORIGIN))
    objects: MemoryObjects = field(default_factory=MemoryObjects)

    def process(self, faults: Faults | None = None) -> Ledger:
        """Start a process that opens the log."""
        faults = faults or Faults()
        heads = SimHead(self.database, faults)
        store = ObjectLog(
            sequence=SimSequence(self.database, faults),
            heads=heads,
            objects=self.objects.seen_by(faults),
            keys=KEYS,
        )
        return Ledger.open(store=store, heads=heads, origin=ORIGIN, signers=SIGNERS, clock=StandingClock())

    def shown(self) -> Checkpoint:
        """The checkpoint that readers see, verified."""
        note = newest_note(self.objects)
        return verify_checkpoint(note, origin=ORIGIN, require=[key.encode() for key in KEYS], policy=NONE).checkpoint

    def read(self) -> list[bytes]:
        """All entries as a reader without the database finds and verifies them."""
        return list(StaticLog(self.objects, self.shown()).entries(0, self.shown().size))

    def check(self, acknowledged: dict[bytes, int]) -> Ledger:
        """Open the log anew; check that it is whole, and holds what was acknowledged where it was said to be."""
        ledger = self.process()
        assert ledger.fsck(NONE).ok, ledger.fsck(NONE).problems
        entries = self.read()
        assert (
            ledger.checkpoint
            == self.shown()
            == Checkpoint(origin=ORIGIN, size=len(entries), root=root_of(list(map(leaf_hash, entries))))
        )
        assert len(set(entries)) == len(entries)
        for entry, index in acknowledged.items():
            assert entries[index] == entry
        self.check_history()
        return ledger

    def check_history(self) -> None:
        """Check that of one size one checkpoint was ever signed, and that all of them are of one history."""
        roots: dict[int, bytes] = {}
        leaves = list(map(leaf_hash, self.read()))
        for note in [*self.database.notes, *self.objects.history]:
            point = Checkpoint.decode(decode_note(note).text)
            assert roots.setdefault(point.size, point.root) == point.root == root_of(leaves[: point.size])


def some(first: int, last: int) -> list[bytes]:
    return [b"entry %d" % n for n in range(first, last)]


def appended(ledger: Ledger, entries: list[bytes], acknowledged: dict[bytes, int]) -> bool:
    """Append; remember what was acknowledged. False where it was refused or not known."""
    try:
        indices = ledger.append(entries)
    except ChopmarkError:
        return False
    acknowledged.update(zip(entries, indices, strict=True))
    return True
