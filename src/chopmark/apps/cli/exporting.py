# SPDX-License-Identifier: Apache-2.0
"""Put a dossier together from the parts of a workspace. It gets its name only when it opens from the workspace's pin."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chopmark.artifacts import Digest, Manifest, decode_manifest, make_folder, read_file, sync_folder
from chopmark.documents import MAX_DOCUMENT_BYTES
from chopmark.errors import UndecidedError, UsageError, VerificationError
from chopmark.ledger import Checkpoint, decode_note
from chopmark.release.dossier import Dossier, Entry, Opened, open_dossier, read_dossier, write_dossier
from chopmark.release.life import find_digest, read_life, trace
from chopmark.statements import decode_leaf
from chopmark.trust import MAX_ROOT_BYTES, MAX_TRUST_BYTES, encode_trust

if TYPE_CHECKING:
    from chopmark.apps.cli.wiring import Site
    from chopmark.release.life import Event

MAX_VERSIONS = 1000
"""How far back in a policy's history is looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A dossier that was written, as it opens, and its length in bytes."""

    opened: Opened
    length: int


def export_dossier(site: Site, what: str, out: Path, *, package: bool, whole: bool) -> Exported:
    """Write the dossier of *what* to *out*.

    Args:
        what: a model (its current release), a release (``digits-1``), or a digest.
        package: with the files of the package.
        whole: with every entry of the ledger, so that what is not there can be said not to exist.

    Raises:
        UsageError: *what* names nothing, or the package is not in the workspace's store.
        UndecidedError: the witnesses have not seen all of it yet.
    """
    events = read_life(site.statements(), site.trust, before=site.trust_before)
    about = _about(site, what) or Digest.from_hex(find_digest(events, what))
    released = site.releases.get(about)
    about = released.manifest if released is not None else about
    life = {event.index for event in trace(events, about.hex)}
    manifest = _manifest(site, about)
    if manifest is None and about in {release.manifest for release in site.releases.values()}:
        raise UsageError(
            f"package {about.short}… is not in the workspace's store",
            code="package-missing",
            hint="export where it was packaged",
        )
    channel, published = _published(site)
    dossier = Dossier(
        workspace=site.workspace.name,
        about=about,
        log=site.ledger.origin,
        roots=tuple(_roots(site)),
        trust=read_file(
            site.workspace.repository / "trust" / f"{site.root.trust.version}.trust.json", max_bytes=MAX_TRUST_BYTES
        ),
        entries=tuple(_entries(site, life, whole=whole)),
        channel=channel,
        published=published,
        policies=_policies(site, [event for event in events if event.index in life]),
        manifest=manifest.encode() if manifest is not None else None,
        before={trust.version: encode_trust(trust) for trust in site.trust_before},
    )
    files = _files(site, manifest) if package and manifest is not None else ()
    return _write(site, dossier, files, out)


def _about(site: Site, what: str) -> Digest | None:
    """Return the package of the release that *what* names, if it names one."""
    from chopmark.release import MAIN, read_model

    for release in site.releases.values():
        if f"{release.model}-{release.version}" == what:
            return release.manifest
    head = site.git.head(MAIN)
    if head is None or what not in {release.model for release in site.releases.values()}:
        return None
    found = read_model(site.git, head, what, workspace=site.workspace.name)
    return found.release.manifest if found is not None else None


def _manifest(site: Site, about: Digest) -> Manifest | None:
    try:
        manifest = decode_manifest(site.blobs.get(about))
    except (UndecidedError, VerificationError):
        return None
    return manifest if manifest.digest == about else None


def _roots(site: Site) -> Iterator[bytes]:
    for number in range(1, site.root.version + 1):
        yield read_file(site.workspace.repository / "trust" / f"{number}.root.json", max_bytes=MAX_ROOT_BYTES)


def _entries(site: Site, life: set[int], *, whole: bool) -> Iterator[Entry]:
    log = site.ledger
    note = log.witnessed_checkpoint()
    covered = 0 if note is None else Checkpoint.decode(decode_note(note).text).size
    late = sorted(index for index in life if index >= covered)
    if late:
        raise UndecidedError(
            f"witnesses have not seen entry {late[-1]} yet",
            code="not-witnessed-yet",
            hint="let them: chopmark operator once, or chopmark ledger feed",
        )
    indices = list(range(covered)) if whole else sorted(life)
    for index, proof in zip(indices, log.proofs(indices), strict=True):
        leaf = log.entry(index)
        yield Entry(index=index, leaf=leaf, proof=proof, envelope=_named(site, leaf))


def _named(site: Site, leaf: bytes) -> bytes | None:
    from chopmark.ledger.rekor import is_hashed_rekord

    found = None if is_hashed_rekord(leaf) else decode_leaf(leaf)
    return site.blobs.get(found) if isinstance(found, Digest) else None


def _published(site: Site) -> tuple[str | None, dict[str, bytes]]:
    """Return the newest publication: the channel's name, and the files that steps 5 to 9 look at."""
    from chopmark.channel.publish import TIMESTAMP, read_current

    name, store = site.workspace.channel, site.published
    current = read_current(store, name)
    if current.raw is None:
        return None, {}
    paths = [
        TIMESTAMP,
        f"metadata/{current.snapshot}.snapshot.json",
        f"metadata/{current.snapshot}.snapshot.tlog-proof",
        *(f"metadata/{current.version(role)}.{role}.json" for role in ("targets", "status", name)),
    ]
    found = {path: store.get(path) for path in paths}
    if lost := [path for path, data in found.items() if data is None]:
        raise UndecidedError(
            f"{lost[0]}: is not in the published channel", hint="publish again: chopmark operator once"
        )
    return name, {path: data for path, data in found.items() if data is not None}


def _policies(site: Site, life: Iterable[Event]) -> dict[Digest, bytes]:
    """Return the policies that the gate's decisions name, from the history of main, as far as they are there."""
    from chopmark.release import MAIN

    wanted = dict(named for event in life if event.type == "vsa" and (named := _named_policy(event)))
    found: dict[Digest, bytes] = {}
    for path in set(wanted.values()):
        at = site.git.head(MAIN)
        for _ in range(MAX_VERSIONS):
            data = site.git.read(at, path, max_bytes=MAX_DOCUMENT_BYTES) if at else None
            if data is not None and Digest.of(data) in wanted:
                found[Digest.of(data)] = data
            change = site.git.last_change(at, path) if at else None
            if change is None or set(wanted) <= set(found):
                break
            at = change[1]
    return found


def _named_policy(event: Event) -> tuple[Digest, str] | None:
    """Return digest and path of the policy that a decision names; none where its path is none of a policy."""
    policy = event.predicate.get("policy")
    uri, digest = (policy.get("uri"), policy.get("digest")) if isinstance(policy, dict) else (None, None)
    text = digest.get("sha256") if isinstance(digest, dict) else None
    if not isinstance(uri, str) or not isinstance(text, str) or not re.fullmatch(r"policies/[a-z0-9._-]+\.yaml", uri):
        return None
    return (Digest.from_hex(text), uri) if re.fullmatch("[0-9a-f]{64}", text) else None


def _files(site: Site, manifest: Manifest) -> Iterator[tuple[Digest, int, Iterable[bytes]]]:
    lengths = {entry.sha256: entry.length for entry in manifest.files}
    for digest in sorted(lengths):
        yield digest, lengths[digest], _blob(site, digest)


def _blob(site: Site, digest: Digest) -> Iterator[bytes]:
    yield site.blobs.get(digest)  # when it is its turn: one file of the package in memory at a time


def _write(site: Site, dossier: Dossier, files: Iterable[tuple[Digest, int, Iterable[bytes]]], out: Path) -> Exported:
    make_folder(out.parent)
    building = out.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with building.open("xb") as file:
            write_dossier(file, dossier, files)
            file.flush()
            os.fsync(file.fileno())
        with building.open("rb") as file:
            opened = open_dossier(read_dossier(file), site.workspace.pin, now=site.clock.now())
        length = building.stat().st_size
        building.replace(out)
    except BaseException:
        building.unlink(missing_ok=True)
        raise
    sync_folder(out.parent)
    return Exported(opened=opened, length=length)
