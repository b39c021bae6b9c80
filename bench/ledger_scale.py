# SPDX-License-Identifier: Apache-2.0
"""The ledger at size: proofs over millions of entries, beside pymerkle; what a log weighs; and Tessera under the same load."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pymerkle import SqliteTree

from bench import ROOT
from bench.ledger import BATCH, fill, make_ledger, some_entries
from bench.measure import Timing, Unavailable, in_turns
from chopmark.adapters.kms.file import generate
from chopmark.keys import Algorithm
from chopmark.ledger import cosign, decode_note
from chopmark.ledger.sequencer import Ledger

MEDIUM = 100_000
LARGE = 1_000_000
HUGE = 10_000_000
TWENTY = 2**20
_PEER = ROOT / "bench" / "peers" / "tessera"


def prove_beside_pymerkle(folder: Path) -> Timing:
    """An inclusion proof in a log of a million, from the stored tiles; against pymerkle's on SQLite, with the same leaves."""
    ledger, tree = filled(folder, LARGE), SqliteTree(str(folder / "pymerkle.db"))
    tree.append_entries(numbered(0, LARGE))
    places = random.Random(1)

    def theirs() -> None:
        tree.cache_clear()
        tree.prove_inclusion(places.randrange(LARGE) + 1, LARGE)

    return in_turns(prover(ledger, LARGE), theirs, rounds=7, calls=20, floor_calls=1)


def prove_huge(folder: Path) -> Timing:
    """An inclusion proof in a log of ten million; against one in a log of a hundred thousand."""
    for name in ("huge", "medium"):
        (folder / name).mkdir()
    huge, medium = filled(folder / "huge", HUGE), filled(folder / "medium", MEDIUM)
    return in_turns(prover(huge, HUGE), prover(medium, MEDIUM), calls=50)


def proof_bytes(folder: Path) -> Timing:
    """A .tlog-proof in a log of 2^20 with one Ed25519 line of the log and three of witnesses; against 2,048 bytes."""
    return _size(len(_proof(filled(folder, TWENTY), hybrid=False)), 2048)


def proof_bytes_hybrid(folder: Path) -> Timing:
    """The same with every line twice, Ed25519 and ML-DSA-44; against 2,048 bytes."""
    return _size(len(_proof(filled(folder, TWENTY), hybrid=True)), 2048)


def check(folder: Path) -> Timing:
    """Everything that is stored derived again, on one core, in a log of a million that takes an entry twice; against hashing."""
    return _check(folder, once=False)


def check_once(folder: Path) -> Timing:
    """The same in a log that takes an entry once: the index of leaves is compared too."""
    return _check(folder, once=True)


def check_two_cores(folder: Path) -> Timing:
    """The same as the first, with two million entries, on one core; against on two."""
    ledger, _ = _of_200_bytes(folder, 2 * LARGE, once=False)
    return in_turns(ledger.fsck, lambda: ledger.fsck(workers=2), rounds=5, clock=time.perf_counter)


def _check(folder: Path, *, once: bool) -> Timing:
    ledger, entries = _of_200_bytes(folder, LARGE, once=once)
    return in_turns(ledger.fsck, lambda: [hashlib.sha256(b"\x00" + entry).digest() for entry in entries], rounds=5)


def _of_200_bytes(folder: Path, size: int, *, once: bool) -> tuple[Ledger, list[bytes]]:
    ledger, _ = make_ledger(folder, once=once)
    entries = [os.urandom(200) for _ in range(size)]
    for start in range(0, size, BATCH):
        ledger.append(entries[start : start + BATCH])
    return ledger, entries


def disk(folder: Path) -> Timing:
    """The files of an exported log of a hundred thousand entries of 200 bytes; against entries + 2 + 32.13 bytes each."""
    ledger, _ = make_ledger(folder, once=False)
    entries = [os.urandom(200) for _ in range(MEDIUM)]
    ledger.append(entries)
    ledger.export(folder / "files")
    bundles = sum(path.stat().st_size for path in (folder / "files").rglob("*") if path.is_file())
    return _size(bundles, int(sum(map(len, entries)) + (2 + 32.13) * len(entries)))


def beside_tessera(folder: Path) -> Timing:
    """4,096 new entries of 200 bytes, each once, durable; against Tessera's log in POSIX files, which looks for no duplicates."""
    ledger, _ = make_ledger(folder)
    fill(ledger)
    batches = iter([some_entries() for _ in range(20)])
    with _tessera(folder / "tessera") as append:
        for _ in range(16):
            append()
        return in_turns(lambda: ledger.append(next(batches)), append, clock=time.perf_counter)


def filled(folder: Path, size: int) -> Ledger:
    """Return a log of *size* small entries."""
    ledger, _ = make_ledger(folder, once=False)
    for start in range(0, size, 65_536):
        ledger.append(numbered(start, min(start + 65_536, size)))
    return ledger


def numbered(start: int, end: int) -> list[bytes]:
    return [n.to_bytes(8, "big") for n in range(start, end)]


def prover(ledger: Ledger, size: int) -> Callable[[], object]:
    """Return a call that proves some entry, from tiles that are read anew."""
    places = random.Random(2)
    return lambda: ledger.prove_inclusion(places.randrange(size), size)


def _proof(ledger: Ledger, *, hybrid: bool) -> bytes:
    note = decode_note(ledger.signed_checkpoint())
    algorithms = (Algorithm.ED25519, Algorithm.ML_DSA_44)[: 1 + hybrid]
    witnesses = [
        cosign(note.text, generate(algorithm), f"witness.example/w{n}", timestamp=1_800_000_000)
        for n in range(3)
        for algorithm in algorithms
    ]
    lines = note.signatures[: 1 + hybrid]
    ledger.keep_witnessed(note.encode())
    proof = ledger.prove(TWENTY // 3 if ledger.checkpoint.size == TWENTY else 0)
    return proof.replace(note.encode(), replace(note, signatures=(*lines, *witnesses)).encode())


def _size(ours: int, limit: int) -> Timing:
    return Timing(ours_s=ours, floor_s=limit, ratio=ours / limit)


@contextmanager
def _tessera(folder: Path):
    """Give a call that has a batch appended by Tessera; Unavailable where it cannot be built."""
    binary = ROOT / "build" / "peers" / "tessera"
    if not binary.exists():
        if shutil.which("go") is None:
            raise Unavailable("there is no Go here to build Tessera with")
        binary.parent.mkdir(parents=True, exist_ok=True)
        modules = binary.parent / "go.mod"
        modules.write_bytes((_PEER / "go.mod").read_bytes())
        environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
        command = ["go", "build", f"-modfile={modules}", "-o", str(binary), "."]
        if subprocess.run(command, cwd=_PEER, env=environment, capture_output=True, check=False).returncode:
            raise Unavailable("Tessera cannot be built here")
    command = [str(binary), str(folder), str(BATCH)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as peer:

        def append() -> None:
            print("append", file=peer.stdin, flush=True)
            if peer.stdout.readline() != "done\n":
                raise Unavailable("Tessera ended")

        yield append
        peer.stdin.close()
