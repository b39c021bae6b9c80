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
from chopmark.clock import Clock, SystemClock
from chopmark.ledger import WitnessPolicy
from chopmark.ledger.feed import feed
from chopmark.ledger.place import SqliteSettings
from chopmark.ledger.sequencer import Ledger
from chopmark.release import Workspace
from chopmark.release.reconcile import Operator
from chopmark.trust import TrustPolicy

MAX_METADATA_BYTES = 5_000_000


def open_operator(workspace: Workspace, *, refresh_every: timedelta) -> Operator:
    """Return the operator of *workspace*, with its keys, its ledger and the way to security host and witnesses."""
    root, trust = workspace.trusted()
    clock = SystemClock()
    ledger = _ledger(workspace, trust, clock)
    witnesses = {name: HttpWitness(url) for name, url in workspace.witness_urls.items()}
    policy = WitnessPolicy.parse(trust.witness_policy)
    store = FolderChannel(workspace.published)

    def prove(leaf: bytes) -> bytes:
        index = ledger.append([leaf])[0]
        feed(ledger, policy, witnesses)
        if isinstance(workspace.store, SqliteSettings):  # elsewhere the ledger is kept as static files
            ledger.export(workspace.ledger_files)
        return ledger.prove(index)

    publisher = Publisher(
        store=store,
        root=root,
        channel=workspace.channel,
        signers=kms.load_all(workspace.owner_keys("operator")),
        prove=prove,
        lifetimes=Lifetimes(),
        roots=workspace.root_files(),
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


def _ledger(workspace: Workspace, trust: TrustPolicy, clock: Clock) -> Ledger:
    log, settings = trust.active_log, workspace.store
    signers = kms.load_all(workspace.owner_keys("log"))
    if isinstance(settings, SqliteSettings):
        files = workspace.state / settings.log, workspace.state / settings.head
        return open_ledger(*files, origin=log.origin, signers=signers, clock=clock)
    from chopmark.adapters.blobs.objects import open_objects
    from chopmark.adapters.sql.postgres import open_log

    objects = open_objects(settings.objects, settings.options)
    store, heads = open_log(settings.database, objects=objects, origin=log.origin, require=log.require)
    return Ledger.open(store=store, heads=heads, origin=log.origin, signers=signers, clock=clock)
