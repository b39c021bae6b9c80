# SPDX-License-Identifier: Apache-2.0
"""The one place of ``ledger`` that names adapters: a log of one's own or a workspace's, its index, its witnesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from chopmark.adapters.kms import file as kms
from chopmark.apps.cli.wiring import Site, new_folder
from chopmark.artifacts import write_file
from chopmark.clock import Clock, SystemClock
from chopmark.errors import UndecidedError, UsageError
from chopmark.keys import Algorithm, Signer
from chopmark.release.workspace import CONFIG, find_log

if TYPE_CHECKING:
    from chopmark.ledger import Checkpoint, WitnessPolicy
    from chopmark.ledger.index import TrustedIndex
    from chopmark.ledger.index.ports import IndexStore
    from chopmark.ledger.place import LogPlace, PostgresSettings, Retention, StoreSettings, WitnessPlace
    from chopmark.ledger.ports import (
        HeadStore,
        LogFiles,
        LogServer,
        LogStore,
        MonitorStore,
        ObjectStore,
        RekorClient,
        WitnessClient,
    )
    from chopmark.ledger.sequencer import Ledger
    from chopmark.ledger.witness import Witness

_PROBE: Final = "staging/probe"


class LogSite:
    """A log and its parts: one of its own (``ledger.toml``), or a workspace's."""

    def __init__(self, place: LogPlace, *, clock: Clock | None = None, of_workspace: bool = False) -> None:
        self.place = place
        self.of_workspace = of_workspace
        self.clock: Clock = clock or SystemClock()

    @classmethod
    def at(cls, start: Path) -> LogSite:
        """Open the nearest log upwards from *start*.

        Raises:
            UsageError: there is none.
        """
        place, workspace = find_log(start)
        return cls(place, of_workspace=workspace is not None)

    @cached_property
    def ledger(self) -> Ledger:
        """The log, opened for appending with its keys."""
        from chopmark.ledger.sequencer import Ledger

        store, heads = self.stores
        if self.is_mirror:
            message = f"{self.place.origin}: its keys are not here, so it is read here and not appended to"
            raise UndecidedError(message, code="key-missing", hint="run this where its keys are")
        signers = kms.load_all(self.place.keys)
        return Ledger.open(store=store, heads=heads, origin=self.place.origin, signers=signers, clock=self.clock)

    @cached_property
    def stores(self) -> tuple[LogStore, HeadStore]:
        """The log's stores, without its keys."""
        from chopmark.adapters.sql import head, ledger
        from chopmark.ledger.place import SqliteSettings

        settings = self.place.store
        if not isinstance(settings, SqliteSettings):
            return scaled_stores(settings, origin=self.place.origin, require=self.place.require)
        return ledger.load(self.place.path(settings.log)), head.load(self.place.path(settings.head))

    @property
    def files(self) -> LogFiles:
        """The log read as its static files, without its keys."""
        from chopmark.ledger.files import LedgerFiles
        from chopmark.ledger.index import StoredFiles
        from chopmark.ledger.place import SqliteSettings

        if not isinstance(self.place.store, SqliteSettings):  # they are static files already
            return published(self.place.store)
        store, heads = self.stores
        return StoredFiles(LedgerFiles(store=store, heads=heads))

    def witnesses(self) -> dict[str, WitnessClient]:
        """Return policy name -> the way to that witness; one address is one witness, with one or more keys."""
        from chopmark.adapters.http.witness import HttpWitness

        clients = {url: HttpWitness(url) for url in self.place.urls.values()}
        return {name: clients[url] for name, url in self.place.urls.items()}

    def witnessed(self) -> str:
        """Say in a phrase who saw the newest witnessed checkpoint."""
        from chopmark.errors import Refused
        from chopmark.ledger import verify_checkpoint, witnessed_by

        place, note = self.place, self.stores[1].head().witnessed
        names: tuple[str, ...] = ()
        with suppress(Refused):  # cosigned under another policy than today's is not witnessed
            if note is not None:
                seen = verify_checkpoint(note, origin=place.origin, require=place.require, policy=place.policy)
                names = seen.cosigned_by
        return witnessed_by(place.policy, names, place.external)

    def prove(self, index: int) -> tuple[bytes, bytes]:
        """Return the ``.tlog-proof`` of an entry, and the entry; of a mirror too, which has no key.

        Raises:
            UsageError: there is no such entry.
            UndecidedError: no checkpoint that the policy asks for covers it yet.
        """
        from chopmark.ledger import Checkpoint, TlogProof, decode_note
        from chopmark.ledger.static import StaticLog

        witnessed = self.place.policy.quorum != "none"
        if not self.is_mirror:
            log = self.ledger
            return log.proofs([index], witnessed=witnessed)[0], log.entry(index)
        head = self.stores[1].head()
        note = head.witnessed if witnessed else head.note or head.witnessed
        if note is None:
            raise UndecidedError("no checkpoint is here yet", code="not-witnessed-yet", hint="ledger import, again")
        files = StaticLog(self.files, Checkpoint.decode(decode_note(note).text))
        if not 0 <= index < files.checkpoint.size:
            raise UsageError(f"the checkpoint here covers {files.checkpoint.size:,} entries", hint="indices begin at 0")
        proof = TlogProof(index=index, path=files.prove_inclusion(index), checkpoint_note=note)
        return proof.encode(), next(iter(files.entries(index, index + 1)))

    def export(self, folder: Path) -> Checkpoint:
        """Write the log as static files; a mirror, with the checkpoint that was fetched.

        Raises:
            UndecidedError: nothing is signed yet, and the keys are elsewhere.
        """
        from chopmark.ledger.export import export

        if not self.is_mirror:
            return self.ledger.export(folder)
        store, heads = self.stores
        head = heads.head()
        if head.note is None:
            raise UndecidedError("no checkpoint is here yet, and no key", code="key-missing", hint="ledger import")
        return export(store, folder, signed=head.note, witnessed=head.witnessed)

    def close(self) -> None:
        """Close the stores; before their folder gets another name."""
        for store in self.stores:
            store.close()

    @property
    def is_mirror(self) -> bool:
        """Tell whether the log's keys are elsewhere."""
        return not any(self.place.keys.glob("*.pem"))


class IndexSite:
    """The index of a log: a log of its own in the folder ``index`` beside the log's stores, and its map."""

    def __init__(self, site: LogSite) -> None:
        from chopmark.ledger.place import read_log_place
        from chopmark.statements import ABOUT_VERSION

        self.source = site
        self.folder = site.place.path("index")
        self.version = ABOUT_VERSION
        if not self.there(site):
            hint = "chopmark ledger index update"
            raise UsageError(f"{site.place.origin} has no index here", code="no-index", hint=hint)
        self.own = LogSite(read_log_place(self.folder), clock=site.clock)

    @staticmethod
    def there(site: LogSite) -> bool:
        """Tell whether the log has an index here."""
        from chopmark.ledger.place import LOG_CONFIG

        return (site.place.path("index") / LOG_CONFIG).is_file()

    @classmethod
    def made(cls, site: LogSite) -> IndexSite:
        """Open the index, which is made where there is none."""
        if not cls.there(site):
            create_log(site.place.path("index"), origin=f"{site.place.origin}/index", once=True)
        return cls(site)

    @property
    def trusted(self) -> TrustedIndex:
        """What a verifier relies on: the keys and witnesses that both configurations name."""
        from chopmark.ledger.index import TrustedIndex, TrustedLog

        source, own = (
            TrustedLog(origin=place.origin, require=place.require, policy=place.policy)
            for place in (self.source.place, self.own.place)
        )
        return TrustedIndex(source=source, own=own, about=self.version)

    @property
    def map(self) -> IndexStore:
        """The map beside the index's own log."""
        return self.store(self.folder / "map.db")

    def store(self, path: Path) -> IndexStore:
        """Open the map in *path*; one that is not there has read nothing yet."""
        from chopmark.adapters.sql import index

        return index.opened(path, origin=self.source.place.origin, version=self.version)


def open_log_objects(where: str, options: Mapping[str, str]) -> ObjectStore:
    """Return a log's static files where they may be written: in a folder, or in an object store.

    Raises:
        UsageError: there is no such folder, or another kind of place, or *options* that it does not know.
    """
    from chopmark.adapters.blobs.logfiles import FolderObjects

    if "://" in where and not where.startswith("file://"):
        return _objects(where, options)
    folder = Path(unquote(where.removeprefix("file://")) if where.startswith("file://") else where)
    if not folder.is_dir():
        raise UsageError(f"{where}: is no folder", hint="name the folder that ledger export wrote")
    if options:
        raise UsageError("a folder has no options", hint="they are of s3:// and gs://")
    return FolderObjects(folder)


def open_log_files(where: str) -> LogFiles:
    """Return a log's static files: behind an address, or in a folder.

    Raises:
        UsageError: there is no such folder: a slip of the pen is no alarm.
    """
    from chopmark.adapters.blobs.logfiles import FolderLog
    from chopmark.adapters.http.logfiles import HttpLog

    if where.startswith(("http://", "https://")):
        return HttpLog(where)
    folder = Path(where.removeprefix("file://"))
    if not folder.is_dir():
        raise UsageError(f"{where}: is no folder", hint="name the folder or address under which the log's files are")
    return FolderLog(folder)


def open_log_server(url: str, token: str) -> LogServer:
    """Return the way to a log's server."""
    from chopmark.adapters.http.ledger import HttpAppender

    return HttpAppender(url, token)


def open_rekor(url: str) -> RekorClient:
    """Return the write side of a Rekor v2 log."""
    from chopmark.adapters.http.rekor import HttpRekor

    return HttpRekor(url)


def create_log(
    folder: Path,
    *,
    origin: str,
    once: bool,
    settings: StoreSettings | None = None,
    policy: WitnessPolicy | None = None,
    external: Sequence[str] = (),
    first: bytes | None = None,
) -> LogPlace:
    """Make a log of its own with new keys; nothing is left where it cannot be finished.

    Args:
        settings: where it is kept; None for SQLite.
        once: log each entry once; else what is appended twice stands there twice.
        policy: whose witnesses, groups and quorum it takes over; None for none.
        external: those of them that somebody else runs.
        first: entry 0, for a log that begins with one.

    Raises:
        UsageError: *folder* exists and is not empty, or *origin* is none.
    """
    from chopmark.adapters.sql.embedded import create_ledger
    from chopmark.ledger import log_key
    from chopmark.ledger.place import (
        LOG_CONFIG,
        SqliteSettings,
        check_origin,
        read_log_place,
        write_log_config,
        write_policy,
    )

    check_origin(origin)
    folder = folder.resolve()
    settings = settings or SqliteSettings()
    check_settings(settings)
    with new_folder(folder) as building:
        signers = [
            kms.create(building / "keys" / f"{algorithm}.pem", algorithm)
            for algorithm in (Algorithm.ED25519, Algorithm.ML_DSA_44)
        ]
        require = [log_key(origin, signer.public).encode() for signer in signers]
        lines = "".join(f"log {vkey}\n" for vkey in require)
        text = f"{lines}# witness NAME VKEY [URL]\nquorum none\n".encode()
        write_file(building / "policy.txt", text if policy is None else write_policy(require, policy))
        write_file(building / LOG_CONFIG, write_log_config(origin, require, settings, external=external))
        if isinstance(settings, SqliteSettings):
            create_ledger(building / settings.log, building / settings.head, origin=origin, once=once)
        else:
            make_scaled(settings, origin=origin, once=once)
        begun = LogSite(read_log_place(building))
        begun.ledger.append([] if first is None else [first])  # where others read its files, they see an empty log now
        begun.close()
    return read_log_place(folder)


def create_witness(
    folder: Path, *, name: str, logs: Sequence[str], any_key: Sequence[str], url: str, algorithms: Sequence[Algorithm]
) -> WitnessPlace:
    """Make a witness of its own with new keys, which has seen nothing; nothing is left where it cannot be finished.

    Raises:
        UsageError: *folder* exists and is not empty.
        DecodeError: *name* is none, or *logs* are no log keys.
    """
    from chopmark.adapters.sql import witness
    from chopmark.ledger import witness_key
    from chopmark.ledger.place import WITNESS_CONFIG, read_witness_place, write_witness_config

    folder = folder.resolve()
    with new_folder(folder) as building:
        for algorithm in algorithms:
            signer = kms.create(building / "keys" / f"{algorithm}.pem", algorithm)
            witness_key(name, signer.public)  # a name that no line can carry is found before there is a witness
        write_file(building / WITNESS_CONFIG, write_witness_config(name, logs, any_key=any_key, url=url))
        witness.create(read_witness_place(building).memory).close()
    return read_witness_place(folder)


def open_witness(start: Path) -> Witness:
    """Open the nearest witness upwards from *start*: one of its own, or the workspace's.

    Raises:
        UsageError: there is none.
    """
    from chopmark.adapters.sql import witness
    from chopmark.ledger.place import WITNESS_CONFIG, find_either, read_witness_place
    from chopmark.ledger.witness import Witness

    folder, config = find_either(start, WITNESS_CONFIG, CONFIG)
    if config == CONFIG:
        return Site.at(folder).witness()
    place = read_witness_place(folder)
    signers, store = kms.load_all(place.keys), witness.load(place.memory)
    clock = SystemClock()
    return Witness(name=place.name, signers=signers, logs=place.logs, any_key=place.any_key, store=store, clock=clock)


def create_mirror(
    folder: Path, *, require: Sequence[str], policy: WitnessPolicy, external: Sequence[str], once: bool
) -> LogPlace:
    """Make the empty place of a log whose keys are elsewhere; nothing is left where it cannot be finished.

    Args:
        require: the log's vkeys, all of one origin.
        external: witnesses or groups of *policy* that somebody else than the log's owner runs.

    Raises:
        UsageError: *folder* exists and is not empty.
        DecodeError: *policy* does not define what *external* names.
    """
    from chopmark.ledger.place import SqliteSettings, read_log_place

    policy.within(external)

    folder = folder.resolve()
    with new_folder(folder) as building:
        fill_mirror(building, require=require, policy=policy, external=external, store=SqliteSettings(), once=once)
    return read_log_place(folder)


def fill_mirror(
    folder: Path,
    *,
    require: Sequence[str],
    policy: WitnessPolicy,
    external: Sequence[str],
    store: StoreSettings,
    once: bool,
    retention: Retention | None = None,
    maker: str = "",
) -> None:
    """Make empty stores and their configuration in *folder*, the configuration last.

    Args:
        maker: words that only who makes this copy uses: what they made in a database before they were killed is theirs.
    """
    from chopmark.adapters.sql.embedded import create_ledger
    from chopmark.ledger import VerifierKey
    from chopmark.ledger.place import LOG_CONFIG, SqliteSettings, write_log_config, write_policy

    origin = VerifierKey.decode(require[0]).name
    if isinstance(store, SqliteSettings):
        create_ledger(folder / store.log, folder / store.head, origin=origin, once=once)
    else:
        check_settings(store)
        make_scaled(store, origin=origin, once=once, maker=maker)
    write_file(folder / "policy.txt", write_policy(require, policy))
    config = write_log_config(origin, require, store, external=external, retention=retention)
    write_file(folder / LOG_CONFIG, config)


def open_monitor(folder: Path) -> MonitorStore:
    """Return what a monitor remembers in *folder*, which need not be there yet."""
    from chopmark.adapters.blobs.monitor import FolderMonitor

    return FolderMonitor(folder)


def load_keys(folder: Path) -> list[Signer]:
    """Open all private keys in a folder."""
    return kms.load_all(folder)


def published(settings: PostgresSettings) -> ObjectStore:
    """Return the log's files; UsageError where the store's client is not installed."""
    return _objects(settings.objects, settings.options)


def _objects(url: str, options: Mapping[str, str]) -> ObjectStore:
    try:
        from chopmark.adapters.blobs.objects import open_objects
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", hint="pip install 'chopmark[scale]'") from error
    return open_objects(url, options)


def scaled_stores(settings: PostgresSettings, *, origin: str, require: Sequence[str]) -> tuple[LogStore, HeadStore]:
    """Return the stores of a log; UsageError where their clients are not installed."""
    try:
        from chopmark.adapters.sql.postgres import open_log
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", hint="pip install 'chopmark[scale]'") from error
    return open_log(settings.database, objects=published(settings), origin=origin, require=require)


def check_settings(settings: StoreSettings) -> None:
    """Refuse what must not be written into a file: a password, a store that forgets."""
    from chopmark.ledger.place import SqliteSettings

    if not isinstance(settings, SqliteSettings):
        scaled_stores(settings, origin="", require=())
        if settings.objects.startswith("memory:"):
            hint = "file:///folder, s3://bucket/prefix, gs://bucket/prefix"
            raise UsageError("a log is not kept in memory", hint=hint)


def make_scaled(settings: PostgresSettings, *, origin: str, once: bool = True, maker: str = "") -> None:
    """Make the tables of an empty log, after a look at the object store: it is empty, and creates an object once.

    Args:
        maker: as of :func:`fill_mirror`.
    """
    from chopmark.adapters.sql.postgres import create

    objects = published(settings)
    if any(name != _PROBE for name in objects.names("")):
        raise UsageError(f"{settings.objects}: is not empty", hint="give each log a prefix of its own")
    objects.remove(_PROBE)  # of somebody who was killed here
    created = objects.create(_PROBE, b"1"), objects.create(_PROBE, b"2")
    objects.remove(_PROBE)
    if created != (True, False):
        hint = "it has to honour If-None-Match: * on PUT"
        raise UsageError(f"{settings.objects}: overwrites what is there", hint=hint)
    create(settings.database, origin, once=once, maker=maker)
