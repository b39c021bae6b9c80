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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec

from chopmark import canonical
from chopmark.artifacts import read_file
from chopmark.errors import DecodeError, UsageError
from chopmark.ledger.checkpoint import Checkpoint
from chopmark.ledger.merkle import EMPTY_ROOT
from chopmark.ledger.note import LineKind, VerifierKey, check_key_name
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


class Retention(canonical.Strict, frozen=True, kw_only=True):
    """Which entries are kept; where a log states none, all are.

    Attributes:
        keep_newest: that many of the newest entries; older ones may be pruned.
    """

    keep_newest: Annotated[int, msgspec.Meta(ge=1)]


class _LogFile(canonical.Strict, frozen=True, kw_only=True):
    origin: str
    require: list[str]
    store: StoreSettings
    policy: str = "policy.txt"
    keys: str = "keys"
    external: list[str] = []
    retention: Retention | None = None


class _WitnessFile(canonical.Strict, frozen=True, kw_only=True):
    name: str
    logs: list[str]
    any: list[str] = []
    url: str = ""
    keys: str = "keys"
    memory: str = "witness.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """A log of one's own.

    Attributes:
        require: the keys of which a verifier requires all, as vkeys.
        policy: which witnesses are enough.
        keys: the folder of the private keys; on another machine it is not there.
        external: witnesses or groups of the policy that somebody else runs.
        urls: policy name -> where that witness is reached; one that stands alone, without a network, has none.
        retention: which entries are kept; None where all are.
    """

    folder: Path
    origin: str
    require: tuple[str, ...]
    store: StoreSettings
    policy: WitnessPolicy
    keys: Path
    external: tuple[str, ...] = ()
    urls: Mapping[str, str] = field(default_factory=dict)
    retention: Retention | None = None

    def path(self, name: str) -> Path:
        """Return the place of a file that the configuration names."""
        return self.folder / name


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessPlace:
    """A witness.

    Attributes:
        logs: origin -> the keys that it knows of that log; each of them has to sign.
        any_key: origins of which one key is enough.
        url: where logs reach it; empty where it has no network.
    """

    folder: Path
    name: str
    logs: Mapping[str, tuple[VerifierKey, ...]]
    any_key: tuple[str, ...]
    url: str
    keys: Path
    memory: Path


def find_place(start: Path, name: str) -> Path | None:
    """Return the nearest folder upwards from *start* that holds the configuration *name*."""
    start = start.resolve()
    return next((folder for folder in (start, *start.parents) if (folder / name).is_file()), None)


def find_either(start: Path, first: str, second: str) -> tuple[Path, str]:
    """Return the nearest folder upwards from *start* with one of two configurations, and which; *first* before *second*.

    Raises:
        UsageError: there is none.
    """
    found = [(folder, name) for name in (first, second) if (folder := find_place(start, name)) is not None]
    if not found:
        raise UsageError(
            f"{start.resolve()}: neither {first} nor {second} is here or above",
            code="no-place",
            hint="cd into one, or make one: chopmark ledger create-witness DIR --name NAME --log VKEY",
        )
    return max(found, key=lambda each: len(each[0].parts))  # of equals, max keeps the one that came first


def read_log_place(folder: Path) -> LogPlace:
    """Read ``ledger.toml`` in *folder*.

    Raises:
        DecodeError: it, or the policy that it names, is malformed.
        UsageError: the policy is missing.
    """
    file = _read(folder / LOG_CONFIG, _LogFile)
    if not file.require or any(VerifierKey.decode(vkey).name != file.origin for vkey in file.require):
        raise DecodeError(f"{folder / LOG_CONFIG}: require names the keys of {file.origin}, and there is at least one")
    policy = WitnessPolicy.parse(read_file(folder / file.policy, max_bytes=MAX_POLICY_BYTES))
    policy.within(file.external)  # a name that is not there is a slip of the pen, found now
    return LogPlace(
        folder=folder,
        origin=check_origin(file.origin),
        require=tuple(file.require),
        store=file.store,
        policy=policy,
        keys=folder / file.keys,
        external=tuple(file.external),
        urls={witness.name: witness.url for witness in policy.witnesses if witness.url},
        retention=file.retention,
    )


def read_witness_place(folder: Path) -> WitnessPlace:
    """Read ``witness.toml`` in *folder*.

    Raises:
        DecodeError: it is malformed, or names no log key, a key twice, or a key that no log has.
    """
    file = _read(folder / WITNESS_CONFIG, _WitnessFile)
    logs = log_keys(file.logs)
    if not set(file.any) <= set(logs):
        raise DecodeError(f"{folder / WITNESS_CONFIG}: any names a log of which no key is listed")
    return WitnessPlace(
        folder=folder,
        name=file.name,
        logs=logs,
        any_key=tuple(file.any),
        url=file.url,
        keys=folder / file.keys,
        memory=folder / file.memory,
    )


def log_keys(vkeys: Sequence[str]) -> Mapping[str, tuple[VerifierKey, ...]]:
    """Return origin -> the keys among *vkeys* that are of that log.

    Raises:
        DecodeError: none, one twice, two that a note cannot tell apart, or one that is no log's.
    """
    keys = [VerifierKey.decode(vkey) for vkey in vkeys]
    if not keys or len({(key.name, key.key_id) for key in keys}) != len(keys):
        raise DecodeError("a witness knows at least one log key, and each once")
    if any(key.kind is LineKind.COSIGNATURE for key in keys):
        raise DecodeError("a vkey of a witness, where one of a log belongs")
    return {check_origin(key.name): tuple(each for each in keys if each.name == key.name) for key in keys}


def write_log_config(
    origin: str,
    require: Sequence[str],
    store: StoreSettings,
    *,
    external: Sequence[str] = (),
    retention: Retention | None = None,
) -> bytes:
    """Return ``ledger.toml``."""
    lines = [
        "# A transparency log. Paths are relative to this file.",
        f"origin = {_quoted(check_origin(origin))}",
        "require = [  # a verifier asks for a signature by each of these",
        *(f"    {_quoted(vkey)}," for vkey in require),
        "]",
        'policy = "policy.txt"  # which witnesses are enough (C2SP tlog-policy)',
        'keys = "keys"',
        f"external = [{', '.join(map(_quoted, external))}]  # witnesses or groups of the policy that somebody else runs",
        *store_lines(store, table="store"),
    ]
    if retention is not None:
        lines += ["", "[retention]", f"keep_newest = {retention.keep_newest}"]
    return ("\n".join(lines) + "\n").encode()


def store_lines(store: StoreSettings, *, table: str) -> list[str]:
    """Return the lines of the TOML *table* that says where a log is kept."""
    settings = msgspec.to_builtins(store)
    options = settings.pop("options", {})
    lines = ["", f"[{table}]", *(f"{name} = {_quoted(value)}" for name, value in settings.items())]
    if options:
        lines += ["", f"[{table}.options]", *(f"{name} = {_quoted(value)}" for name, value in options.items())]
    return lines


def write_policy(logs: Sequence[str], policy: WitnessPolicy) -> bytes:
    """Return a policy file for the log keys *logs* with the witnesses, groups and quorum of *policy*."""
    lines = [
        *(f"log {vkey}" for vkey in logs),
        *(f"witness {each.name} {each.key.encode()} {each.url}".rstrip() for each in policy.witnesses),
        *(f"group {each.name} {each.k} {' '.join(each.members)}" for each in policy.groups),
        f"quorum {policy.quorum}",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def write_witness_config(name: str, logs: Sequence[str], *, any_key: Sequence[str] = (), url: str = "") -> bytes:
    """Return ``witness.toml``."""
    lines = [
        "# A witness: it cosigns that these logs only grow. Paths are relative to this file.",
        f"name = {_quoted(name)}",
        "logs = [  # vkeys; every key of a log that stands here has to sign its checkpoint",
        *(f"    {_quoted(vkey)}," for vkey in logs),
        "]",
        f"any = [{', '.join(map(_quoted, any_key))}]  # origins of which a line by any one key is enough",
        f"url = {_quoted(url)}  # where logs reach it",
        'keys = "keys"',
        'memory = "witness.db"  # never restored from a backup',
    ]
    return ("\n".join(lines) + "\n").encode()


def check_origin(text: str) -> str:
    """Return *text*, where it can be the name of a log and of its keys.

    Raises:
        UsageError: it cannot.
    """
    try:
        check_key_name(text)
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
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{path}: is not TOML ({error})") from error
