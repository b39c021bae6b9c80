# SPDX-License-Identifier: Apache-2.0
"""What the three configurations are made of: the only place in this app that names adapters.

All of them start from a workspace; each opens only what is its own. A witness never opens the ledger, the security host
never the fleet. What remembers the past (``fleet.db``, ``witness.db``, the security host's state) is made only when
*create* says so: a fresh one in the place of a lost one would forget it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Final

from litestar import Litestar

from chopmark import canonical
from chopmark.adapters.alerts.file import FileSink
from chopmark.adapters.kms import file as kms
from chopmark.adapters.sql import fleet as sql_fleet
from chopmark.adapters.sql import head as sql_head
from chopmark.adapters.sql import ledger as sql_ledger
from chopmark.adapters.sql import witness as sql_witness
from chopmark.apps.service.fleet_routes import fleet_routes
from chopmark.apps.service.security_routes import security_routes
from chopmark.apps.service.static import bytes_reader, folder_reader, mount, only
from chopmark.apps.service.web import application
from chopmark.apps.service.witness_routes import witness_routes
from chopmark.artifacts import read_file, write_file
from chopmark.channel.status import StatusHost
from chopmark.clock import SystemClock
from chopmark.errors import ChopmarkError, UndecidedError, UsageError
from chopmark.fleet import Fleet
from chopmark.ledger import VerifierKey
from chopmark.ledger.files import LedgerFiles, PublishedFiles
from chopmark.ledger.place import PostgresSettings
from chopmark.ledger.witness import Witness
from chopmark.release.workspace import Workspace
from chopmark.trust import LogKeys

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
    ledger = _ledger(workspace, trust.logs[0], close)
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


def _ledger(workspace: Workspace, log: LogKeys, close: list[Callable[[], None]]) -> LedgerFiles | PublishedFiles | None:
    """Open the ledger to look at, where it is within reach; the log's keys stay closed."""
    settings = workspace.store
    if isinstance(settings, PostgresSettings):  # the database is the writers' alone
        from chopmark.adapters.blobs.objects import open_objects

        objects = open_objects(settings.objects, settings.options)
        return PublishedFiles(objects, origin=log.origin, require=log.require)
    if not (workspace.state / settings.log).exists():
        return None
    store = sql_ledger.load(workspace.state / settings.log)
    heads = sql_head.load(workspace.state / settings.head)
    close += [store.close, heads.close]
    return LedgerFiles(store=store, heads=heads)


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
