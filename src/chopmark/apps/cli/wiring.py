# SPDX-License-Identifier: Apache-2.0
"""The one place of the command line that names adapters: a workspace with its real parts."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chopmark.adapters.kms import file as kms
from chopmark.artifacts import sync_folder, write_file
from chopmark.clock import Clock, SystemClock
from chopmark.errors import UndecidedError, UsageError
from chopmark.keys import Signer
from chopmark.release.workspace import CONFIG, Workspace, open_workspace, write_config
from chopmark.statements import Envelope, Statement, decode_leaf, sign, statement_leaf
from chopmark.trust import TrustedRoot, TrustPolicy

if TYPE_CHECKING:
    from chopmark.artifacts import BlobStore, Runtime
    from chopmark.channel import Fetcher
    from chopmark.ledger.feed import Fed
    from chopmark.ledger.sequencer import Ledger
    from chopmark.release import GitHost

WITNESS: Final = "witness-1"


class Site:
    """A workspace and the parts that its commands use, each opened when it is first needed."""

    def __init__(self, workspace: Workspace, *, clock: Clock | None = None) -> None:
        self.workspace = workspace
        self.clock: Clock = clock or SystemClock()

    @classmethod
    def at(cls, folder: Path) -> Site:
        """Open the workspace that *folder* is in."""
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

    def signers(self, owner: str) -> list[Signer]:
        """Return all keys of *owner* that are on this machine.

        Raises:
            UndecidedError: there is none.
        """
        folder = self.workspace.owner_keys(owner)
        found: list[Signer] = [kms.load(path) for path in sorted(folder.glob("*.pem"))]
        if not found:
            raise UndecidedError(
                f"the keys of {owner} are not on this machine", code="key-missing", hint=f"run this where {owner} works"
            )
        return found

    @cached_property
    def ledger(self) -> Ledger:
        """The workspace's ledger, opened for appending."""
        return open_ledger(self.workspace, self.signers("log"), self.clock)

    @cached_property
    def blobs(self) -> BlobStore:
        from chopmark.adapters.blobs.folder import FolderBlobs

        return FolderBlobs(self.workspace.blobs)

    @cached_property
    def git(self) -> GitHost:
        from chopmark.adapters.git.local import LocalGit

        return LocalGit(self.workspace.repository)

    def git_key(self, owner: str) -> Path:
        """Return the file with the key that *owner* signs commits with."""
        return self.workspace.owner_keys(owner) / "git"

    def runtime(self) -> Runtime:
        """Return the model runtime of this machine."""
        from chopmark.adapters.runtimes.onnxruntime import OnnxRuntime

        return OnnxRuntime()

    def fetcher(self, url: str) -> Fetcher:
        from chopmark.adapters.http.fetcher import HttpFetcher

        return HttpFetcher(url)

    def record(self, statement: Statement, owner: str) -> tuple[int, Envelope]:
        """Sign *statement* with the keys of *owner* and log it; return its index and the envelope."""
        envelope = sign(statement, self.signers(owner))
        return self.log(envelope), envelope

    def log(self, envelope: Envelope) -> int:
        """Log *envelope*; return its index."""
        leaf = statement_leaf(envelope)
        if isinstance(decode_leaf(leaf), Envelope):
            return self.ledger.append([leaf])[0]
        from chopmark.statements import encode_envelope

        self.blobs.put(encode_envelope(envelope))  # the leaf names it by digest
        return self.ledger.append([leaf])[0]

    def statements(self) -> Iterator[tuple[int, Envelope]]:
        """Yield every statement in the ledger with its index; what stands there by digest is read from the store."""
        from chopmark.statements import decode_envelope

        size = self.ledger.checkpoint.size
        for index, leaf in enumerate(self.ledger.entries(0, size)):
            found = decode_leaf(leaf)
            if isinstance(found, Envelope):
                yield index, found
            elif found is not None:
                yield index, decode_envelope(self.blobs.get(found))

    def feed(self) -> Fed:
        """Have the newest checkpoint witnessed."""
        from chopmark.adapters.http.witness import HttpWitness
        from chopmark.ledger import WitnessPolicy
        from chopmark.ledger.feed import feed

        clients = {name: HttpWitness(url) for name, url in self.workspace.witness_urls.items()}
        return feed(self.ledger, WitnessPolicy.parse(self.trust.witness_policy), clients)


def open_ledger(workspace: Workspace, signers: Sequence[Signer], clock: Clock) -> Ledger:
    """Open the embedded ledger of *workspace*."""
    from chopmark.adapters.sql import head, ledger
    from chopmark.ledger.sequencer import Ledger

    return Ledger.open(
        store=ledger.load(workspace.state / "ledger.db"),
        heads=head.load(workspace.state / "head.db"),
        origin=origin(workspace.name),
        signers=signers,
        clock=clock,
    )


def load_key(path: Path) -> Signer:
    """Open a private key file."""
    return kms.load(path)


def origin(name: str) -> str:
    """Return the name of a workspace's embedded ledger."""
    return f"log.{name}/m"


def create_workspace(folder: Path, *, name: str, channel: str, port: int) -> Workspace:
    """Make a workspace with all its keys on this machine; nothing is left where it cannot be finished.

    Args:
        port: of the service; security host and witness take the two after it.

    Raises:
        UsageError: *folder* exists and is not empty.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: exists and is not empty", hint="name a folder that does not exist yet")
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    building.mkdir(mode=0o700)
    try:
        _fill(building, name=name, channel=channel, port=port)
        if folder.exists():
            folder.rmdir()
        building.replace(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    sync_folder(folder.parent)
    return open_workspace(folder)


def _fill(folder: Path, *, name: str, channel: str, port: int) -> None:
    from chopmark.adapters.blobs.folder import FolderChannel
    from chopmark.adapters.git.local import LocalGit
    from chopmark.adapters.sql import head, ledger, witness
    from chopmark.channel.publish import publish_root
    from chopmark.keys import Algorithm
    from chopmark.ledger import log_key, witness_key
    from chopmark.release import default_policy
    from chopmark.release.founding import OWNERS, ROOT_OWNERS, default_trust, found
    from chopmark.trust import LogKeys

    state = folder / ".chopmark"
    keys = {
        owner: [kms.create(state / "keys" / owner / f"{algorithm}.pem", algorithm) for algorithm in algorithms]
        for owner, algorithms in OWNERS.items()
    }
    for owner in ("maintainer", "operator"):
        kms.export_openssh(keys[owner][0], state / "keys" / owner / "git")
    log = [kms.create(state / "keys" / "log" / f"{a}.pem", a) for a in (Algorithm.ED25519, Algorithm.ML_DSA_44)]
    cosigner = kms.create(state / "keys" / WITNESS / "ed25519.pem", Algorithm.ED25519)
    write_file(state / "keys" / "enroll.token", secrets.token_urlsafe(32).encode(), mode=0o600)
    log_keys = [log_key(origin(name), signer.public).encode() for signer in log]
    policy = [f"log {vkey}" for vkey in log_keys]
    policy += [f"witness {WITNESS} {witness_key(WITNESS, cosigner.public).encode()}", f"quorum {WITNESS}", ""]
    founding = found(
        default_trust(
            name,
            owners={owner: [signer.public for signer in signers] for owner, signers in keys.items()},
            logs=(LogKeys(origin=origin(name), require=tuple(log_keys), state="active"),),
            witness_policy="\n".join(policy),
        ),
        channels=[channel],
        root_signers=[signer for owner in ROOT_OWNERS for signer in keys[owner]],
        now=SystemClock().now(),
    )
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
    )
    write_file(folder / CONFIG, write_config(workspace))
    write_file(folder / ".gitignore", b".chopmark/\npackages/\n")
    ledger.create(state / "ledger.db", origin(name)).close()
    head.create(state / "head.db", origin(name)).close()
    (state / WITNESS).mkdir()
    witness.create(state / WITNESS / "witness.db").close()
    publish_root(FolderChannel(workspace.published), founding.root, founding.trust)
    LocalGit.create(
        workspace.repository,
        files={
            "trust/1.root.json": founding.root.data,
            "trust/1.trust.json": founding.trust,
            "trust/targets.json": founding.targets,
            "policies/default.yaml": default_policy(),
            f"channels/{channel}.yaml": empty_channel(channel),
        },
        message=f"Found {name}: root, trust, policy and the channel {channel}",
        key=state / "keys" / "maintainer" / "git",
        author="maintainer",
    )
