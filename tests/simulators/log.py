# SPDX-License-Identifier: Apache-2.0
"""A ledger in memory, made of the ledger package's pure parts, that misbehaves on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from chopmark.adapters.kms.file import FileSigner, generate
from chopmark.keys import Algorithm
from chopmark.ledger import (
    Checkpoint,
    LineKind,
    SignatureLine,
    SignedNote,
    TlogProof,
    cosign,
    inclusion_path,
    leaf_hash,
    log_key,
    root_of,
    sign_checkpoint,
    witness_key,
)
from chopmark.trust import LogKeys

ORIGIN = "log.acme/m"
TIME = 1_784_736_000


@dataclass
class SimWitness:
    """A witness that cosigns trees that only grew; one that is not ``honest`` cosigns anything, one that is ``away`` nothing."""

    name: str
    signer: FileSigner = field(default_factory=lambda: generate(Algorithm.ED25519))
    honest: bool = True
    away: bool = False
    seen_size: int = 0
    seen_root: bytes = b""
    time: int = TIME

    @property
    def vkey(self) -> str:
        return witness_key(self.name, self.signer.public).encode()

    def cosign(self, checkpoint: Checkpoint, leaves: Sequence[bytes]) -> SignatureLine | None:
        """Return a cosignature, or None where this witness has seen another history."""
        grew = len(leaves) >= self.seen_size and (
            self.seen_size == 0 or root_of(leaves[: self.seen_size]) == self.seen_root
        )
        if self.away or (self.honest and not grew):
            return None
        if grew:
            self.seen_size, self.seen_root = checkpoint.size, checkpoint.root
        return cosign(checkpoint.encode(), self.signer, self.name, timestamp=self.time)


class SimLog:
    """An append-only log with witnesses, which can fork, shrink, and leave out lines.

    Attributes:
        entries: what is logged; change the list and history is rewritten.
        signers: the log's keys, Ed25519 and ML-DSA-44.
        drop: kinds of lines that are stripped from checkpoints: ``{LineKind.ML_DSA_44}`` strips the post-quantum half.
    """

    def __init__(self, *, origin: str = ORIGIN, witnesses: int = 3, quorum: int = 2) -> None:
        self.origin = origin
        self.entries: list[bytes] = []
        self.signers = (generate(Algorithm.ED25519), generate(Algorithm.ML_DSA_44))
        self.witnesses = [SimWitness(f"witness-{n + 1}") for n in range(witnesses)]
        self.quorum = quorum
        self.drop: set[LineKind] = set()

    @property
    def keys(self) -> LogKeys:
        """What trust.json says about this log: both keys are required."""
        vkeys = tuple(log_key(self.origin, signer.public).encode() for signer in self.signers)
        return LogKeys(origin=self.origin, require=vkeys)

    @property
    def policy(self) -> str:
        """The tlog-policy text for trust.json."""
        names = " ".join(witness.name for witness in self.witnesses)
        lines = [f"witness {witness.name} {witness.vkey}" for witness in self.witnesses]
        return "\n".join([*lines, f"group enough {self.quorum} {names}", "quorum enough", ""])

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(origin=self.origin, size=len(self.entries), root=root_of(self._leaves))

    @property
    def _leaves(self) -> list[bytes]:
        return [leaf_hash(entry) for entry in self.entries]

    def append(self, entry: bytes) -> int:
        """Return the index of *entry*; the same one again is not logged twice."""
        if entry not in self.entries:
            self.entries.append(entry)
        return self.entries.index(entry)

    def fork(self, *, keep: int) -> SimLog:
        """Return a second history of this log: the same keys and witnesses, the first *keep* entries."""
        twin = SimLog(origin=self.origin, witnesses=0, quorum=self.quorum)
        twin.entries = self.entries[:keep]
        twin.signers, twin.witnesses = self.signers, self.witnesses
        return twin

    def shrink(self, size: int) -> None:
        """Forget the entries from *size* on, as a database restored from a backup does."""
        del self.entries[size:]

    def collude(self) -> None:
        """Let every witness cosign whatever it is shown."""
        for witness in self.witnesses:
            witness.honest = False

    def signed(self) -> bytes:
        """Return the newest checkpoint with the log's lines and those of the witnesses that cosign it."""
        note = sign_checkpoint(self.checkpoint, self.signers, timestamp=TIME)
        cosigned = [witness.cosign(self.checkpoint, self._leaves) for witness in self.witnesses]
        lines = [*note.signatures, *(line for line in cosigned if line is not None)]
        dropped = {log_key(self.origin, s.public).key_id for s in self.signers if self._kind(s) in self.drop}
        return SignedNote(
            text=note.text, signatures=tuple(line for line in lines if line.key_id not in dropped)
        ).encode()

    def prove(self, entry: bytes) -> bytes:
        """Log *entry* and return its proof over the newest checkpoint: what a publisher calls."""
        index = self.append(entry)
        leaves = self._leaves
        path = inclusion_path(index, len(leaves), lambda level, at: root_of(leaves[at << level : (at + 1) << level]))
        return TlogProof(index=index, path=path, checkpoint_note=self.signed()).encode()

    def _kind(self, signer: FileSigner) -> LineKind:
        return log_key(self.origin, signer.public).kind
