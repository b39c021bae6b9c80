# SPDX-License-Identifier: Apache-2.0
"""Where a log or a witness lives: one folder with ``ledger.toml`` or ``witness.toml``. A second face, for servers.

    acme-log/                        w1/
      ledger.toml  origin, keys,       witness.toml  name, the logs it knows
                   store, witnesses    keys/*.pem    its private keys
      policy.txt   C2SP tlog-policy    witness.db    what it cosigned last
      keys/*.pem   private keys
      ledger.db  head.db

A workspace's ledger is such a place too; ``chopmark.toml`` and ``trust.json`` say there what ``ledger.toml`` says here.
Reads configuration and writes it; opens nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from chopmark import canonical
from chopmark.artifacts import read_file
from chopmark.errors import DecodeError, UsageError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.merkle import EMPTY_ROOT
from chopmark.ledger.note import VerifierKey
from chopmark.ledger.policy import MAX_POLICY_BYTES, WitnessPolicy

LOG_CONFIG: Final = "ledger.toml"
WITNESS_CONFIG: Final = "witness.toml"
_MAX_CONFIG_BYTES: Final = 1024 * 1024

T = TypeVar("T")


class SqliteSettings(canonical.Strict, frozen=True, kw_only=True, tag_field="kind", tag="sqlite"):
    """The log in SQLite files beside its configuration."""

    log: str = "ledger.db"
    head: str = "head.db"


class PostgresSettings(canonical.Strict, frozen=True, kw_only=True, tag_field="kind", tag="postgresql"):
    """The order of entries in PostgreSQL, the entries and tiles in an object store.

    Attributes:
        database: a libpq connection string without a password; that stands in ``PGPASSFILE`` or a service file.
        objects: ``file:///folder``, ``s3://bucket/prefix``, ``gs://bucket/prefix``; credentials come from the environment.
        options: of the object store, e.g. ``endpoint`` of an S3 server of one's own.
    """

    database: str
    objects: str
    options: dict[str, str] = {}


StoreSettings = SqliteSettings | PostgresSettings


class _LogFile(canonical.Strict, frozen=True, kw_only=True):
    origin: str
    require: list[str]
    store: StoreSettings
    policy: str = "policy.txt"
    keys: str = "keys"


class _WitnessFile(canonical.Strict, frozen=True, kw_only=True):
    name: str
    logs: list[str]
    keys: str = "keys"
    memory: str = "witness.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """A log of one's own.

    Attributes:
        require: the keys of which a verifier requires all, as vkeys.
        policy: which witnesses are enough.
        keys: the folder of the private keys; on another machine it is not there.
    """

    folder: Path
    origin: str
    require: tuple[str, ...]
    store: StoreSettings
    policy: WitnessPolicy
    keys: Path

    def path(self, name: str) -> Path:
        """Return the place of a file that the configuration names."""
        return self.folder / name


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessPlace:
    """A witness.

    Attributes:
        logs: the log keys that it knows, of any number of logs.
    """

    folder: Path
    name: str
    logs: tuple[VerifierKey, ...]
    keys: Path
    memory: Path


def find_place(start: Path, name: str) -> Path | None:
    """Return the nearest folder upwards from *start* that holds the configuration *name*."""
    start = start.resolve()
    return next((folder for folder in (start, *start.parents) if (folder / name).is_file()), None)


def read_log_place(folder: Path) -> LogPlace:
    """Read ``ledger.toml`` in *folder*.

    Raises:
        DecodeError: it, or the policy that it names, is malformed.
        UsageError: the policy is missing.
    """
    file = _read(folder / LOG_CONFIG, _LogFile)
    if not file.require or any(VerifierKey.decode(vkey).name != file.origin for vkey in file.require):
        raise DecodeError(f"{folder / LOG_CONFIG}: require names the keys of {file.origin}, and there is at least one")
    return LogPlace(
        folder=folder,
        origin=_origin(file.origin),
        require=tuple(file.require),
        store=file.store,
        policy=WitnessPolicy.parse(read_file(folder / file.policy, max_bytes=MAX_POLICY_BYTES)),
        keys=folder / file.keys,
    )


def read_witness_place(folder: Path) -> WitnessPlace:
    """Read ``witness.toml`` in *folder*.

    Raises:
        DecodeError: it is malformed.
    """
    file = _read(folder / WITNESS_CONFIG, _WitnessFile)
    return WitnessPlace(
        folder=folder,
        name=file.name,
        logs=tuple(VerifierKey.decode(vkey) for vkey in file.logs),
        keys=folder / file.keys,
        memory=folder / file.memory,
    )


def write_log_config(origin: str, require: Sequence[str], store: StoreSettings) -> bytes:
    """Return ``ledger.toml``."""
    lines = [
        "# A transparency log. Paths are relative to this file.",
        f"origin = {_quoted(_origin(origin))}",
        "require = [  # a verifier asks for a signature by each of these",
        *(f"    {_quoted(vkey)}," for vkey in require),
        "]",
        'policy = "policy.txt"  # which witnesses are enough (C2SP tlog-policy)',
        'keys = "keys"',
        *store_lines(store, table="store"),
    ]
    return ("\n".join(lines) + "\n").encode()


def store_lines(store: StoreSettings, *, table: str) -> list[str]:
    """Return the lines of the TOML *table* that says where a log is kept."""
    settings = msgspec.to_builtins(store)
    options = settings.pop("options", {})
    lines = ["", f"[{table}]", *(f"{name} = {_quoted(value)}" for name, value in settings.items())]
    if options:
        lines += ["", f"[{table}.options]", *(f"{name} = {_quoted(value)}" for name, value in options.items())]
    return lines


def write_witness_config(name: str, logs: Sequence[str]) -> bytes:
    """Return ``witness.toml``."""
    lines = [
        "# A witness: it cosigns that these logs only grow. Paths are relative to this file.",
        f"name = {_quoted(name)}",
        "logs = [  # vkeys; a checkpoint with a line by one of them is looked at",
        *(f"    {_quoted(vkey)}," for vkey in logs),
        "]",
        'keys = "keys"',
        'memory = "witness.db"  # never restored from a backup',
    ]
    return ("\n".join(lines) + "\n").encode()


def _origin(text: str) -> str:
    try:
        return Checkpoint(origin=text, size=0, root=EMPTY_ROOT).origin
    except DecodeError as error:
        raise UsageError(
            f"{text[:80]!r} is no origin", hint="a name like log.example/models, without https://"
        ) from error


def _quoted(text: str) -> str:
    """Return *text* as a TOML basic string, which JSON's are."""
    return msgspec.json.encode(text).decode()


def _read(path: Path, kind: type[T]) -> T:
    try:
        text = read_file(path, max_bytes=_MAX_CONFIG_BYTES).decode()
        return canonical.convert(tomllib.loads(text), kind, what=path.name)
    except ValueError as error:
        raise DecodeError(f"{path}: is not TOML ({error})") from error
