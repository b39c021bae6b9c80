# SPDX-License-Identifier: Apache-2.0
"""The load gate: steps 17 and 18, offline, over what is on the disk now.

    open_model -> Loaded | Refusal        check -> Verified | Refusal

Everything that was checked when the package came is checked again: approval (11), direction (12), age of the status by
the release's own class (17), revocation and counter (13), every file (14). :func:`open_model` copies while it checks, and
the runtime's parser is given sealed memory: what it reads is what was hashed. :func:`check` is the same without a parser.

A "no" is a value and is reported. That it cannot be decided (nothing installed, the folder locked, no runtime) is an
exception of :class:`UndecidedError`; neither loads anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from chopmark.artifacts import Digest, Manifest
from chopmark.artifacts.ports import Session
from chopmark.channel import Release, approved, current, directed, in_range
from chopmark.device.journal import is_news
from chopmark.device.model import TIER, Slot, Slots, State
from chopmark.device.opened import Device
from chopmark.device.package import Package, check_package, open_package, read_envelope, read_manifest
from chopmark.device.store import read_trust
from chopmark.device.timefloor import raised, worth_keeping
from chopmark.device.verdict import Refusal, Verdict, Verified
from chopmark.errors import Refused, UndecidedError, VerificationError
from chopmark.telemetry import Purpose
from chopmark.trust import TrustPolicy

STEP_LOAD: Final = 17
REPORT_WAIT_S: Final = 3.0
"""How long a load waits for the lock to say what it found: others may be loading for long."""
ANY_ABI: Final = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A release in a slot that passed everything but its files."""

    slot: Slot
    release: Release
    manifest: Manifest


class Loaded:
    """A verified model, ready to run. Use it as a context manager; leaving gives its memory back.

    Attributes:
        release: what was approved.
        slot: ``A`` or ``B``.
        tier: what this device can show of itself.
    """

    def __init__(self, *, release: Release, slot: str, package: Package, session: Session) -> None:
        self.release = release
        self.slot = slot
        self.tier = TIER
        self._package = package
        self._session: Session | None = session

    def run(self, rows: Sequence[Sequence[float]]) -> list[list[float]]:
        """Return one row of outputs for each row of inputs.

        Raises:
            UsageError, VerificationError: as :meth:`chopmark.artifacts.ports.Session.run`.
            UndecidedError: the model was closed.
        """
        if self._session is None:
            raise UndecidedError("the model was closed", code="closed", hint="load it again")
        return self._session.run(rows)

    def read(self, name: str) -> bytes:
        """Return another file of the same package, from the same sealed memory: labels, preprocessing.

        Raises:
            UsageError: the package has no such file.
        """
        return self._package.read(name)

    def close(self) -> None:
        """Forget the model and give its memory back."""
        self._session = None
        self._package.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_model(device: Device, model: str) -> Loaded | Refusal:
    """Load *model*, or say why not; either is queued as a signed report.

    Raises:
        UndecidedError: ``not-installed``, ``locked``, or no runtime or sealed memory on this machine.
    """
    package: Package | None = None
    with device.folder.locked(shared=True):
        state, judged = _judge(device, model)
        if isinstance(judged, Judged):
            try:
                package = open_package(device.folder.slot(model, judged.slot), judged.manifest, device.memory)  # 14
            except Refused as error:
                judged = _refusal(error, model, judged)
    if isinstance(judged, Refusal) or package is None:
        refusal = judged if isinstance(judged, Refusal) else _refusal(Refused("package-incomplete"), model, judged)
        report(device, refusal, state)
        return refusal
    try:
        session = device.runtime.load(package.model.fd)
    except VerificationError as error:
        package.close()
        # The bytes are the approved ones: it is this runtime that does not compute what was approved.
        failure = error if isinstance(error, Refused) else Refused("self-test-failed", error.message)
        refusal = _refusal(failure, model, judged)
        report(device, refusal, state)
        return refusal
    except BaseException:
        package.close()
        raise
    report(device, Verified(model=model, slot=str(judged.slot), release=judged.release), state)  # 18
    return Loaded(release=judged.release, slot=str(judged.slot), package=package, session=session)


def check(device: Device, model: str) -> Verdict:
    """Tell whether *model* would be loaded, every byte looked at and no parser run; report what is new.

    Raises:
        UndecidedError: as :func:`open_model`.
    """
    with device.folder.locked(shared=True):
        state, judged = _judge(device, model)
        verdict: Verdict
        if isinstance(judged, Refusal):
            verdict = judged
        else:
            try:
                check_package(device.folder.slot(model, judged.slot), judged.manifest)  # 14
                verdict = Verified(model=model, slot=str(judged.slot), release=judged.release)
            except Refused as error:
                verdict = _refusal(error, model, judged)
    report(device, verdict, state)
    return verdict


def judge(device: Device, state: State, trust: TrustPolicy, *, model: str, slot: Slot, recorded: Digest) -> Judged:
    """Steps 11 to 13 and 17 for the release in *slot*, and its manifest; the files are the caller's.

    Args:
        recorded: the release that should be there.

    Raises:
        Refused: by the name of the step.
    """
    place = device.folder.slot(model, slot)
    release = approved(read_envelope(place), trust, channel=device.config.channel)  # 11
    direct(device, release, model=model)  # 12
    check_age(state, trust, release, device.now(state))  # 17
    if state.status is None:
        raise Refused("status-stale")
    current(release, status=state.status, top=state.top.get(model), assigned=recorded)  # 13
    return Judged(slot=slot, release=release, manifest=read_manifest(place, release))


def direct(device: Device, release: Release, *, model: str) -> None:
    """Step 12, with what only a device knows: its runtime, its application's version, its tier.

    Raises:
        Refused: ``release-misdirected``.
    """
    runtime = device.runtime
    directed(
        release,
        workspace=device.config.workspace,
        model=model,
        channel=device.config.channel,
        runtime_name=runtime.name,
        runtime_version=runtime.version,
    )
    unmet = {
        "application version": not in_range(device.config.app, f">={release.min_app}"),
        "tier": release.min_tier > TIER,
        "ABI": release.abi != ANY_ABI,
        # A pin that cannot be checked is one that is not met.
        "runtime libraries": bool(release.runtime.libraries),
    }
    for what, missed in unmet.items():
        if missed:
            raise Refused("release-misdirected", f"the release asks for another {what}", evidence={"what": what})


def check_age(state: State, trust: TrustPolicy, release: Release, now: datetime) -> None:
    """Step 17: the status is young enough for the release's check class; a class without a limit has the strictest.

    Raises:
        Refused: ``status-stale``.
    """
    limits = trust.limits.max_status_age_s
    limit = limits.get(release.check_class, min(limits.values()))
    age = timedelta.max if state.status is None else now - state.status.issued
    if age > timedelta(seconds=limit):
        shown = "no status was ever seen" if state.status is None else f"the status is {age.total_seconds():,.0f} s old"
        raise Refused(
            "status-stale",
            f"{shown}; {limit:,} s are allowed for class {release.check_class}",
            evidence={"limit_s": limit, "class": release.check_class},
            step=STEP_LOAD,
        )


def _judge(device: Device, model: str) -> tuple[State | None, Judged | Refusal]:
    """Return the state, if it can be believed, and the release in the active slot or why it is refused."""
    try:
        state = device.store.read()  # 1
    except Refused as error:
        return None, Refusal.of(error, model=model)
    slots = _installed(device, state, model)
    try:
        trust = read_trust(device.folder, state.trust)  # 3
        return state, judge(device, state, trust, model=model, slot=slots.active, recorded=slots.release)
    except Refused as error:
        return state, Refusal.of(error, model=model, slot=str(slots.active), release=slots.release)


def _installed(device: Device, state: State, model: str) -> Slots:
    slots = state.slots.get(model)
    if slots is None:
        known = model in device.config.models
        raise UndecidedError(
            f"{model}: no release is installed" if known else f"{model}: this device has no such model",
            code="not-installed",
            hint="let it refresh: `chopmark device run FOLDER --once`"
            if known
            else f"it has: {', '.join(device.config.models)}",
        )
    return slots


def _refusal(error: Refused, model: str, judged: Judged) -> Refusal:
    return Refusal.of(error, model=model, slot=str(judged.slot), release=judged.release.digest)


def report(device: Device, verdict: Verdict, state: State | None, *, purpose: Purpose = Purpose.LOAD) -> None:
    """Step 18: queue a report of what is new. The verdict stands whether or not it can be reported.

    The time floor is kept with it, now and then: without network no refresh does, and what a device was powered on for
    must not be lost with every reboot.

    Args:
        state: as it was when the verdict was found; None where it could not be believed.
    """
    power_on = device.clock.power_on()
    if (
        state is not None
        and not is_news(state, verdict, purpose=purpose)
        and not worth_keeping(state.floor, raised(state.floor, power_on))
    ):
        return

    def change(now: State) -> State:
        now = replace(now, floor=raised(now.floor, power_on))
        return device.journal.add(now, verdict, purpose=purpose, running=running, now=device.now(now))

    running = verdict.release.digest if isinstance(verdict, Verified) else None
    # The disk is full, the key is away: a refusal refuses all the same, and is said at the next occasion.
    with device.journal.attempt(), device.folder.locked(wait_s=REPORT_WAIT_S):
        if state is not None:
            device.store.commit_locked(change)
        elif isinstance(verdict, Refusal):
            device.journal.add_without_state(device.fresh_state(), verdict, purpose=purpose, now=device.now(None))
