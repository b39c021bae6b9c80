# SPDX-License-Identifier: Apache-2.0
"""Steps 11 to 16 for one model: from what is assigned to a slot that was verified, tested and made the active one.

The new package is downloaded beside the slots, moved into the inactive one, checked there from the disk, tested from
sealed memory, and only then made active, in one commit with the counter's new floor. Until that commit the old slot is
what is loaded. A package that is whole in one of the slots already is not downloaded again: going back is instant.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from chopmark.artifacts import Digest, FileEntry, Manifest, read_file, selftest, sync_folder, write_file
from chopmark.channel import (
    ChannelFile,
    Fetcher,
    MissingError,
    Release,
    Status,
    Top,
    approved,
    current,
    envelope_target,
    fetch_path,
    manifest_target,
    package_target,
)
from chopmark.device.gate import direct, report
from chopmark.device.model import Slot, Slots, State
from chopmark.device.opened import Device
from chopmark.device.package import (
    ENVELOPE,
    FILES,
    MANIFEST,
    MAX_ENVELOPE_BYTES,
    check_package,
    checked_manifest,
    file_digest,
    open_package,
    read_envelope,
    read_manifest,
)
from chopmark.device.verdict import Refusal, Verified
from chopmark.errors import ChopmarkError, DecodeError, Refused, UndecidedError, VerificationError
from chopmark.trust import TrustPolicy


class Action(StrEnum):
    """What a refresh did about a model."""

    INSTALLED = "installed"
    ACTIVATED = "activated"
    UNCHANGED = "unchanged"
    HELD = "held"
    UNASSIGNED = "unassigned"
    REFUSED = "refused"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutcome:
    """What became of one model.

    Attributes:
        release: what is assigned; None where nothing is.
        verdict: None where nothing was judged: nothing assigned, held, or not decided.
        error: why it could not be decided.
    """

    model: str
    action: Action
    release: Digest | None = None
    verdict: Verified | Refusal | None = None
    error: ChopmarkError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    device: Device
    fetcher: Fetcher
    trust: TrustPolicy
    status: Status
    file: ChannelFile
    model: str
    assigned: Digest


def install(
    device: Device, fetcher: Fetcher, *, model: str, trust: TrustPolicy, status: Status, file: ChannelFile
) -> ModelOutcome:
    """Bring *model* to what *file* assigns here. Never raises for what the channel or the disk holds."""
    config = device.config
    assigned = file.assigned(model=model, runtime=config.runtime, device=config.device)
    # 9. Nothing assigned, or held: keep what runs.
    if assigned is None:
        return ModelOutcome(model=model, action=Action.UNASSIGNED)
    if any((hold.kind, hold.digest) == ("release", assigned) for hold in status.holds):
        return ModelOutcome(model=model, action=Action.HELD, release=assigned)
    job = _Job(device=device, fetcher=fetcher, trust=trust, status=status, file=file, model=model, assigned=assigned)
    try:
        with device.folder.locked(shared=True):
            state = device.store.read()
        return _install(job, state)
    except Refused as error:
        refusal = Refusal.of(error, model=model, release=assigned)
        return ModelOutcome(model=model, action=Action.REFUSED, release=assigned, verdict=refusal)
    except ChopmarkError as error:
        return ModelOutcome(model=model, action=Action.UNDECIDED, release=assigned, error=error)
    except OSError as error:
        lost = UndecidedError(f"{model}: the folder cannot be written ({error.strerror})", code="not-written")
        return ModelOutcome(model=model, action=Action.UNDECIDED, release=assigned, error=lost)


def _install(job: _Job, state: State) -> ModelOutcome:
    slots = state.slots.get(job.model)
    slot = _find(job, state, slots)
    envelope = _fetch_envelope(job) if slot is None else read_envelope(job.device.folder.slot(job.model, slot))
    # 11. k distinct approver owners signed it, for this predicate, model and channel.
    release = approved(envelope, job.trust, channel=job.device.config.channel)
    # 12. It is for this workspace, model, channel and runtime.
    direct(job.device, release, model=job.model)
    # 13. Not revoked, above the epoch floor, not older than the newest that ran here; last: it is the assigned one.
    current(release, status=job.status, top=state.top.get(job.model), assigned=job.assigned)
    if job.status.hold(release) is not None:
        return ModelOutcome(model=job.model, action=Action.HELD, release=job.assigned)
    if slots is not None and slot is slots.active and slots.release == job.assigned:
        verdict = Verified(model=job.model, slot=str(slot), release=release)
        return ModelOutcome(model=job.model, action=Action.UNCHANGED, release=job.assigned, verdict=verdict)
    # 14. The manifest is the envelope's; the package is exactly what it lists.
    action = Action.ACTIVATED
    if slot is None:
        slot = Slot.A if slots is None else slots.active.other
        _download(job, release, envelope, slot)
        action = Action.INSTALLED
    # 15. No package is sealed here: an envelope that says so is not decoded.
    # 16. Self-test from sealed memory; commit slot, top, gen.
    _self_test(job, release, slot)
    job.device.store.commit(_activate(job.model, release, slot))
    verdict = Verified(model=job.model, slot=str(slot), release=release)
    return ModelOutcome(model=job.model, action=action, release=job.assigned, verdict=verdict)


def _find(job: _Job, state: State, slots: Slots | None) -> Slot | None:
    """Return the slot that holds the assigned release whole. A damaged active one is reported before it is healed."""
    folder = job.device.folder
    active = Slot.A if slots is None else slots.active
    for slot in (active, active.other):
        place = folder.slot(job.model, slot)
        try:
            with folder.locked(shared=True):
                release = approved(read_envelope(place), job.trust, channel=job.device.config.channel)
                if release.digest == job.assigned:
                    check_package(place, read_manifest(place, release))
                    return slot
        except Refused as error:
            if slots is not None and (slot, slots.release) == (slots.active, job.assigned):
                refusal = Refusal.of(error, model=job.model, slot=str(slot), release=job.assigned)
                report(job.device, refusal, state)
    return None


def _fetch_envelope(job: _Job) -> bytes:
    target = envelope_target(job.device.config.channel, job.assigned)
    digest = job.file.files.get(target)
    if digest is None:
        raise Refused("targets-untrusted", "the channel file assigns a release whose envelope it does not list")
    return _fetch(job, target, digest, MAX_ENVELOPE_BYTES, missing="channel-mixed", other="channel-mixed")


def _download(job: _Job, release: Release, envelope: bytes, slot: Slot) -> None:
    """Step 14: fetch the package beside the slots, move it into *slot*, make the names durable.

    What an interrupted download of the same package left is used again.
    """
    channel = job.device.config.channel
    target = manifest_target(channel, release.manifest)
    data = _fetch(job, target, release.manifest, release.manifest_length)
    manifest = checked_manifest(data, release)
    incoming = job.device.folder.incoming(job.model)
    if not _is_same(incoming / MANIFEST, data):
        shutil.rmtree(incoming, ignore_errors=True)
        write_file(incoming / MANIFEST, data)
    for entry in manifest.files:
        path = incoming / FILES / entry.name
        if not _is_there(path, entry):
            target = package_target(channel, release.manifest, entry.name)
            write_file(path, _fetch(job, target, entry.sha256, entry.length))
    _remove_others(incoming / FILES, manifest)
    write_file(incoming / ENVELOPE, envelope)
    for folder, _, _ in os.walk(incoming, topdown=False):
        sync_folder(Path(folder))
    _place(job, incoming, slot)


def _place(job: _Job, incoming: Path, slot: Slot) -> None:
    place = job.device.folder.slot(job.model, slot)
    old = incoming.with_name("old")
    try:
        with job.device.folder.locked():
            shutil.rmtree(old, ignore_errors=True)
            if place.exists() or place.is_symlink():
                place.rename(old)
            incoming.rename(place)
            sync_folder(place.parent)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _self_test(job: _Job, release: Release, slot: Slot) -> None:
    """Step 16: run the package's vectors in this device's runtime, from sealed memory.

    Raises:
        Refused: ``package-altered`` and ``package-incomplete`` for what is on the disk now, ``self-test-failed``.
    """
    place = job.device.folder.slot(job.model, slot)
    with job.device.folder.locked(shared=True):
        package = open_package(place, read_manifest(place, release), job.device.memory)
    try:
        entry = package.manifest.file(selftest.SELF_TEST_FILE)
        if entry is None or entry.sha256 != release.self_test:
            raise Refused("self-test-failed", "the package does not hold the vectors that were approved")
        vectors = selftest.decode_vectors(package.read(selftest.SELF_TEST_FILE))
        selftest.run(job.device.runtime.load(package.model.fd), vectors)
    except Refused:
        raise
    except VerificationError as error:
        raise Refused("self-test-failed", error.message, evidence=error.evidence) from error
    finally:
        package.close()


def _activate(model: str, release: Release, slot: Slot) -> Callable[[State], State]:
    def change(state: State) -> State:
        slots, top = state.slots.get(model), state.top.get(model)
        releases = {**(slots.releases if slots else {}), slot: release.digest}
        if top is None or release.counter > top.counter:
            top = Top(counter=release.counter, release=release.digest, fallbacks=release.fallbacks)
        return replace(
            state,
            slots={**state.slots, model: Slots(active=slot, releases=releases)},
            top={**state.top, model: top},
        )

    return change


def _fetch(
    job: _Job,
    target: str,
    digest: Digest,
    max_bytes: int,
    *,
    missing: str = "package-incomplete",
    other: str = "package-altered",
) -> bytes:
    """Fetch a target by its digest, and check that it is the one."""
    path = fetch_path(target, digest)
    try:
        data = job.fetcher.fetch(path, max_bytes=max_bytes)
    except MissingError as error:
        raise Refused(missing, error.message, evidence={"file": target}) from error
    except DecodeError as error:
        raise Refused(other, error.message, evidence={"file": target}) from error
    if Digest.of(data) != digest:
        evidence = {"file": target, "wanted": str(digest), "got": str(Digest.of(data))}
        raise Refused(other, f"{target}: other bytes than the named ones are served", evidence=evidence)
    return data


def _is_same(path: Path, data: bytes) -> bool:
    try:
        return read_file(path, max_bytes=len(data)) == data
    except ChopmarkError:
        return False


def _is_there(path: Path, entry: FileEntry) -> bool:
    try:
        return file_digest(path) == (entry.length, entry.sha256)
    except Refused:
        return False


def _remove_others(folder: Path, manifest: Manifest) -> None:
    """Remove what an interrupted write left: the package is exactly what is listed."""
    wanted = {folder / entry.name for entry in manifest.files}
    for path in folder.rglob("*"):
        if path not in wanted and not path.is_dir():
            path.unlink()
