# SPDX-License-Identifier: Apache-2.0
"""Steps 11 to 16 for one model: from what is assigned to a slot that was verified, tested and made the active one.

The new package is downloaded beside the slots, moved into the inactive one, checked there from the disk, tested from
sealed memory, and only then made active, in one commit with the counter's new floor. Until that commit the old slot is
what is loaded. A package that is whole in one of the slots already is not downloaded again: going back is instant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from chopmark.artifacts import TEMPORARY, Digest, FileEntry, Manifest, file_names, read_file, selftest, sync_folder
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
from chopmark.device import tidy
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
from chopmark.errors import (
    ChopmarkError,
    DecodeError,
    InternalError,
    Refused,
    UndecidedError,
    VerificationError,
    foreign,
)
from chopmark.statements import decode_envelope
from chopmark.trust import TrustPolicy

RESERVE_BYTES: Final = 16 * 1024 * 1024
"""What a download leaves free: for the next states and reports."""
STEP_PACKAGE: Final = 14


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
        damaged: what was found in slots that should hold something else, whatever became of the model.
    """

    model: str
    action: Action
    release: Digest | None = None
    verdict: Verified | Refusal | None = None
    error: ChopmarkError | None = None
    damaged: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    device: Device
    fetcher: Fetcher
    trust: TrustPolicy
    status: Status
    file: ChannelFile
    model: str
    assigned: Digest
    damaged: dict[Slot, Refusal] = field(default_factory=dict)


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
    outcome = _attempt(job)
    return replace(outcome, damaged=tuple(job.damaged.values()))


def _attempt(job: _Job) -> ModelOutcome:
    device, model, assigned = job.device, job.model, job.assigned
    try:
        with foreign(InternalError, f"{model}: the installation failed", code="internal", quote=True):
            with device.folder.locked(shared=True):
                state = device.store.read()
            return _install(job, state)
    except Refused as error:
        refusal = Refusal.of(error, model=model, release=assigned)
        return ModelOutcome(model=model, action=Action.REFUSED, release=assigned, verdict=refusal)
    except ChopmarkError as error:
        if error.code == "not-written":
            # Half a package must not keep the next state from being written.
            with suppress(UndecidedError), device.folder.locked():
                device.folder.make_room()
        return ModelOutcome(model=model, action=Action.UNDECIDED, release=assigned, error=error)


def _install(job: _Job, state: State) -> ModelOutcome:
    slots, folder = state.slots.get(job.model), job.device.folder
    with folder.locked():
        folder.make(folder.slot(job.model, Slot.A).parent)
    if slots is not None:
        _renew_envelope(job, slots)
    slot = _find(job, state, slots)
    envelope = _fetch_envelope(job) if slot is None else read_envelope(folder.slot(job.model, slot))
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
    job.device.store.commit(_activate(job.model, release, slot, without=frozenset(job.damaged)))
    verdict = Verified(model=job.model, slot=str(slot), release=release)
    return ModelOutcome(model=job.model, action=action, release=job.assigned, verdict=verdict)


def _find(job: _Job, state: State, slots: Slots | None) -> Slot | None:
    """Return the slot that holds the assigned release whole; the active one, if both do.

    A damaged package is reported, once: an active one before it is healed, the other before it is removed.
    """
    active = Slot.A if slots is None else slots.active
    found = [slot for slot in (active.other, active) if _holds(job, state, slot, spare=slot is not active)]
    return found[-1] if found else None


def _holds(job: _Job, state: State, slot: Slot, *, spare: bool) -> bool:
    """Tell whether *slot* holds the assigned release whole; a *spare* one with anything but a whole release is emptied."""
    folder, slots = job.device.folder, state.slots.get(job.model)
    place, recorded = folder.slot(job.model, slot), None if slots is None else slots.releases.get(slot)
    if recorded is None and tidy.is_missing(place):
        return False
    try:
        with folder.locked(shared=True):
            release = approved(read_envelope(place), job.trust, channel=job.device.config.channel)
            check_package(place, read_manifest(place, release))
            return release.digest == job.assigned
    except Refused as error:
        if recorded is not None and (recorded == job.assigned or error.step == STEP_PACKAGE):
            refusal = job.damaged[slot] = Refusal.of(error, model=job.model, slot=str(slot), release=recorded)
            report(job.device, refusal, state)
    if spare:
        with folder.locked():
            folder.discard(place)
        job.device.store.commit(_empty(job.model, slot))
    return False


def _renew_envelope(job: _Job, slots: Slots) -> None:
    """Take over an envelope of the same release that was signed again: by keys that replace others.

    Without this, a change of keys would look like damage to every device. What is not the channel's envelope less some
    signatures is damage, and left to be found as such.
    """
    folder, named = job.device.folder, job.file.files.get(envelope_target(job.device.config.channel, job.assigned))
    for slot, release in slots.releases.items():
        place = folder.slot(job.model, slot)
        if release != job.assigned or named is None:
            continue
        with suppress(Refused, DecodeError):
            kept = read_envelope(place)
            if Digest.of(kept) == named:
                continue
            fresh = _fetch_envelope(job)
            approved(fresh, job.trust, channel=job.device.config.channel)
            old, new = decode_envelope(kept), decode_envelope(fresh)
            if old.payload == new.payload and set(old.signatures) < set(new.signatures):
                with folder.locked():
                    folder.write(place / ENVELOPE, fresh)


def _fetch_envelope(job: _Job) -> bytes:
    target = envelope_target(job.device.config.channel, job.assigned)
    digest = job.file.files.get(target)
    if digest is None:
        raise Refused("targets-untrusted", "the channel file assigns a release whose envelope it does not list")
    return _fetch(job, target, digest, MAX_ENVELOPE_BYTES, missing="channel-mixed", other="channel-mixed")


def _download(job: _Job, release: Release, envelope: bytes, slot: Slot) -> None:
    """Step 14: fetch the package beside the slots, move it into *slot*, make the names durable.

    What an interrupted download of the same package left is used again.

    Raises:
        UndecidedError: ``no-space``; ``not-written``.
    """
    channel = job.device.config.channel
    target = manifest_target(channel, release.manifest)
    data = _fetch(job, target, release.manifest, release.manifest_length)
    manifest = checked_manifest(data, release)
    folder = job.device.folder
    incoming = folder.incoming(job.model)
    if not _is_same(incoming / MANIFEST, data) or not _has_nothing_else(incoming, manifest):
        folder.discard(incoming)
        folder.write(incoming / MANIFEST, data)
    wanted = [entry for entry in manifest.files if not _is_there(incoming / FILES / entry.name, entry)]
    _check_space(job, sum(entry.length for entry in wanted))
    for entry in wanted:
        target = package_target(channel, release.manifest, entry.name)
        folder.write(incoming / FILES / entry.name, _fetch(job, target, entry.sha256, entry.length))
    folder.write(incoming / ENVELOPE, envelope)
    with foreign(UndecidedError, f"{job.model}: the package cannot be made durable", code="not-written"):
        for below in {parent for entry in manifest.files for parent in (incoming / FILES / entry.name).parents}:
            if below.is_relative_to(incoming):
                sync_folder(below)
        with folder.locked():
            folder.discard(folder.slot(job.model, slot))
            folder.move(incoming, folder.slot(job.model, slot))
            sync_folder(incoming.parent)


def _check_space(job: _Job, needed_bytes: int) -> None:
    free = tidy.free_bytes(job.device.folder.path)
    if free < needed_bytes + RESERVE_BYTES:
        raise UndecidedError(
            f"{job.model}: {needed_bytes:,} bytes are to be downloaded, and {free:,} are free",
            code="no-space",
            hint=f"free some space: {RESERVE_BYTES:,} bytes are left alone, so that a revocation can be written",
        )


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


def _empty(model: str, slot: Slot) -> Callable[[State], State]:
    def change(state: State) -> State:
        slots = state.slots.get(model)
        if slots is None:
            return state
        releases = {other: digest for other, digest in slots.releases.items() if other is not slot}
        return replace(state, slots={**state.slots, model: replace(slots, releases=releases)})

    return change


def _activate(model: str, release: Release, slot: Slot, *, without: Collection[Slot]) -> Callable[[State], State]:
    """Make *slot* the active one; a slot in *without* is damaged and has been reported: the next refresh empties it."""

    def change(state: State) -> State:
        slots, top = state.slots.get(model), state.top.get(model)
        kept = {} if slots is None else {s: digest for s, digest in slots.releases.items() if s not in without}
        releases = {**kept, slot: release.digest}
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


def _has_nothing_else(incoming: Path, manifest: Manifest) -> bool:
    """Tell whether what was begun may be gone on with: regular files only, and only the listed ones.

    What an interrupted write left is removed. A link is nobody's interrupted write: through it, what is written here would
    be written elsewhere.
    """
    wanted = {MANIFEST, ENVELOPE, *(f"{FILES}/{entry.name}" for entry in manifest.files)}
    try:
        others = set(file_names(incoming)) - wanted
        for name in [name for name in others if Path(name).match(TEMPORARY)]:
            tidy.remove(incoming / name)
            others.remove(name)
    except (ChopmarkError, OSError):
        return False
    return not others
