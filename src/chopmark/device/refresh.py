# SPDX-License-Identifier: Apache-2.0
"""Refresh: steps 1 to 10, from the state to what is assigned here; then :mod:`chopmark.device.install` for each model.

A failure leaves the installed slots alone. What 2 to 8 taught is kept after 8, what 9 taught after 10: a server that
serves half of a publication cannot make a device forget or believe more than that half. No lock is held while the
network is waited for; one refresh runs at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from chopmark.artifacts import Digest, read_file
from chopmark.channel import ChannelFile, Fetcher, MissingError, Status
from chopmark.channel.walk import Seen, fetch_named, to_channel, to_status
from chopmark.device.folder import Folder
from chopmark.device.gate import report
from chopmark.device.install import Action, ModelOutcome, install
from chopmark.device.journal import said, said_anything, said_refused, unsaid
from chopmark.device.model import FileVersion, State
from chopmark.device.opened import Device
from chopmark.device.store import read_root
from chopmark.device.timefloor import raised, worth_keeping
from chopmark.device.verdict import Refusal, Verified
from chopmark.errors import DecodeError, Refused, UndecidedError, UsageError
from chopmark.telemetry import Purpose
from chopmark.trust import MAX_ROOT_BYTES, MAX_TRUST_BYTES, TrustedRoot, TrustPolicy, next_root, open_trust

MAX_PINNED: Final = 256
"""How many of a channel's first roots are looked at for the pinned one, where that file was damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """A refresh that followed the channel to its end.

    Attributes:
        versions: of the metadata the device has now.
        issued: how old the status is, says its own time.
        witnesses: who saw the publication, by the names of the witness policy.
        models: model -> what became of it; one refused model does not stop the others.
        healed: the state could not be believed, and was made anew from the pin: why.
    """

    versions: Mapping[str, int]
    status: Status
    witnesses: tuple[str, ...]
    models: Mapping[str, ModelOutcome]
    healed: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Followed:
    state: State
    trust: TrustPolicy
    status: Status
    file: ChannelFile
    witnesses: tuple[str, ...]


def refresh(device: Device, fetcher: Fetcher) -> Refreshed | Refusal:
    """Follow the channel once; report what is new.

    Raises:
        UndecidedError: the channel could not be reached, or the folder is in use. What runs keeps running.
    """
    with device.folder.locked(name="refresh.lock"):
        doubt: Refusal | None = None
        try:
            _mend_pin(device, fetcher)
            start, doubt = _opened(device)  # 1
            followed = _follow(device, fetcher, start, repair=doubt is not None)
        except Refused as error:
            refusal = Refusal.of(error)
            _report(device, refusal)
            return refusal
        _clean(device, followed)
        models = {
            model: install(
                device, fetcher, model=model, trust=followed.trust, status=followed.status, file=followed.file
            )
            for model in device.config.models
        }
        _report_followed(device, models, repaired=doubt is not None)
        return Refreshed(
            versions=followed.state.versions,
            status=followed.status,
            witnesses=followed.witnesses,
            models=models,
            healed=doubt,
        )


def _mend_pin(device: Device, fetcher: Fetcher) -> None:
    """Write root.json again where it is not the pinned one any more: whoever has the bytes, the pin tells them."""
    pin = device.config.pin
    if _is(device.folder.pinned, pin):
        return
    try:
        for version in range(1, MAX_PINNED + 1):
            data = fetcher.fetch(f"metadata/{version}.root.json", max_bytes=MAX_ROOT_BYTES)
            if Digest.of(data) == pin:
                with device.folder.locked():
                    device.folder.write(device.folder.pinned, data)
                return
    except (MissingError, DecodeError):
        return  # what needs the pinned root refuses


def _opened(device: Device) -> tuple[State, Refusal | None]:
    """Step 1: open the state, or start from the pin where it cannot be believed."""
    with device.folder.locked(shared=True):
        state, failure = device.store.recovered(device.fresh_state)
    if failure is None:
        return state, None
    doubt = Refusal.of(failure)
    report(device, doubt, None, purpose=Purpose.REFRESH)
    return replace(state, chain=device.journal.chain(state.chain)), doubt


def _follow(device: Device, fetcher: Fetcher, state: State, *, repair: bool) -> _Followed:
    """Steps 2 to 10.

    Args:
        repair: the first commit replaces a state file that cannot be believed.

    Raises:
        Refused: by the name of the step.
        UndecidedError: the channel could not be reached.
    """
    channel = device.config.channel
    # 2. Roots N+1…: signed by the old and the new rule, one version up each.
    root = _newest_root(device, fetcher, state)
    # 3. trust.json is the file that root names; the ratchets are dropped if `reset` rose.
    trust_data = _trust_file(device, fetcher, root)
    trust = open_trust(root, trust_data)
    if root.reset > state.reset:
        state = state.without_ratchets(reset=root.reset)
    # 4. The time that is believed; the newest root is unexpired.
    now = device.now(state)
    if root.expires <= now:
        raise Refused("root-expired", f"root {root.version} expired at {root.expires:%Y-%m-%d %H:%M}Z")
    # 5 to 8. Timestamp, snapshot, log, status: see channel.walk.
    seen = Seen(versions=state.versions, logs=state.logs, status=state.status)
    found = to_status(root, trust, fetcher, seen=seen, channel=channel, now=now)
    status, logged = found.status, found.logged
    news = {"timestamp": found.timestamp, "snapshot": found.snapshot.version, "status": status.version}
    #    Commit the ratchets of 2 to 8; time floor = max(floor, issued).
    state = replace(
        state,
        root=FileVersion(version=root.version, digest=root.digest),
        trust=FileVersion(version=root.trust.version, digest=root.trust.sha256),
        versions={**state.versions, **news},
        logs={**state.logs, logged.origin: logged.head},
        status=replace(status, holds=()),  # holds come and go; they are never asked of the state
        floor=raised(state.floor, device.clock.power_on(), at_least=status.issued),
    )
    state = _commit(device, state, root=root, trust_data=trust_data, repair=repair)
    # 9. The channel file that targets.json delegates to; pick by runtime and bucket.
    file = to_channel(found, fetcher, name=channel, now=now)
    # 10. Commit the ratchets of 9.
    versions = {**state.versions, "targets": found.targets.version, channel: file.version}
    state = _commit(device, replace(state, versions=versions, assigned=_assigned(device, state, file)))
    return _Followed(state=state, trust=trust, status=status, file=file, witnesses=logged.witnesses)


def _newest_root(device: Device, fetcher: Fetcher, state: State) -> TrustedRoot:
    root = read_root(device.folder, state.root, device.config.pin)
    # Without a bound: nobody but the owners of one root can make the walk a root longer.
    while True:
        try:
            data = fetcher.fetch(f"metadata/{root.version + 1}.root.json", max_bytes=MAX_ROOT_BYTES)
        except MissingError:
            break
        except DecodeError as error:
            raise Refused("root-untrusted", error.message) from error
        root = next_root(root, data)
    # Where the newest root's file was damaged the walk began at the pin, and must come as far as before.
    if root.version < state.root.version or (root.version == state.root.version and root.digest != state.root.digest):
        raise Refused(
            "root-untrusted",
            f"root {state.root.version} was seen; the channel serves another, or root {root.version}",
            evidence={"seen": str(state.root.digest), "served": str(root.digest)},
        )
    return root


def _trust_file(device: Device, fetcher: Fetcher, root: TrustedRoot) -> bytes:
    """Return trust.json: from disk where it is the one that root names, else from the channel."""
    kept = device.folder.trust(root.trust.version)
    if _is(kept, root.trust.sha256):
        return read_file(kept, max_bytes=MAX_TRUST_BYTES)
    path = f"metadata/{root.trust.version}.trust.json"
    return fetch_named(fetcher, path, MAX_TRUST_BYTES, refusal="trust-mismatch")


def _commit(
    device: Device,
    state: State,
    *,
    root: TrustedRoot | None = None,
    trust_data: bytes = b"",
    repair: bool = False,
) -> State:
    """Write *state*, keeping the chain of reports that others may have gone on with."""

    def write() -> State:
        if root is not None:
            # The files first: a state must never name what is not there.
            _keep(device.folder, device.folder.root(root.version), root.data)
            _keep(device.folder, device.folder.trust(root.trust.version), trust_data)
        if repair:
            return device.store.commit_locked(
                lambda before: replace(state, chain=device.journal.chain(before.chain)), otherwise=state
            )
        before = device.store.read()
        if _says_nothing_new(before, state):
            return replace(state, gen=before.gen, chain=before.chain, floor=before.floor)
        return device.store.commit_locked(lambda now: replace(state, chain=now.chain))

    with device.folder.locked():
        try:
            return write()
        except UndecidedError as error:
            if error.code != "not-written":
                raise
        device.folder.make_room()
        return write()


def _keep(folder: Folder, path: Path, data: bytes) -> None:
    if not _is(path, Digest.of(data)):
        folder.write(path, data)


def _is(path: Path, digest: Digest) -> bool:
    try:
        return Digest.of(read_file(path, max_bytes=max(MAX_ROOT_BYTES, MAX_TRUST_BYTES))) == digest
    except (DecodeError, UsageError):
        return False


def _clean(device: Device, followed: _Followed) -> None:
    """Remove what interrupted writes left, what no state names any more, and what is not what it seems."""
    root, trust = followed.state.root, followed.state.trust
    named = {device.folder.root(root.version)} | ({device.folder.trust(trust.version)} if trust else set())
    with suppress(UndecidedError), device.folder.locked():
        device.folder.sweep(named)
        device.journal.clean(followed.trust)


def _says_nothing_new(before: State, state: State) -> bool:
    """Tell whether no ratchet moved and the floor hardly did."""
    same = replace(state, gen=before.gen, chain=before.chain, floor=before.floor) == before
    return same and not worth_keeping(before.floor, state.floor)


def _assigned(device: Device, state: State, file: ChannelFile) -> dict[str, Digest]:
    """Return model -> what is assigned; a model without an assignment keeps the last it had."""
    assigned = dict(state.assigned)
    for model in device.config.models:
        release = file.assigned(model=model, runtime=device.config.runtime, device=device.config.device)
        if release is not None:
            assigned[model] = release
    return assigned


def _report(device: Device, refusal: Refusal) -> None:
    """Queue a report that the channel could not be followed, if it is new."""
    _change_chain(
        device,
        lambda state: device.journal.add(state, refusal, purpose=Purpose.REFRESH, running=None, now=device.now(state)),
    )


def _report_followed(device: Device, models: Mapping[str, ModelOutcome], *, repaired: bool) -> None:
    """Queue reports of what is new about each model, and what settles earlier refusals.

    A refusal is settled by a report about the same thing only: one of the channel by any refresh that went through, one
    at load by a load, for which the refresh looked at as much.
    """
    verdicts = [outcome.verdict for outcome in models.values()]
    # A refresh that went through and found nothing to judge is said too; one that could not decide is not.
    idle = {outcome.action for outcome in models.values()} <= {Action.UNASSIGNED, Action.HELD}
    said_now = [None] if idle else [verdict for verdict in verdicts if verdict is not None]

    def change(state: State) -> State:
        settle = said_refused(state, None, purpose=Purpose.REFRESH)
        if not idle:
            state = unsaid(state, None, purpose=Purpose.REFRESH)
        for verdict in said_now:
            slots = None if verdict is None else state.slots.get(verdict.model)
            running = None if slots is None else slots.release
            now = device.now(state)
            if settle:
                state = unsaid(state, verdict, purpose=Purpose.REFRESH)
            state = device.journal.add(state, verdict, purpose=Purpose.REFRESH, running=running, now=now)
            if not isinstance(verdict, Verified):
                continue
            if repaired or said_refused(state, verdict, purpose=Purpose.LOAD):
                state = device.journal.add(state, verdict, purpose=Purpose.LOAD, running=running, now=now)
            elif said_anything(state, verdict, purpose=Purpose.LOAD):
                state = said(state, verdict, purpose=Purpose.LOAD)  # the report above says that the slot is good, too
        return state

    _change_chain(device, change)


def _change_chain(device: Device, change: Callable[[State], State]) -> None:
    """Commit the chain that *change* makes; what cannot be reported is done all the same."""
    with device.journal.attempt(), device.folder.locked():
        before = device.store.read()
        after = change(before)
        if after != before:
            device.store.commit_locked(lambda _: after)
