# SPDX-License-Identifier: Apache-2.0
"""What the four configurations are made of: the only place in this app that names adapters.

All of them start from a workspace, or a witness and a log server from a folder of their own; each opens only what is its own. A witness
never opens the ledger, the security host never the fleet. What remembers the past (``fleet.db``, ``witness.db``, the
security host's state) is made only when *create* says so: a fresh one in the place of a lost one would forget it.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Final

from litestar import Litestar
from litestar.handlers import ASGIRouteHandler

from chopmark import canonical
from chopmark.adapters.alerts.file import FileSink
from chopmark.adapters.http.witness import HttpWitness
from chopmark.adapters.kms import file as kms
from chopmark.adapters.sql import fleet as sql_fleet
from chopmark.adapters.sql import head as sql_head
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.adapters.sql import witness as sql_witness
from chopmark.apps.service.admission import Admission, admitter
from chopmark.apps.service.append_routes import Appends, append_routes, say_why
from chopmark.apps.service.fleet_routes import fleet_routes
from chopmark.apps.service.security_routes import security_routes
from chopmark.apps.service.static import Reader, bytes_reader, folder_reader, mount, only
from chopmark.apps.service.web import application
from chopmark.apps.service.witness_routes import witness_routes
from chopmark.artifacts import read_file, write_file
from chopmark.channel.status import StatusHost
from chopmark.clock import SystemClock
from chopmark.errors import ChopmarkError, UndecidedError, UsageError
from chopmark.fleet import Fleet
from chopmark.ledger import VerifierKey
from chopmark.ledger.feed import feed
from chopmark.ledger.files import LedgerFiles, PublishedFiles
from chopmark.ledger.intake import WAITING, Intake
from chopmark.ledger.place import LogPlace, PostgresSettings, SqliteSettings, WitnessPlace
from chopmark.ledger.ports import HeadStore, LogStore, ObjectStore
from chopmark.ledger.sequencer import Ledger
from chopmark.ledger.static import CHECKPOINT
from chopmark.ledger.tokens import TOKENS, Rates, TokenFile
from chopmark.ledger.witness import Witness
from chopmark.release.evidence import check_leaf
from chopmark.release.workspace import Workspace, find_log, open_workspace
from chopmark.trust import TrustPolicy

STATUS_OWNER: Final = "status-host"
VERIFIER_OWNER: Final = "verifier"
_NO_ENTRIES: Final = re.compile(r"checkpoint|witnessed-checkpoint|tile/[0-7]/[0-9x/]+(\.p/[0-9]+)?")
"""Of a ledger, all but its entries."""
_MAX_TOKEN_BYTES: Final = 1024
_MAX_TIMESTAMP_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePaths:
    """What may lie elsewhere than the workspace puts it; None leaves it there."""

    token: Path | None = None
    alert: Path | None = None
    ledger_folder: Path | None = None


def service(workspace: Workspace, *, create: bool, paths: ServicePaths, public_entries: bool = False) -> Litestar:
    """Return fleet, channel and ledger for the devices of *workspace*.

    Args:
        public_entries: serve the ledger's entries too. They name what an organisation builds, tests and ships; a device
            verifies with checkpoints and tiles.
    """
    _, trust = workspace.trusted()
    path = workspace.fleet_db
    store = sql_fleet.create(path) if create and not path.exists() else sql_fleet.load(path)
    close: list[Callable[[], None]] = [store.close]
    ledger = _ledger(workspace.log_place(trust), close)
    clock = SystemClock()
    fleet = Fleet(
        workspace=trust.workspace,
        store=store,
        alerts=FileSink(paths.alert or workspace.alert),
        verifier=kms.load_all(workspace.owner_keys(VERIFIER_OWNER)),
        token=_token(paths.token or workspace.token_file, create=create),
        clock=clock,
        tolerance=timedelta(seconds=trust.limits.clock_tolerance_s),
        ledger=ledger,
        snapshot=lambda: snapshot_version(workspace.published),
        product_version=_version(),
    )
    routes = [*fleet_routes(fleet), mount("/channel", folder_reader(workspace.published))]
    reader = None
    if paths.ledger_folder is not None:
        reader = folder_reader(paths.ledger_folder)
    elif ledger is not None:
        reader = bytes_reader(ledger.find)
    if reader is not None:
        routes.append(mount("/ledger", reader if public_entries else only(_NO_ENTRIES, reader)))
    return application(routes, close=close)


def witness(workspace: Workspace, *, name: str, create: bool) -> Litestar:
    """Return the witness *name*: it knows the logs that trust.json requires, and nothing else."""
    canonical.check_name(name, what="witness")
    _, trust = workspace.trusted()
    path = workspace.witness_db(name)
    store = sql_witness.create(path) if create and not path.exists() else sql_witness.load(path)
    logs = {log.origin: [VerifierKey.decode(key) for key in log.require] for log in trust.logs}
    keys = kms.load_all(workspace.owner_keys(name))
    made = Witness(name=name, signers=keys, logs=logs, store=store, clock=SystemClock())
    return application(witness_routes(made), close=[store.close])


def own_witness(place: WitnessPlace) -> Litestar:
    """Return a witness of its own: it knows the logs in its ``witness.toml``, and belongs to no workspace.

    Its memory is opened and never made: a fresh one in the place of a lost one would cosign a second history.
    """
    store = sql_witness.load(place.memory)
    signers, clock = kms.load_all(place.keys), SystemClock()
    made = Witness(name=place.name, signers=signers, logs=place.logs, any_key=place.any_key, store=store, clock=clock)
    return application(witness_routes(made), close=[store.close])


def security(workspace: Workspace, *, create: bool, interval: timedelta) -> Litestar:
    """Return the security host: it signs the status with its own keys, and changes it on two people's word."""
    _, trust = workspace.trusted()
    folder = workspace.security
    if not create and not (folder / "state.json").exists():
        raise UndecidedError(
            f"{folder}: holds no status", code="store-missing", hint="mount or restore it; --create begins a new one"
        )
    host = StatusHost(
        folder=folder,
        trust=trust,
        signers=kms.load_all(workspace.owner_keys(STATUS_OWNER)),
        clock=SystemClock(),
        interval=interval,
    )
    host.current()  # keys that cannot sign are found now, not when a device asks
    return application(security_routes(host))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What a log server does.

    Attributes:
        tokens: who may append; None for the file beside the log.
        folder: serve an exported log, for reading.
        read_only: take no entries, and open no key.
        public_entries: serve the entries too.
        require_signature: take only what a role of the workspace signed and may sign; else any bytes.
        trust: that workspace; None for the log's own.
        waiting: how many entries may wait.
    """

    tokens: Path | None = None
    folder: Path | None = None
    read_only: bool = False
    public_entries: bool = False
    require_signature: bool = False
    trust: Path | None = None
    waiting: int = WAITING


def log_server(start: Path, settings: LogSettings) -> Litestar:
    """Return the server of the nearest log upwards from *start*: its files, and the way into it."""

    def files(reader: Reader) -> ASGIRouteHandler:
        return mount("/", reader if settings.public_entries else only(_NO_ENTRIES, reader))

    if settings.folder is not None and not settings.folder.is_dir():
        raise UsageError(f"{settings.folder}: is no folder", hint="name the folder that ledger export wrote")
    if settings.folder is not None:
        return application([files(folder_reader(settings.folder))])
    place, workspace = find_log(start)
    close: list[Callable[[], None]] = []
    kept = _kept(place, close)
    if settings.read_only:
        return application([files(bytes_reader(kept.find))], close=close)
    log = _open_log(place, close)
    appends = _appends(log, place, workspace, settings)

    def find(path: str) -> bytes | None:
        if path == CHECKPOINT and isinstance(kept, LedgerFiles):
            log.signed_checkpoint()  # whoever else appends to this log does not sign it
        return kept.find(path)

    return application([*append_routes(appends), files(bytes_reader(find))], close=[appends.close, *close])


def _open_log(place: LogPlace, close: list[Callable[[], None]]) -> Ledger:
    """Open the log for appending, on connections of its own: who reads does not wait for who writes."""
    store, heads = _stores(place, close)
    if not store.state().once:
        raise UsageError(
            f"{place.origin}: keeps an entry twice that is appended twice, as every client does that tries again",
            hint="serve it with --read-only, or make a log without --twice",
        )
    log = Ledger.open(
        store=store, heads=heads, origin=place.origin, signers=kms.load_all(place.keys), clock=SystemClock()
    )
    log.signed_checkpoint()  # keys that cannot sign are found now, not when a client waits
    return log


def _appends(log: Ledger, place: LogPlace, workspace: Workspace | None, settings: LogSettings) -> Appends:
    urls = workspace.witness_urls if workspace else {}
    addresses = {witness.name: urls.get(witness.name) or witness.url for witness in place.policy.witnesses}
    clients = {name: HttpWitness(url) for name, url in addresses.items() if url}
    ask = say_why(lambda: feed(log, place.policy, clients)) if place.policy.quorum != "none" else None
    tokens = TokenFile(settings.tokens or place.path(TOKENS))
    tokens.tokens()  # a file that cannot be used is found now
    admission = None
    if settings.require_signature:
        admission = Admission(admitter(_trust(workspace, settings)), capacity=settings.waiting)
    elif workspace is not None:
        admission = Admission(check_leaf, capacity=settings.waiting)
    return Appends(
        tokens=tokens,
        rates=Rates(time.monotonic),
        intake=Intake(log, capacity=settings.waiting, feed=ask),
        admission=admission,
    )


def _trust(workspace: Workspace | None, settings: LogSettings) -> TrustPolicy:
    if settings.trust is not None:
        workspace = open_workspace(settings.trust)
    if workspace is None:
        raise UsageError("--require-signature: whose?", hint="name the workspace with the roles: --trust FOLDER")
    return workspace.trusted()[1]


def _stores(place: LogPlace, close: list[Callable[[], None]]) -> tuple[LogStore, HeadStore]:
    settings = place.store
    if isinstance(settings, PostgresSettings):
        from chopmark.adapters.sql.postgres import open_log

        scaled = open_log(settings.database, objects=_objects(settings), origin=place.origin, require=place.require)
        close.append(scaled[0].close)
        return scaled
    store, heads = sql_ledger.load(place.path(settings.log)), sql_head.load(place.path(settings.head))
    close += [store.close, heads.close]
    return store, heads


def _objects(settings: PostgresSettings) -> ObjectStore:
    try:
        from chopmark.adapters.blobs.objects import open_objects
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", hint="pip install 'chopmark[scale]'") from error
    return open_objects(settings.objects, settings.options)


def _kept(place: LogPlace, close: list[Callable[[], None]]) -> LedgerFiles | PublishedFiles:
    """Return the log's files to look at; its keys stay closed, and a database is the writers' alone."""
    if isinstance(place.store, PostgresSettings):
        return PublishedFiles(_objects(place.store), origin=place.origin, require=place.require)
    store, heads = _stores(place, close)
    return LedgerFiles(store=store, heads=heads)


def snapshot_version(published: Path) -> int:
    """Return the version of the snapshot that the published timestamp names; 0 when there is none.

    Our own operator wrote it, so it is read and not verified; a device verifies what it fetches.
    """
    try:
        data = read_file(published / "metadata" / "timestamp.json", max_bytes=_MAX_TIMESTAMP_BYTES)
        members = canonical.decode(data, what="timestamp.json", max_bytes=_MAX_TIMESTAMP_BYTES)
        version = members["signed"]["meta"]["snapshot.json"]["version"]  # type: ignore[index]
    except (ChopmarkError, KeyError, TypeError):
        return 0
    return version if isinstance(version, int) and version >= 0 else 0


def _ledger(place: LogPlace, close: list[Callable[[], None]]) -> LedgerFiles | PublishedFiles | None:
    """Open the ledger to look at, where it is within reach."""
    settings = place.store
    if isinstance(settings, SqliteSettings) and not place.path(settings.log).exists():
        return None
    return _kept(place, close)


def _token(path: Path, *, create: bool) -> Callable[[], bytes]:
    """Return a function that reads the enrolment token anew each time, so that replacing the file is enough."""
    if create and not path.exists():
        write_file(path, secrets.token_urlsafe(32).encode() + b"\n", mode=0o600)
    _read_token(path)

    def read() -> bytes:
        try:
            return _read_token(path)
        except ChopmarkError as error:
            raise UndecidedError(error.message, code="token-missing", hint=error.hint) from error

    return read


def _read_token(path: Path) -> bytes:
    if path.exists() and path.stat().st_mode & 0o077:
        raise UsageError(f"{path}: others may read the enrolment token", hint=f"chmod 600 {path}; replace it")
    return read_file(path, max_bytes=_MAX_TOKEN_BYTES).strip()


def _version() -> str:
    try:
        return metadata.version("chopmark")
    except metadata.PackageNotFoundError:
        return "0"
