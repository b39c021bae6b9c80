# SPDX-License-Identifier: Apache-2.0
"""A workspace: one folder that knows its repository, its state and its addresses.

``chopmark.toml`` holds paths and addresses and the pin of root.json. The pin stands here, outside the repository that
root governs; who clones a workspace compares it with the root owners' copy.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chopmark import canonical
from chopmark.artifacts import Digest, read_file
from chopmark.errors import DecodeError, UsageError
from chopmark.ledger import WitnessPolicy
from chopmark.ledger.place import (
    LOG_CONFIG,
    LogPlace,
    SqliteSettings,
    StoreSettings,
    find_place,
    read_log_place,
    store_lines,
)
from chopmark.trust import MAX_ROOT_BYTES, MAX_TRUST_BYTES, TrustedRoot, TrustPolicy, next_root, open_trust, pinned_root

CONFIG: Final = "chopmark.toml"
MAX_CONFIG_BYTES: Final = 65_536
_EMBEDDED: Final = SqliteSettings()


class _Address(canonical.Strict, frozen=True, kw_only=True):
    url: str


class _WitnessAddress(_Address, frozen=True, kw_only=True):
    external: bool = False


class _Config(canonical.Strict, frozen=True, kw_only=True):
    workspace: str
    root: str
    repository: str
    state: str
    channel: str
    service: _Address
    security: _Address
    witness: dict[str, _WitnessAddress] = {}
    ledger: StoreSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Where everything of a workspace is.

    Attributes:
        folder: holds ``chopmark.toml``.
        pin: digest of the first root.json.
        channel: the channel that the operator publishes.
        service_url, security_url, witness_urls: who is reached over HTTP.
        external_witnesses: those that somebody else than this organisation runs.
        store: where the ledger is kept, its files named from :attr:`state`.
    """

    folder: Path
    name: str
    pin: Digest
    repository: Path
    state: Path
    channel: str
    service_url: str
    security_url: str
    witness_urls: Mapping[str, str]
    external_witnesses: tuple[str, ...] = ()
    store: StoreSettings = _EMBEDDED

    @property
    def keys(self) -> Path:
        return self.state / "keys"

    @property
    def published(self) -> Path:
        """The folder that is served as the channel."""
        return self.state / "channel"

    @property
    def blobs(self) -> Path:
        return self.state / "blobs"

    @property
    def ledger_db(self) -> Path:
        return self.state / _EMBEDDED.log

    @property
    def head_db(self) -> Path:
        """The newest promise of the ledger; never restored together with :attr:`ledger_db`."""
        return self.state / _EMBEDDED.head

    @property
    def ledger_files(self) -> Path:
        """The ledger as static files, written after each publication."""
        return self.state / "ledger"

    @property
    def fleet_db(self) -> Path:
        return self.state / "fleet.db"

    @property
    def token_file(self) -> Path:
        """What the service asks of devices that enrol, mode 0600."""
        return self.state / "enrolment-token"

    @property
    def security(self) -> Path:
        """The folder of the security host."""
        return self.state / "security"

    @property
    def operator_status(self) -> Path:
        return self.state / "operator.json"

    @property
    def targets(self) -> Path:
        """targets.json, as the root owners signed it."""
        return self.repository / "trust" / "targets.json"

    def witness_db(self, name: str) -> Path:
        return self.state / name / "witness.db"

    @property
    def packages(self) -> Path:
        return self.folder / "packages"

    @property
    def alert(self) -> Path:
        """The newest alert, for people and for whatever ships it to the SIEM."""
        return self.folder / "alert.ocsf.json"

    def owner_keys(self, owner: str) -> Path:
        """Return the folder with the private keys of *owner*; on another machine it is not there."""
        return self.keys / owner

    def trusted(self) -> tuple[TrustedRoot, TrustPolicy]:
        """Return the newest root that follows from the pin, and its trust.json.

        Raises:
            UsageError: a file is missing.
            Refused: ``root-untrusted``, ``trust-mismatch``.
        """
        *_, root = self._roots()
        return root, open_trust(root, self._trust_file(root))

    def root_files(self) -> dict[str, bytes]:
        """Return what whoever follows the channel needs to come to the newest root: path in the channel -> bytes.

        Every trust.json stands before the root that names it, so that no root is published without.

        Raises:
            UsageError, Refused: as :meth:`trusted`.
        """
        files: dict[str, bytes] = {}
        for root in self._roots():
            data = self._trust_file(root)
            open_trust(root, data)
            files[f"metadata/{root.trust.version}.trust.json"] = data
            files[f"metadata/{root.version}.root.json"] = root.data
        return files

    def superseded(self, root: TrustedRoot) -> bool:
        """Tell whether a newer root than *root* stands in the repository; what opened with *root* opens again then."""
        return self._root_file(root.version + 1).exists()

    def _roots(self) -> Iterator[TrustedRoot]:
        root = pinned_root(read_file(self._root_file(1), max_bytes=MAX_ROOT_BYTES), self.pin)
        yield root
        while self.superseded(root):
            root = next_root(root, read_file(self._root_file(root.version + 1), max_bytes=MAX_ROOT_BYTES))
            yield root

    def _root_file(self, version: int) -> Path:
        return self.repository / "trust" / f"{version}.root.json"

    def _trust_file(self, root: TrustedRoot) -> bytes:
        path = self.repository / "trust" / f"{root.trust.version}.trust.json"
        return read_file(path, max_bytes=MAX_TRUST_BYTES)

    def trusted_before(self) -> tuple[TrustPolicy, ...]:
        """Return the earlier versions of trust.json, oldest first, each as a root of the chain from the pin names it.

        They say what was believed then, and grant nothing now. One whose file is missing is passed over.

        Raises:
            Refused: ``root-untrusted``, ``trust-mismatch``.
        """
        *roots, newest = self._roots()
        older = {root.trust.version: root for root in roots if root.trust.version != newest.trust.version}
        return tuple(
            open_trust(root, self._trust_file(root))
            for version, root in older.items()
            if (self.repository / "trust" / f"{version}.trust.json").exists()
        )

    def log_place(self, trust: TrustPolicy) -> LogPlace:
        """Return where the ledger is, as *trust* and the workspace say."""
        log, policy = trust.active_log, WitnessPolicy.parse(trust.witness_policy)
        named = {witness.name for witness in policy.witnesses}
        return LogPlace(
            folder=self.state,
            origin=log.origin,
            require=log.require,
            store=self.store,
            policy=policy,
            keys=self.owner_keys("log"),
            external=tuple(name for name in self.external_witnesses if name in named),
            urls=self.witness_urls,
        )


def find_log(start: Path) -> tuple[LogPlace, Workspace | None]:
    """Return the nearest log upwards from *start*: one of its own (``ledger.toml``), or that of the workspace beside it.

    Raises:
        UsageError: there is none.
        DecodeError, Refused: what says where it is cannot be read, or trusted.
    """
    own, around = find_place(start, LOG_CONFIG), find_place(start, CONFIG)
    if own is not None and (around is None or len(own.parts) >= len(around.parts)):
        return read_log_place(own), None
    if around is not None:
        workspace = open_workspace(around)
        return workspace.log_place(workspace.trusted()[1]), workspace
    raise UsageError(
        f"{start.resolve()}: is in no log and no workspace",
        code="no-ledger",
        hint="cd into one, or make one: chopmark ledger create DIR --origin log.example/models",
    )


def open_workspace(start: Path) -> Workspace:
    """Return the workspace that *start* is in: the nearest folder upwards with a ``chopmark.toml``.

    Raises:
        UsageError: there is none, or it has one that cannot be read.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / CONFIG).is_file():
            return _read(folder)
    raise UsageError(
        f"{start}: is not in a workspace",
        code="no-workspace",
        hint="cd into one, name it with --workspace, or make one: chopmark init DIR",
    )


def write_config(workspace: Workspace) -> bytes:
    """Return ``chopmark.toml`` for *workspace*."""
    lines = [
        "# What this workspace is made of. Paths are relative to this file.",
        f'workspace = "{workspace.name}"',
        f'root = "{workspace.pin}"  # the pin: compare it with the root owners\' copy',
        f'repository = "{workspace.repository.relative_to(workspace.folder)}"',
        f'state = "{workspace.state.relative_to(workspace.folder)}"',
        f'channel = "{workspace.channel}"',
        "",
        "[service]  # channel, ledger, fleet",
        f'url = "{workspace.service_url}"',
        "",
        "[security]  # the status host",
        f'url = "{workspace.security_url}"',
    ]
    for name, url in workspace.witness_urls.items():
        lines += ["", f"[witness.{name}]", f'url = "{url}"']
        lines += ["external = true  # somebody else runs it"] if name in workspace.external_witnesses else []
    if workspace.store != _EMBEDDED:
        lines += store_lines(workspace.store, table="ledger")
    return ("\n".join(lines) + "\n").encode()


def _read(folder: Path) -> Workspace:
    path = folder / CONFIG
    try:
        return _decode(folder, read_file(path, max_bytes=MAX_CONFIG_BYTES))
    except (DecodeError, UsageError) as error:
        hint = error.hint or "correct that file, or restore it: `chopmark init` writes one"
        raise UsageError(f"{path}: {error.message}", code="workspace-config", hint=hint) from error


def _decode(folder: Path, data: bytes) -> Workspace:
    try:
        config = canonical.convert(tomllib.loads(data.decode()), _Config, what=CONFIG)
    except ValueError as error:
        raise DecodeError(f"is not TOML ({error})") from error
    return Workspace(
        folder=folder,
        name=canonical.check_name(config.workspace, what=CONFIG),
        pin=Digest.parse(config.root),
        repository=folder / config.repository,
        state=folder / config.state,
        channel=canonical.check_name(config.channel, what=CONFIG),
        service_url=config.service.url,
        security_url=config.security.url,
        witness_urls={canonical.check_name(n, what=CONFIG): address.url for n, address in config.witness.items()},
        external_witnesses=tuple(name for name, address in config.witness.items() if address.external),
        store=config.ledger or _EMBEDDED,
    )
