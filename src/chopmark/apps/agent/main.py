# SPDX-License-Identifier: Apache-2.0
"""Enrol a device, run its agent, look at what it has: functions, which the command line calls.

The loop talks on stderr. Nothing here exits.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from chopmark.apps.agent import wiring
from chopmark.apps.agent.loop import Turn, loop, turn
from chopmark.artifacts import Digest, read_file
from chopmark.device import TIER, Config, Device, Enrolment, Refreshed, Refusal, Verdict, Verified, check
from chopmark.device import enroll as enroll_device
from chopmark.errors import spoken
from chopmark.trust import MAX_ROOT_BYTES


def enroll(
    folder: Path,
    *,
    name: str,
    channel_url: str,
    pin: str,
    models: Sequence[str],
    channel: str = "production",
    fleet_url: str = "",
    token: str = "",
    root: Path | None = None,
    runtime: str = "onnxruntime",
    app: str = "0",
    poll_s: int = 300,
) -> Config:
    """Enrol this machine as a device.

    Args:
        pin: digest of the root, ``sha256:…``, from somebody who is trusted with it.
        root: the root itself; without it, the channel's first root is fetched and must have the pinned digest.

    Raises:
        ChopmarkError: as :func:`chopmark.device.enroll`.
    """
    data = (
        read_file(root, max_bytes=MAX_ROOT_BYTES)
        if root is not None
        else wiring.fetcher(channel_url).fetch("metadata/1.root.json", max_bytes=MAX_ROOT_BYTES)
    )
    wish = Enrolment(
        name=name,
        root=data,
        pin=Digest.parse(pin),
        channel=channel,
        models=tuple(models),
        channel_url=channel_url,
        fleet_url=fleet_url,
        token=token,
        runtime=runtime,
        app=app,
        poll_s=poll_s,
    )
    return enroll_device(
        folder, wish, fleet=wiring.fleet(fleet_url), make_signer=wiring.make_signer, counter=wiring.counter()
    )


def run(folder: Path, *, once: bool = False, tell: Callable[[Turn], None] | None = None) -> Turn:
    """Run the agent of the device in *folder* until SIGTERM or SIGINT, or for one turn; return the last turn."""
    device = wiring.wire(folder)
    fetcher, fleet = wiring.fetcher(device.config.channel_url), wiring.fleet(device.config.fleet_url)
    show = tell if tell is not None else _Talk(device)
    last = Turn()

    def keep(found: Turn) -> None:
        nonlocal last
        last = found
        show(found)

    if once:
        keep(turn(device, fetcher, fleet))
    else:
        with _stopped_by_signals() as stop:
            loop(device, fetcher, fleet, wait=stop.wait, jitter=random.random, tell=keep)
    return last


def verify(folder: Path) -> Mapping[str, Verdict]:
    """Check every installed model, byte by byte, without loading it.

    Raises:
        UndecidedError: a model is not installed, or the folder is in use.
    """
    device = wiring.wire(folder)
    return {model: check(device, model) for model in device.config.models}


def _lines(device: Device, found: Turn) -> list[str]:
    """Return what is worth a line."""
    lines = [f"{_where(r)}: refused at step {r.step}: {r.code}: {r.message}" for r in found.refusals]
    for error in found.undecided:
        what, *hint = spoken(error)
        lines += [f"undecided: {what}", *hint]
    if isinstance(found.refreshed, Refreshed):
        for model, outcome in found.refreshed.models.items():
            if isinstance(outcome.verdict, Verified):
                version = outcome.verdict.release.version
                lines.append(f"{model}: {outcome.action}: version {version} in slot {outcome.verdict.slot}")
            elif outcome.verdict is None and outcome.error is None:
                lines.append(f"{model}: {outcome.action}")
    delivery = found.delivery
    if delivery is not None and delivery.answer is not None:
        lines.append(f"reports delivered: {delivery.sent}; the newest was {delivery.answer.result}")
    if delivery is not None and delivery.refused is not None:
        lines.append(f"reports not accepted: {delivery.refused.message}")
    if delivery is not None and delivery.behind:
        lines.append("the service knows a newer publication than this device is shown: look for who serves the channel")
    return [*lines, f"tier T{TIER}; rollback memory: {device.rollback_memory}"]


def _where(refusal: Refusal) -> str:
    return " in slot ".join(part for part in (refusal.model or "channel", refusal.slot) if part)


def turn_json(turn: Turn) -> dict[str, object]:
    """Return a turn of the agent as scripts read it; ``models`` is empty where the channel could not be followed."""
    models = turn.refreshed.models if isinstance(turn.refreshed, Refreshed) else {}
    delivery = turn.delivery
    return {
        "ok": False if turn.refusals else None if turn.undecided else True,
        "refused": [verdict_json(refusal) for refusal in turn.refusals],
        "undecided": [{"error": e.code, "message": e.message, "hint": e.hint} for e in turn.undecided],
        "models": {
            name: {"action": str(outcome.action)} | (verdict_json(outcome.verdict) if outcome.verdict else {})
            for name, outcome in models.items()
        },
        "delivered": delivery.sent if delivery else 0,
    }


def verdict_json(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as people and scripts read it."""
    if isinstance(verdict, Verified):
        release = verdict.release
        return {
            "verdict": "verified",
            "model": verdict.model,
            "slot": verdict.slot,
            "version": release.version,
            "release": str(release.digest),
        }
    return {
        "verdict": verdict.code,
        "step": verdict.step,
        "model": verdict.model,
        "slot": verdict.slot,
        "release": str(verdict.release) if verdict.release else None,
        "message": verdict.message,
        "hint": verdict.hint,
        "evidence": {str(name): str(value)[:256] for name, value in verdict.evidence.items()},
    }


class _Talk:
    """Says what a turn found, unless the turn before said the same."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._last: list[str] = []

    def __call__(self, found: Turn) -> None:
        lines = _lines(self._device, found)
        if lines != self._last:
            for line in lines:
                print(line, file=sys.stderr, flush=True)  # noqa: T201 - the loop talks to whoever started it
        self._last = lines


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set; a turn that has begun is finished."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
