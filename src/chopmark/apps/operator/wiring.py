# SPDX-License-Identifier: Apache-2.0
"""The one place of the operator that names adapters."""

from __future__ import annotations

from datetime import timedelta

from chopmark.adapters.blobs.folder import FolderBlobs, FolderChannel
from chopmark.adapters.git.local import LocalGit
from chopmark.adapters.http.fetcher import HttpFetcher
from chopmark.adapters.http.witness import HttpWitness
from chopmark.adapters.kms import file as kms
from chopmark.adapters.sql.embedded import open_ledger
from chopmark.artifacts import read_file
from chopmark.channel.publish import Lifetimes, Publisher
from chopmark.clock import SystemClock
from chopmark.ledger import WitnessPolicy
from chopmark.ledger.feed import feed
from chopmark.release import Workspace
from chopmark.release.reconcile import Operator

MAX_METADATA_BYTES = 5_000_000


def open_operator(workspace: Workspace, *, refresh_every: timedelta) -> Operator:
    """Return the operator of *workspace*, with its keys, its ledger and the way to security host and witnesses."""
    root, trust = workspace.trusted()
    clock = SystemClock()
    ledger = open_ledger(
        workspace.ledger_db,
        workspace.head_db,
        origin=trust.logs[0].origin,
        signers=kms.load_all(workspace.owner_keys("log")),
        clock=clock,
    )
    witnesses = {name: HttpWitness(url) for name, url in workspace.witness_urls.items()}
    policy = WitnessPolicy.parse(trust.witness_policy)
    store = FolderChannel(workspace.published)

    def prove(leaf: bytes) -> bytes:
        index = ledger.append([leaf])[0]
        feed(ledger, policy, witnesses)
        ledger.export(workspace.ledger_files)
        return ledger.prove(index)

    publisher = Publisher(
        store=store,
        root=root,
        channel=workspace.channel,
        signers=kms.load_all(workspace.owner_keys("operator")),
        prove=prove,
        lifetimes=Lifetimes(),
    )
    security = HttpFetcher(workspace.security_url)
    return Operator(
        git=LocalGit(workspace.repository),
        root=root,
        trust=trust,
        channel=workspace.channel,
        targets=read_file(workspace.targets, max_bytes=MAX_METADATA_BYTES),
        store=store,
        publisher=publisher,
        blobs=FolderBlobs(workspace.blobs),
        fetch_status=lambda: security.fetch("status.json", max_bytes=MAX_METADATA_BYTES),
        status_file=workspace.operator_status,
        clock=clock,
        refresh_every=refresh_every,
    )
