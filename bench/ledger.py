# SPDX-License-Identifier: Apache-2.0
"""The ledger: appending to it for good, proving and verifying."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.measure import ROUNDS, Timing, in_turns
from chopmark.adapters.kms.file import FileSigner, generate
from chopmark.adapters.sql import head as sql_head
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.clock import SystemClock
from chopmark.keys import Algorithm
from chopmark.ledger import WitnessPolicy, cosign, decode_note, verify_proof, witness_key
from chopmark.ledger.sequencer import Ledger

BATCH = 4096
PREFILLED = 16
"""Batches that are in the log before it is timed: an empty index takes anything quickly."""
ORIGIN = "log.bench/m"
SINGLE_ROUNDS = 51  # syncs vary more than anything else here


def append_batch(folder: Path) -> Timing:
    """4,096 new entries of 200 bytes, each looked for among all others, durable; against hashing them."""
    return _append(folder, once=True)


def append_batch_twice(folder: Path) -> Timing:
    """The same into a log that takes an entry twice, and looks for none."""
    return _append(folder, once=False)


def _append(folder: Path, *, once: bool) -> Timing:
    ledger, _ = make_ledger(folder, once=once)
    fill(ledger)
    batches = [some_entries() for _ in range(ROUNDS + 1)]
    appended, hashed = iter(batches), iter(batches)
    return in_turns(
        lambda: ledger.append(next(appended)),
        lambda: [hashlib.sha256(b"\x00" + entry).digest() for entry in next(hashed)],
        clock=time.perf_counter,
    )


def append_single(folder: Path) -> Timing:
    """One entry, durable in log and head; against writing and syncing 4 KiB."""
    ledger, _ = make_ledger(folder)
    fill(ledger, batches=1)
    entries = iter(some_entries())
    block = os.urandom(4096)
    with (folder / "floor").open("wb", buffering=0) as file:

        def write_and_sync() -> None:
            file.write(block)
            os.fsync(file.fileno())

        return in_turns(
            lambda: ledger.append([next(entries)]), write_and_sync, rounds=SINGLE_ROUNDS, clock=time.perf_counter
        )


def verify(folder: Path) -> Timing:
    """A proof with two signatures of the log and three of witnesses, against those five signatures alone."""
    log = WitnessedLog(folder)
    entry, proof = log.ledger.entry(0), log.ledger.prove(0)
    return in_turns(lambda: log.verify(proof, entry), log.signatures_alone(), calls=10)


def prove_verify(folder: Path) -> Timing:
    """The same, and the proof is made from the stored tiles each time."""
    log = WitnessedLog(folder)
    entry = log.ledger.entry(0)
    return in_turns(lambda: log.verify(log.ledger.prove(0), entry), log.signatures_alone(), calls=10)


class WitnessedLog:
    """A log of 65,536 entries whose checkpoint three witnesses cosigned, of which two are enough."""

    def __init__(self, folder: Path) -> None:
        self.ledger, signers = make_ledger(folder)
        fill(self.ledger)
        witnesses = {f"w{number}": generate(Algorithm.ED25519) for number in range(3)}
        lines = [f"witness {name} {witness_key(name, key.public).encode()}" for name, key in witnesses.items()]
        self.policy = WitnessPolicy.parse("\n".join([*lines, "group all 2 w0 w1 w2", "quorum all", ""]))
        self.signers = (*signers, *witnesses.values())
        self.require = [key.encode() for key in self.ledger.verifier_keys]
        self.note = decode_note(self.ledger.signed_checkpoint())
        cosigned = [cosign(self.note.text, key, name, timestamp=1) for name, key in witnesses.items()]
        self.ledger.keep_witnessed(replace(self.note, signatures=(*self.note.signatures, *cosigned)).encode())

    def verify(self, proof: bytes, entry: bytes) -> None:
        verify_proof(proof, entry, origin=ORIGIN, require=self.require, policy=self.policy)

    def signatures_alone(self) -> Callable[[], None]:
        """Return a call that verifies as many signatures of the same kinds over a text of the same length."""
        text = self.note.text.encode()
        raw = [(signer.private.public_key(), signer.sign(text)) for signer in self.signers]

        def alone() -> None:
            for key, signature in raw:
                key.verify(signature, text)

        return alone


def make_ledger(folder: Path, *, once: bool = True) -> tuple[Ledger, tuple[FileSigner, ...]]:
    """Return an empty log in SQLite, and its keys."""
    signers = (generate(Algorithm.ED25519), generate(Algorithm.ML_DSA_44))
    store = sql_ledger.create(folder / "ledger.db", ORIGIN, once=once)
    heads = sql_head.create(folder / "head.db", ORIGIN)
    return Ledger.open(store=store, heads=heads, origin=ORIGIN, signers=signers, clock=SystemClock()), signers


def fill(ledger: Ledger, *, batches: int = PREFILLED) -> None:
    for _ in range(batches):
        ledger.append(some_entries())


def some_entries() -> list[bytes]:
    return [os.urandom(200) for _ in range(BATCH)]
