# SPDX-License-Identifier: Apache-2.0
"""The one place of the command line that names adapters: a workspace with its real parts, each opened when it is needed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chopmark.adapters.kms import file as kms
from chopmark.adapters.kms import open_signer
from chopmark.artifacts import read_file, sync_folder, write_file
from chopmark.canonical import check_name
from chopmark.clock import Clock, SystemClock
from chopmark.errors import ChopmarkError, UndecidedError, UsageError
from chopmark.keys import Algorithm, PublicKey, Signer, read_public_key
from chopmark.statements import Envelope, Statement, sign

if TYPE_CHECKING:  # `sign` takes its key from here, and starts without TUF and Git
    from chopmark.adapters.blobs.folder import FolderChannel
    from chopmark.artifacts import BlobStore, Digest, Runtime
    from chopmark.builds import Runner, SourceTree
    from chopmark.channel import Fetcher, Release
    from chopmark.channel.ports import SecurityHost
    from chopmark.channel.status import StatusHost
    from chopmark.fleet import FleetStore
    from chopmark.ledger.place import LogPlace, StoreSettings
    from chopmark.ledger.ports import WitnessClient
    from chopmark.ledger.sequencer import Ledger
    from chopmark.ledger.witness import Witness
    from chopmark.release import Committer, Gate, GitHost
    from chopmark.release.evidence import StatementLedger
    from chopmark.release.founding import Founding
    from chopmark.release.workspace import Workspace
    from chopmark.trust import TrustedRoot, TrustPolicy

WITNESS: Final = "witness-1"
MAX_KEYS: Final = 100
_MAX_PUBLIC_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """A private key on this machine.

    Attributes:
        path: of the private half; the public one stands beside it, ``.pub``, where a command made it.
    """

    path: Path
    public: PublicKey

    @property
    def public_path(self) -> Path:
        return self.path.with_suffix(".pub")


class Site:
    """A workspace and its parts. It decides nothing: what is done with the parts stands in the modules beside this one."""

    def __init__(self, workspace: Workspace, *, clock: Clock | None = None) -> None:
        self.workspace = workspace
        self.clock: Clock = clock or SystemClock()

    @classmethod
    def at(cls, folder: Path) -> Site:
        """Open the workspace that *folder* is in."""
        from chopmark.release.workspace import open_workspace

        return cls(open_workspace(folder))

    @cached_property
    def _trusted(self) -> tuple[TrustedRoot, TrustPolicy]:
        return self.workspace.trusted()

    @property
    def root(self) -> TrustedRoot:
        return self._trusted[0]

    @property
    def trust(self) -> TrustPolicy:
        return self._trusted[1]

    @cached_property
    def trust_before(self) -> tuple[TrustPolicy, ...]:
        """What trust.json said before: history is judged by it, and nothing else."""
        return self.workspace.trusted_before()

    def signers(self, owner: str) -> list[Signer]:
        """Return the keys that *owner* may sign with now.

        Raises:
            UndecidedError: they are on another machine.
            VerificationError: ``key-expired``, ``key-retired``.
        """
        from chopmark.release.keyring import usable

        found = kms.load_all(self.workspace.owner_keys(owner), ask_passphrase)
        return usable(found, self.trust, owner, now=self.clock.now())

    def keys_here(self, owner: str) -> tuple[KeyFile, ...]:
        """Return the keys of *owner* whose private half is on this machine, by file name.

        A key that cannot be opened without somebody's help is known by the public half beside it, or not at all.
        """
        folder = self.workspace.owner_keys(owner)
        found = []
        for path in sorted((*folder.glob("*.pem"), *folder.glob("*.uri"))):
            with suppress(ChopmarkError):
                found.append(KeyFile(path=path, public=_public_half(path)))
        return tuple(found)

    def use_for_git(self, owner: str, key: KeyFile) -> None:
        """Make *key* the one that *owner* signs commits with.

        Raises:
            UsageError: it is not a plain file, and Git would have to open it.
        """
        kms.export_openssh(kms.load(key.path), self.workspace.owner_keys(owner) / "git")

    @cached_property
    def ledger(self) -> Ledger:
        """The workspace's ledger, opened for appending."""
        from chopmark.apps.cli.ledger.wiring import LogSite

        return LogSite(self.log_place, clock=self.clock).ledger

    @property
    def log_place(self) -> LogPlace:
        """Where the ledger is, as trust.json and the workspace say."""
        return self.workspace.log_place(self.trust)

    @cached_property
    def evidence(self) -> StatementLedger:
        """The ledger as a record of statements."""
        from chopmark.release.evidence import StatementLedger

        return StatementLedger(self.ledger, self.blobs)

    def statements(self) -> Iterator[tuple[int, Envelope]]:
        """Yield every statement in the ledger with its index."""
        return self.evidence.statements()

    def record(self, statement: Statement, owner: str) -> tuple[int, Envelope]:
        """Sign *statement* with the keys of *owner* and log it; return its index and the envelope."""
        envelope = sign(statement, self.signers(owner))
        return self.evidence.log(envelope), envelope

    @property
    def releases(self) -> Mapping[Digest, Release]:
        """Releases in the ledger that enough approvers signed, by release hash; read once for each size of the ledger."""
        from chopmark.release.record import approved_in_ledger

        size = self.ledger.checkpoint.size
        if self._releases_at[0] != size:
            self._releases_at = (size, approved_in_ledger(self.statements(), self.trust, before=self.trust_before))
        return self._releases_at[1]

    _releases_at: tuple[int, Mapping[Digest, Release]] = (-1, {})

    @cached_property
    def blobs(self) -> BlobStore:
        from chopmark.adapters.blobs.folder import FolderBlobs

        return FolderBlobs(self.workspace.blobs)

    @cached_property
    def published(self) -> FolderChannel:
        """The folder that is served as the channel."""
        from chopmark.adapters.blobs.folder import FolderChannel

        return FolderChannel(self.workspace.published)

    @cached_property
    def git(self) -> GitHost:
        from chopmark.adapters.git.local import LocalGit

        return LocalGit(self.workspace.repository)

    @cached_property
    def fleet(self) -> FleetStore:
        """What the devices reported."""
        from chopmark.adapters.sql import fleet

        return fleet.load(self.workspace.fleet_db)

    @cached_property
    def runtime(self) -> Runtime:
        """The model runtime of this machine."""
        from chopmark.adapters.runtimes import open_runtime

        return open_runtime("onnxruntime")

    def source(self, folder: Path) -> SourceTree:
        """Return *folder* as a tree of committed code."""
        from chopmark.adapters.processes.source import GitSource

        return GitSource(folder)

    def runner(self) -> Runner:
        """Return what runs commands on this machine."""
        from chopmark.adapters.processes.runner import ProcessRunner

        return ProcessRunner()

    def fetcher(self, url: str) -> Fetcher:
        """Return the channel at *url*: over HTTP, or in a folder (``file:///…``)."""
        from chopmark.adapters.blobs.folder import FolderFetcher
        from chopmark.adapters.http.fetcher import HttpFetcher

        return FolderFetcher(Path(url.removeprefix("file://"))) if url.startswith("file:///") else HttpFetcher(url)

    def gate(self) -> Gate:
        """Return the gate with its key on this machine."""
        from chopmark.release import Gate

        record = self.evidence
        return Gate(trust=self.trust, source=record, ledger=record, signers=self.signers("gate"), clock=self.clock)

    def committer(self, owner: str) -> Committer:
        """Return who *owner* commits as."""
        from chopmark.release import Committer

        key = self.workspace.owner_keys(owner) / "git"
        return Committer(name=owner, email=f"{owner}@{self.workspace.name}", key=key)

    def security_host(self) -> SecurityHost:
        """Return the way to the security host."""
        from chopmark.adapters.http.security import HttpSecurityHost

        return HttpSecurityHost(self.workspace.security_url)

    def status_host(self) -> StatusHost:
        """Return the security host itself, with its keys: where nothing else runs, or the workspace is being made."""
        # No calendar stops the status: an expired key of its host is doctor's to report.
        return _status_host(self.workspace.security, self.trust, kms.load_all(self.workspace.owner_keys("status-host")))

    def witnesses(self) -> dict[str, WitnessClient]:
        """Return the way to each witness."""
        from chopmark.apps.cli.ledger.wiring import LogSite

        return LogSite(self.log_place).witnesses()

    def own_witness(self) -> WitnessClient:
        """Return the workspace's witness inside this process, where nothing else runs."""
        from chopmark.ledger.witness import DirectWitness

        return DirectWitness(self.witness())

    def witness(self) -> Witness:
        """Return the workspace's witness itself, with its keys."""
        from chopmark.adapters.sql import witness
        from chopmark.ledger import VerifierKey
        from chopmark.ledger.witness import Witness

        logs = {log.origin: [VerifierKey.decode(key) for key in log.require] for log in self.trust.logs}
        store = witness.load(self.workspace.witness_db(WITNESS))
        signers = kms.load_all(self.workspace.owner_keys(WITNESS))
        return Witness(name=WITNESS, signers=signers, logs=logs, store=store, clock=self.clock)


def check_new(folder: Path) -> None:
    """Check that *folder* can become something new.

    Raises:
        UsageError: it exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder.resolve()}: exists and is not empty", hint="name a folder that does not exist yet")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that becomes *folder* when it is complete, and is gone where it is not."""
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    building.mkdir(mode=0o700)
    try:
        yield building
        building.replace(folder)  # an empty folder is replaced; one that somebody filled meanwhile is not
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def download(
    url: str, into: Path, *, max_bytes: int, on_bytes: Callable[[int, int | None], None] | None = None
) -> None:
    """Download a file over http or https; as :func:`chopmark.adapters.http.download.download`."""
    from chopmark.adapters.http.download import download as fetch

    fetch(url, into, max_bytes=max_bytes, on_bytes=on_bytes)


def load_key(key: str | Path) -> Signer:
    """Open a private key: a path, or a URI of docs/reference/signers.md."""
    return open_signer(str(key), passphrase=ask_passphrase)


def ask_passphrase() -> bytes:
    """Ask the person at the terminal for what opens a key.

    Raises:
        UndecidedError: there is nobody (``key-locked``).
    """
    import getpass
    import sys

    if not sys.stdin.isatty():
        raise UndecidedError(
            "the key is locked, and there is no terminal to ask for what opens it",
            code="key-locked",
            hint=f"name a file that holds it, mode 0600: {kms.PASSPHRASE_FILE} for key files, pin-source= for tokens",
        )
    return getpass.getpass("passphrase or PIN: ").encode()


def read_passphrase(path: Path) -> bytes:
    """Return the passphrase in a file that its owner alone may read; as :func:`chopmark.adapters.kms.file.read_passphrase`."""
    return kms.read_passphrase(path)


def public_half(path: Path) -> PublicKey:
    """Return the public half of the key that a ``.pem`` or ``.uri`` file is; nobody is asked for a passphrase.

    Raises:
        UsageError, UndecidedError: it cannot be opened.
    """
    signer = open_signer(kms.read_uri(path)) if path.suffix == ".uri" else kms.load(path)
    return signer.public


def _public_half(path: Path) -> PublicKey:
    beside = path.with_suffix(".pub")
    return read_public_key(read_file(beside, max_bytes=_MAX_PUBLIC_BYTES)) if beside.exists() else public_half(path)


def make_keys(folder: Path, algorithms: Sequence[Algorithm], *, passphrase: bytes | None) -> tuple[KeyFile, ...]:
    """Make one key of each algorithm in *folder*, mode 0600, with its public half beside it.

    A key that is there already stays; the new one is ``ed25519-2.pem``, and so on.

    Args:
        passphrase: what the files are encrypted with; None for none.
    """
    made = []
    for algorithm in algorithms:
        taken = (folder / f"{algorithm}{suffix}.pem" for suffix in ("", *(f"-{n}" for n in range(2, MAX_KEYS))))
        path = next((path for path in taken if not path.exists()), None)
        if path is None:
            raise UsageError(f"{folder}: holds {MAX_KEYS - 1} keys of {algorithm}", hint="move old ones away")
        key = KeyFile(path=path, public=kms.create(path, algorithm, passphrase=passphrase).public)
        write_file(key.public_path, key.public.pem.encode())
        made.append(key)
    return tuple(made)


def open_keys(place: str) -> list[Signer]:
    """Open what *place* names: all keys of a folder, or one key.

    Raises:
        UndecidedError: there is none.
        UsageError: it is no key of ours, or others may read it.
    """
    path = Path(place)
    return kms.load_all(path, ask_passphrase) if path.is_dir() else [load_key(place)]


def create_workspace(
    folder: Path, *, name: str, channel: str, port: int, store: StoreSettings | None = None
) -> Workspace:
    """Make a workspace with all its keys on this machine; nothing is left where it cannot be finished.

    Args:
        store: where its ledger is kept; None for SQLite.
        port: of the service; security host and witness take the two after it.

    Raises:
        UsageError: *folder* exists and is not empty.
    """
    from chopmark.release.workspace import open_workspace

    check_name(name, what="workspace")
    check_name(channel, what="channel")
    if store is not None:
        from chopmark.apps.cli.ledger.wiring import check_settings

        check_settings(store)
    folder = folder.resolve()
    with new_folder(folder) as building:
        _fill(building, name=name, channel=channel, port=port, store=store)
    return open_workspace(folder)


def _fill(folder: Path, *, name: str, channel: str, port: int, store: StoreSettings | None) -> None:
    from chopmark.ledger.place import SqliteSettings
    from chopmark.release.workspace import CONFIG, Workspace, write_config

    state = folder / ".chopmark"
    public = _make_keys(state / "keys")
    origin = f"log.{name}/m"
    founding, trust = _found(name, origin=origin, public=public, keys=state / "keys", channel=channel)
    workspace = Workspace(
        folder=folder,
        name=name,
        pin=founding.root.digest,
        repository=folder / "release",
        state=state,
        channel=channel,
        service_url=f"http://127.0.0.1:{port}",
        security_url=f"http://127.0.0.1:{port + 1}",
        witness_urls={WITNESS: f"http://127.0.0.1:{port + 2}"},
        store=store or SqliteSettings(),
    )
    write_file(folder / CONFIG, write_config(workspace))
    write_file(folder / ".gitignore", b".chopmark/\npackages/\n")
    write_file(workspace.token_file, secrets.token_urlsafe(32).encode(), mode=0o600)
    _make_stores(workspace, origin, trust)
    _publish_founding(workspace, founding)


def _make_keys(folder: Path) -> dict[str, list[PublicKey]]:
    """Make every key of every owner, the log's and the witness's; return the public halves."""
    from chopmark.release.founding import GIT_SIGNERS, OWNERS

    wanted = {**OWNERS, "log": (Algorithm.ED25519, Algorithm.ML_DSA_44), WITNESS: (Algorithm.ED25519,)}
    made = {
        owner: [kms.create(folder / owner / f"{algorithm}.pem", algorithm) for algorithm in algorithms]
        for owner, algorithms in wanted.items()
    }
    for owner in GIT_SIGNERS:
        kms.export_openssh(made[owner][0], folder / owner / "git")
    return {owner: [signer.public for signer in signers] for owner, signers in made.items()}


def _found(
    name: str, *, origin: str, public: Mapping[str, Sequence[PublicKey]], keys: Path, channel: str
) -> tuple[Founding, TrustPolicy]:
    from chopmark.ledger import log_key, witness_key
    from chopmark.release.founding import OWNERS, ROOT_OWNERS, default_trust, found
    from chopmark.trust import LogKeys

    now = SystemClock().now()
    logs = tuple(log_key(origin, key).encode() for key in public["log"])
    policy = [f"log {vkey}" for vkey in logs]
    policy += [f"witness {WITNESS} {witness_key(WITNESS, public[WITNESS][0]).encode()}", f"quorum {WITNESS}", ""]
    trust = default_trust(
        name,
        owners={owner: public[owner] for owner in OWNERS},
        logs=(LogKeys(origin=origin, require=logs),),
        witness_policy="\n".join(policy),
        made=now,
    )
    signers = [signer for owner in ROOT_OWNERS for signer in kms.load_all(keys / owner)]
    return found(trust, channels=[channel], root_signers=signers, now=now), trust


def _make_stores(workspace: Workspace, origin: str, trust: TrustPolicy) -> None:
    from chopmark.adapters.sql import fleet, witness
    from chopmark.adapters.sql.embedded import create_ledger
    from chopmark.ledger.place import SqliteSettings

    if isinstance(workspace.store, SqliteSettings):
        create_ledger(workspace.ledger_db, workspace.head_db, origin=origin)
    else:
        from chopmark.apps.cli.ledger.wiring import make_scaled

        make_scaled(workspace.store, origin=origin)
    fleet.create(workspace.fleet_db).close()
    path = workspace.witness_db(WITNESS)
    path.parent.mkdir()
    witness.create(path).close()
    _status_host(workspace.security, trust, kms.load_all(workspace.owner_keys("status-host"))).current()


def _status_host(folder: Path, trust: TrustPolicy, signers: Sequence[Signer]) -> StatusHost:
    from chopmark.channel.status import STATUS_INTERVAL, StatusHost

    return StatusHost(folder=folder, trust=trust, signers=signers, clock=SystemClock(), interval=STATUS_INTERVAL)


def _publish_founding(workspace: Workspace, founding: Founding) -> None:
    from chopmark.adapters.blobs.folder import FolderChannel
    from chopmark.adapters.git.local import LocalGit
    from chopmark.channel.publish import publish_root
    from chopmark.policy import default_policy_file
    from chopmark.release import empty_channel

    publish_root(FolderChannel(workspace.published), founding.root, founding.trust)
    LocalGit.create(
        workspace.repository,
        files={
            "trust/1.root.json": founding.root.data,
            "trust/1.trust.json": founding.trust,
            "trust/targets.json": founding.targets,
            "policies/default.yaml": default_policy_file(),
            f"channels/{workspace.channel}.yaml": empty_channel(workspace.channel),
        },
        message=f"Found {workspace.name}: root, trust, policy and the channel {workspace.channel}",
        key=workspace.owner_keys("maintainer") / "git",
        author="maintainer",
    )
