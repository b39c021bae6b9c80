# SPDX-License-Identifier: Apache-2.0
"""A small founded workspace on disk, and a service that runs in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from chopmark.adapters.kms import file as kms
from chopmark.adapters.sql import head as sql_head
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.artifacts import Digest, write_file
from chopmark.clock import SystemClock
from chopmark.keys import Algorithm, Signer
from chopmark.ledger import log_key
from chopmark.ledger.sequencer import Ledger
from chopmark.release.founding import OWNERS, ROOT_OWNERS, default_trust, found
from chopmark.release.workspace import Workspace, open_workspace, write_config
from chopmark.trust import LogKeys, TrustPolicy
from unit.fleet.kit import ORIGIN


@dataclass
class Founded:
    workspace: Workspace
    trust: TrustPolicy
    keys: dict[str, list[Signer]]
    ledger: Ledger


def found_workspace(folder: Path) -> Founded:
    """Make a workspace with every key on this machine and a ledger with three entries."""
    state = folder / ".chopmark"
    owners = {**OWNERS, "log": (Algorithm.ED25519, Algorithm.ML_DSA_44), "witness-1": (Algorithm.ED25519,)}
    keys = {
        owner: [kms.create(state / "keys" / owner / f"{a}.pem", a) for a in algorithms]
        for owner, algorithms in owners.items()
    }
    log = LogKeys(origin=ORIGIN, require=tuple(log_key(ORIGIN, s.public).encode() for s in keys["log"]))
    public = {owner: [s.public for s in keys[owner]] for owner in OWNERS}
    trust = default_trust("acme", owners=public, logs=(log,), witness_policy="quorum none\n")
    made = found(
        trust,
        channels=["production"],
        root_signers=[s for owner in ROOT_OWNERS for s in keys[owner]],
        now=datetime.now(UTC),
    )
    write_file(folder / "release/trust/1.root.json", made.root.data)
    write_file(folder / "release/trust/1.trust.json", made.trust)
    workspace = Workspace(
        folder=folder,
        name="acme",
        pin=Digest.of(made.root.data),
        repository=folder / "release",
        state=state,
        channel="production",
        service_url="http://127.0.0.1:1",
        security_url="http://127.0.0.1:2",
        witness_urls={"witness-1": "http://127.0.0.1:3"},
    )
    write_file(folder / "chopmark.toml", write_config(workspace))
    store, heads = sql_ledger.create(state / "ledger.db", ORIGIN), sql_head.create(state / "head.db", ORIGIN)
    ledger = Ledger.open(store=store, heads=heads, origin=ORIGIN, signers=keys["log"], clock=SystemClock())
    ledger.append([b"one", b"two", b"three"])
    ledger.signed_checkpoint()
    return Founded(workspace=open_workspace(folder), trust=trust, keys=keys, ledger=ledger)


@contextmanager
def running(*argv: str, wait_for: str = "listening on ") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the app in a process; give the process and the address that it announced."""
    code = "import sys; from chopmark.apps.service.main import main; main(sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", code, *argv], stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        assert line.startswith(wait_for), line + process.stderr.read()
        yield process, line.removeprefix(wait_for).strip()
    finally:
        process.terminate()
        process.communicate(timeout=20)
