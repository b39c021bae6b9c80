# SPDX-License-Identifier: Apache-2.0
"""The one place of the command line that names adapters: a workspace with its real parts."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chopmark.adapters.kms import file as kms
from chopmark.artifacts import sync_folder, write_file
from chopmark.clock import Clock, SystemClock
from chopmark.errors import ChopmarkError, UndecidedError, UsageError
from chopmark.keys import Signer
from chopmark.release.workspace import CONFIG, Workspace, open_workspace, write_config
from chopmark.statements import Envelope, Statement, decode_leaf, sign, statement_leaf
from chopmark.trust import TrustedRoot, TrustPolicy

if TYPE_CHECKING:
    from chopmark.adapters.http.security import HttpSecurityHost
    from chopmark.artifacts import BlobStore, Digest, Runtime
    from chopmark.builds import Runner, SourceTree
    from chopmark.channel import Assignment, Fetcher, Release
    from chopmark.channel.publish import Current, Published, Shipment
    from chopmark.fleet import FleetStore
    from chopmark.ledger.feed import Fed
    from chopmark.ledger.ports import WitnessClient
    from chopmark.ledger.sequencer import Ledger
    from chopmark.policy import Rule
    from chopmark.release import Committer, Desired, Gate, GitHost

WITNESS: Final = "witness-1"
STATUS_INTERVAL: Final = timedelta(hours=4)


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

    def runtime(self) -> Runtime:
        """Return the model runtime of this machine."""
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

    @cached_property
    def fleet(self) -> FleetStore:
        """What the devices reported."""
        from chopmark.adapters.sql import fleet

        return fleet.load(self.workspace.state / "fleet.db")

    def gate(self) -> Gate:
        """Return the gate with its key on this machine."""
        from chopmark.release import Gate

        return Gate(trust=self.trust, source=self, ledger=self, signers=self.signers("gate"), clock=self.clock)

    def committer(self, owner: str) -> Committer:
        """Return who *owner* commits as."""
        from chopmark.release import Committer

        return Committer(
            name=owner, email=f"{owner}@{self.workspace.name}", key=self.workspace.owner_keys(owner) / "git"
        )

    def policy_rules(self) -> tuple[Rule, ...]:
        """Return the rules of the policy on main, of both phases."""
        from chopmark.release import MAIN, read_policy

        head = self.git.head(MAIN)
        return read_policy(self.git, head, "default").rules if head else ()

    def desired(self) -> Desired:
        """Return what the head of main asks for."""
        from chopmark.release import MAIN, desired

        head = self.git.head(MAIN)
        if head is None:
            raise UsageError("the release repository has no branch main", hint="make a workspace: chopmark init")
        return desired(self.git, head, trust=self.trust, workspace=self.workspace.name)

    def published(self) -> Current:
        """Return what the channel says now."""
        from chopmark.adapters.blobs.folder import FolderChannel
        from chopmark.channel.publish import read_current

        return read_current(FolderChannel(self.workspace.published), self.workspace.channel)

    @cached_property
    def _releases(self) -> dict[str, Release]:
        """Releases in the ledger that enough approvers signed, by release hash."""
        from chopmark.channel import decode_release
        from chopmark.statements import PredicateType, decode_statement, verify

        found = {}
        for _, envelope in self.statements():
            try:
                if decode_statement(envelope.payload).predicate_type == PredicateType.RELEASE:
                    release = decode_release(verify(envelope, self.trust, "approver").envelope.payload)
                    found[str(release.digest)] = release
            except ChopmarkError:
                continue  # what does not verify is no release
        return found

    def version_of(self, release: str) -> str:
        """Return ``v2`` for a release hash that the ledger knows, else the empty text."""
        found = self._releases.get(release)
        return f"v{found.version}" if found else ""

    def release_digest(self, text: str) -> Digest:
        """Return the one approved release that *text* names: ``v2``, or the first digits of its hash.

        Raises:
            UsageError: none or several.
        """
        prefix = text.removeprefix("sha256:").lower()
        found = [d for d, r in self._releases.items() if f"v{r.version}" == text or r.digest.hex.startswith(prefix)]
        if len(found) != 1:
            raise UsageError(f"{text}: names {len(found)} approved releases", hint="see: chopmark release history")
        return self._releases[found[0]].digest

    def current_release(self, model: str) -> Release:
        """Return the release of *model* that main asks for."""
        from chopmark.release import MAIN, read_model

        head = self.git.head(MAIN)
        found = read_model(self.git, head, model, workspace=self.workspace.name) if head else None
        if found is None:
            raise UsageError(f"{model}: main asks for no release of it", hint="chopmark release propose")
        return found.release

    def security_host(self) -> HttpSecurityHost:
        """Return the way to the security host."""
        from chopmark.adapters.http.security import HttpSecurityHost

        return HttpSecurityHost(self.workspace.security_url)

    def record(self, statement: Statement, owner: str) -> tuple[int, Envelope]:
        """Sign *statement* with the keys of *owner* and log it; return its index and the envelope."""
        envelope = sign(statement, self.signers(owner))
        return self.log(envelope), envelope

    def log(self, envelope: Envelope) -> int:
        """Log *envelope*; return its index."""
        self.__dict__.pop("_releases", None)
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

    def publish_alone(self, assignments: tuple[Assignment, ...], shipments: tuple[Shipment, ...]) -> Published:
        """Publish with every part inside this process; for `try`, where nothing else runs."""
        from chopmark.adapters.blobs.folder import FolderChannel
        from chopmark.channel.publish import Lifetimes, Publisher
        from chopmark.channel.status import StatusHost
        from chopmark.ledger import WitnessPolicy
        from chopmark.ledger.feed import feed

        witness, state = _witness(self), self.workspace.state

        def prove(leaf: bytes) -> bytes:
            index = self.ledger.append([leaf])[0]
            feed(self.ledger, WitnessPolicy.parse(self.trust.witness_policy), {WITNESS: witness})
            return self.ledger.prove(index)

        host = StatusHost(
            folder=state / "security",
            trust=self.trust,
            signers=self.signers("status-host"),
            clock=self.clock,
            interval=STATUS_INTERVAL,
        )
        publisher = Publisher(
            store=FolderChannel(self.workspace.published),
            root=self.root,
            channel=self.workspace.channel,
            signers=self.signers("operator"),
            prove=prove,
            lifetimes=Lifetimes(),
        )
        return publisher.publish(
            assignments=assignments,
            shipments=shipments,
            targets=(self.workspace.repository / "trust" / "targets.json").read_bytes(),
            status=host.current(),
            now=self.clock.now(),
        )

    def feed(self) -> Fed:
        """Have the newest checkpoint witnessed."""
        from chopmark.adapters.http.witness import HttpWitness
        from chopmark.ledger import WitnessPolicy
        from chopmark.ledger.feed import feed

        clients = {name: HttpWitness(url) for name, url in self.workspace.witness_urls.items()}
        return feed(self.ledger, WitnessPolicy.parse(self.trust.witness_policy), clients)


def _witness(site: Site) -> WitnessClient:
    from chopmark.adapters.sql import witness as store
    from chopmark.ledger import VerifierKey
    from chopmark.ledger.ports import WitnessClient
    from chopmark.ledger.witness import Witness

    made = Witness(
        name=WITNESS,
        signers=site.signers(WITNESS),
        logs={log.origin: [VerifierKey.decode(key) for key in log.require] for log in site.trust.logs},
        store=store.load(site.workspace.state / WITNESS / "witness.db"),
        clock=site.clock,
    )

    class Inside(WitnessClient):
        def _add_checkpoint(self, body: bytes) -> tuple[int, bytes]:
            answer = made.add_checkpoint(body)
            return answer.status, answer.body

    return Inside()


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
    from chopmark.adapters.sql import fleet, head, ledger, witness
    from chopmark.channel.publish import publish_root
    from chopmark.channel.status import StatusHost
    from chopmark.keys import Algorithm
    from chopmark.ledger import log_key, witness_key
    from chopmark.release import default_policy, empty_channel
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
    write_file(state / "enrolment-token", secrets.token_urlsafe(32).encode(), mode=0o600)
    log_keys = [log_key(origin(name), signer.public).encode() for signer in log]
    policy = [f"log {vkey}" for vkey in log_keys]
    policy += [f"witness {WITNESS} {witness_key(WITNESS, cosigner.public).encode()}", f"quorum {WITNESS}", ""]
    trust = default_trust(
        name,
        owners={owner: [signer.public for signer in signers] for owner, signers in keys.items()},
        logs=(LogKeys(origin=origin(name), require=tuple(log_keys), state="active"),),
        witness_policy="\n".join(policy),
    )
    founding = found(
        trust,
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
    fleet.create(state / "fleet.db").close()
    (state / WITNESS).mkdir()
    witness.create(state / WITNESS / "witness.db").close()
    StatusHost(
        folder=state / "security",
        trust=trust,
        signers=keys["status-host"],
        clock=SystemClock(),
        interval=STATUS_INTERVAL,
    ).current()
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
