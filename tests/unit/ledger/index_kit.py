# SPDX-License-Identifier: Apache-2.0
"""What the index's tests share: a log of statements, an index of it, and whoever makes that index, honest or not."""

from __future__ import annotations

from pathlib import Path

from chopmark.adapters.blobs.logfiles import FolderLog
from chopmark.adapters.sql import index as sql_index
from chopmark.artifacts import Digest
from chopmark.ledger.feed import feed
from chopmark.ledger.files import LedgerFiles
from chopmark.ledger.index import (
    About,
    StoredFiles,
    TrustedIndex,
    TrustedLog,
    look,
    mirror,
    newest_seen,
    update,
    verify_index_answer,
)
from chopmark.statements import (
    ABOUT_VERSION,
    Envelope,
    PredicateType,
    Signature,
    Statement,
    Subject,
    about,
    encode_statement,
    statement_leaf,
)
from unit.ledger.kit import ORIGIN, DirectClient, make_ledger, make_witness, policy_of

INDEX_ORIGIN = f"{ORIGIN}/index"
HONEST = About(version=ABOUT_VERSION, keys=about)


def statement(model, number=0, kind=PredicateType.TEST_RESULT, signer="aa"):
    """A leaf about *model*."""
    made = Statement(
        subjects=(Subject(f"model/{model}", Digest.of(model.encode())),),
        predicate_type=kind,
        predicate={"n": number},
    )
    return statement_leaf(Envelope(payload=encode_statement(made), signatures=(Signature(signer, b"1"),)))


def revocation(model):
    return statement(model, kind=PredicateType.REVOCATION, signer="security")


def omitting(entry, *keys):
    """An index maker's function that forgets *entry* under *keys*; under all where none is named."""

    def lying(leaf):
        return tuple(key for key in about(leaf) if leaf != entry or (keys and key not in keys))

    return About(version=ABOUT_VERSION, keys=lying)


class World:
    """A log and its index, each in a folder, both cosigned by one witness of their own."""

    def __init__(self, folder: Path, *, own_folder="index"):
        self.folder = folder
        (folder / own_folder).mkdir()
        self.source = make_ledger(folder)
        self.own = make_ledger(folder / own_folder, origin=INDEX_ORIGIN)
        self.witnesses = {
            ledger.origin: make_witness("wit", ledger.verifier_keys, origin=ledger.origin)
            for ledger in (self.source, self.own)
        }
        self.policies = {origin: policy_of([witness], 1) for origin, witness in self.witnesses.items()}
        self.store = self.open_store()

    def open_store(self, name="map.db"):
        return sql_index.opened(self.folder / name, origin=ORIGIN, version=ABOUT_VERSION)

    def trusted_log(self, ledger):
        keys = [key.encode() for key in ledger.verifier_keys]
        return TrustedLog(origin=ledger.origin, require=keys, policy=self.policies[ledger.origin])

    @property
    def trusted(self):
        return TrustedIndex(source=self.trusted_log(self.source), own=self.trusted_log(self.own), about=ABOUT_VERSION)

    def feed(self, ledger):
        feed(ledger, self.policies[ledger.origin], {"w0": DirectClient(self.witnesses[ledger.origin])})

    def append(self, *entries):
        indices = self.source.append(entries)
        self.feed(self.source)
        return indices

    def read(self, ledger):
        """The newest vouched-for checkpoint and the log up to it."""
        files = StoredFiles(LedgerFiles(store=ledger._store, heads=ledger._heads))
        return newest_seen(files, self.trusted_log(ledger))

    def update(self, about=HONEST, store=None):
        note, source = self.read(self.source)
        done = update(store or self.store, source, note, self.own, about=about)
        self.feed(self.own)
        return done

    def look(self, key):
        note, own = self.read(self.own)
        return look(self.store, key, own=own, note=note, trusted=self.trusted)

    def verify(self, answer, key, **asked):
        return verify_index_answer(answer, key, trusted=self.trusted, **asked)

    def indices(self, key):
        return self.verify(self.look(key), key).indices

    def mirror(self, answers=(), name="mirror.db"):
        """Export both logs as anybody gets them, and compare."""
        served = self.folder / "served"
        self.source.export(served)
        self.own.export(served / "index")
        _, source = newest_seen(FolderLog(served), self.trusted.source)
        _, own = newest_seen(FolderLog(served / "index"), self.trusted.own)
        store = self.open_store(name)
        try:
            return mirror(store, source, own, trusted=self.trusted, about=HONEST, answers=answers)
        finally:
            store.close()
