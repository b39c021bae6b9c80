# SPDX-License-Identifier: Apache-2.0
"""A model with a whole life: evidence, decision, approval and publication in a ledger, and the dossier of it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace

from chopmark.adapters.kms.file import FileSigner
from chopmark.artifacts import Digest
from chopmark.channel.publish import TIMESTAMP, read_current
from chopmark.ledger import TlogProof, inclusion_path, leaf_hash, root_of
from chopmark.policy import Candidate, Phase, decide, decode_policy, default_policy_file, lineage
from chopmark.release import Gate, gather
from chopmark.release.dossier import Dossier, Entry, Opened, open_dossier, read_dossier, write_dossier
from chopmark.statements import Envelope, Statement, decode_envelope, decode_leaf, encode_envelope, sign, statement_leaf
from simulators.channel import SimChannel
from simulators.clock import NOW, StandingClock
from simulators.trust import SimTrust
from unit.release.kit import SimLedger, chain

FILES = {"labels.json": b"[0,1]", "model.onnx": b"weights of digits 1", "self-test.json": b"{}"}


class SimLife:
    """A released model and everybody's keys. Change what you like, then take :meth:`dossier`.

    Attributes:
        channel: what is published, and the log in ``channel.log``.
        envelopes: every statement, in the order in which it was logged.
        big: envelopes that the ledger names by digest: leaf -> encoded.
    """

    def __init__(
        self, trust: SimTrust | None = None, *, publish: bool = True, evidence: bool = True, lie: bool = False
    ) -> None:
        self.trust = trust or SimTrust()
        self.channel = SimChannel(self.trust)
        self.log = self.channel.log
        self.big: dict[bytes, bytes] = {}
        plain, shipment = self.channel.release(files=FILES)
        self.manifest = shipment.manifest
        if evidence:
            for owner, said in chain(self.manifest.digest):
                self.say(owner, said)
        ledger = SimLedger(self.envelopes)
        gate = Gate(
            trust=self.trust.policy,
            source=ledger,
            ledger=ledger,
            signers=self.trust.keys("gate"),
            clock=StandingClock(),
        )
        gathered = gather(ledger, self.trust.policy)
        assert isinstance(gathered, tuple)
        facts, candidate = lineage(gathered, self.manifest.digest), Candidate(release=plain)
        policy = decode_policy(default_policy_file())
        decision = decide(policy, Phase.EVIDENCE, facts=facts, candidate=candidate)
        if lie:  # over all facts but the test, and says that it allows
            facts = tuple(fact for fact in facts if fact.type != "test-result")
        vsa = gate.record(decision, policy=policy, facts=facts, candidate=candidate, at=NOW)  # type: ignore[arg-type]
        self.log_envelope(ledger.envelopes[-1])
        self.release = self.channel.approve(files=FILES, vsa=vsa, evidence=tuple(fact.digest for fact in facts))
        self.log_envelope(decode_envelope(self.channel.shipments[self.release.digest].envelope))
        if publish:
            self.channel.publish(self.release)

    @property
    def envelopes(self) -> list[Envelope]:
        return [found for leaf in self.log.entries if isinstance(found := decode_leaf(leaf), Envelope)]

    def say(self, owner: str, said: Statement, *, signers: Sequence[FileSigner] | None = None) -> int:
        """Sign and log a statement; return its index."""
        return self.log_envelope(sign(said, self.trust.keys(owner) if signers is None else signers))

    def log_envelope(self, envelope: Envelope) -> int:
        leaf = statement_leaf(envelope)
        if not isinstance(decode_leaf(leaf), Envelope):
            self.big[leaf] = encode_envelope(envelope)
        return self.log.append(leaf)

    def dossier(self, *, whole: bool = True, leave_out: Iterable[int] = ()) -> Dossier:
        """Return the dossier of now, without the entries of *leave_out*; publications are entries too."""
        leaves, out = [leaf_hash(entry) for entry in self.log.entries], set(leave_out)
        note = self.log.signed()
        entries = []
        for index, leaf in enumerate(self.log.entries):
            if index in out or (not whole and decode_leaf(leaf) is None):
                continue
            path = inclusion_path(
                index, len(leaves), lambda level, at: root_of(leaves[at << level : (at + 1) << level])
            )
            proof = TlogProof(index=index, path=path, checkpoint_note=note).encode()
            entries.append(Entry(index=index, leaf=leaf, proof=proof, envelope=self.big.get(leaf)))
        return Dossier(
            workspace=self.trust.policy.workspace,
            about=self.manifest.digest,
            log=self.log.origin,
            roots=(self.trust.first,),
            trust=self.trust.trust,
            entries=tuple(entries),
            channel=self.channel.name if self._published() else None,
            published=self._published(),
            policies={Digest.of(default_policy_file()): default_policy_file()},
            manifest=self.manifest.encode(),
        )

    def written(self, dossier: Dossier | None = None, *, files: dict[str, bytes] | None = None) -> bytes:
        """Return the dossier's bytes, with the package's files."""
        out = io.BytesIO()
        named = {entry.sha256: (FILES if files is None else files)[entry.name] for entry in self.manifest.files}
        write_dossier(out, dossier or self.dossier(), [(d, len(data), (data,)) for d, data in named.items()])
        return out.getvalue()

    def open(self, data: bytes | Dossier | None = None) -> Opened:
        """Read (where bytes are given) and open a dossier from the pin."""
        dossier = read_dossier(io.BytesIO(data)) if isinstance(data, bytes) else data or self.dossier()
        return open_dossier(dossier, self.trust.pin, now=NOW)

    def _published(self) -> dict[str, bytes]:
        current = read_current(self.channel.store, self.channel.name)
        if current.raw is None:
            return {}
        paths = [TIMESTAMP, self.channel.proof_path]
        paths += [self.channel.path(role) for role in ("snapshot", "targets", "status", self.channel.name)]
        return {path: self.channel.store.files[path] for path in paths}


def with_entry(dossier: Dossier, at: int, **changes: object) -> Dossier:
    """Return *dossier* with one entry changed."""
    entries = [replace(e, **changes) if e.index == at else e for e in dossier.entries]  # type: ignore[arg-type]
    return replace(dossier, entries=tuple(entries))
