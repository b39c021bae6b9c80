# SPDX-License-Identifier: Apache-2.0
"""Enrol a device, run its agent, look at it. stdout is data, stderr is talk; this returns exit codes and never exits.

enroll --folder DIR --name NAME --channel-url URL --pin sha256:… --model digits [--fleet-url URL --token T]
run    --folder DIR [--once]
verify --folder DIR
load   --folder DIR MODEL
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from chopmark import canonical
from chopmark.apps.agent import wiring
from chopmark.apps.agent.loop import Turn, loop, turn
from chopmark.artifacts import Digest, read_file
from chopmark.device import (
    TIER,
    Config,
    Device,
    Enrolment,
    Loaded,
    Refreshed,
    Refusal,
    Verdict,
    Verified,
    check,
    open_model,
)
from chopmark.device import enroll as enroll_device
from chopmark.errors import ChopmarkError
from chopmark.trust import MAX_ROOT_BYTES

EXIT_OK, EXIT_REFUSED, EXIT_UNDECIDED = 0, 1, 3


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


def run(folder: Path, *, once: bool = False, tell: Callable[[Turn], None] | None = None) -> int:
    """Run the agent of the device in *folder* until SIGTERM or SIGINT, or for one turn.

    Returns:
        The exit code of the last turn: 0, 1 for a refusal, 3 for what could not be decided.
    """
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
    if last.refusals:
        return EXIT_REFUSED
    return EXIT_UNDECIDED if last.undecided else EXIT_OK


def verify(folder: Path) -> Mapping[str, Verdict]:
    """Check every installed model, byte by byte, without loading it.

    Raises:
        UndecidedError: a model is not installed, or the folder is in use.
    """
    device = wiring.wire(folder)
    return {model: check(device, model) for model in device.config.models}


def load(folder: Path, model: str) -> Loaded:
    """Load *model* as an application would.

    Raises:
        Refused: it may not be loaded.
        UndecidedError: it cannot be decided.
    """
    opened = open_model(wiring.wire(folder), model)
    if isinstance(opened, Refusal):
        raise opened.error()
    return opened


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    given = _parser().parse_args(argv)
    try:
        return _run(given)
    except ChopmarkError as error:
        say(f"{error.code}: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        return error.exit_code


def say(line: str) -> None:
    """Talk."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def put(value: object) -> None:
    """Write one line of data."""
    print(canonical.encode(value).decode(), flush=True)  # noqa: T201


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


def _run(given: argparse.Namespace) -> int:
    if given.command == "enroll":
        config = enroll(
            given.folder,
            name=given.name,
            channel_url=given.channel_url,
            pin=given.pin,
            models=given.model,
            channel=given.channel,
            fleet_url=given.fleet_url,
            token=given.token,
            root=given.root,
            runtime=given.runtime,
            app=given.app,
            poll_s=given.poll_s,
        )
        put({"device": config.device, "workspace": config.workspace, "channel": config.channel})
        return EXIT_OK
    if given.command == "run":
        return run(given.folder, once=given.once)
    if given.command == "verify":
        verdicts = verify(given.folder)
        for verdict in verdicts.values():
            put(verdict_json(verdict))
        return EXIT_REFUSED if any(isinstance(v, Refusal) for v in verdicts.values()) else EXIT_OK
    with load(given.folder, given.model) as model:
        shown = {"verdict": "verified", "model": given.model, "slot": model.slot}
        put({**shown, "version": model.release.version, "release": str(model.release.digest), "tier": model.tier})
    return EXIT_OK


def _lines(device: Device, found: Turn) -> list[str]:
    """Return what is worth a line."""
    lines = [f"{r.model or 'channel'}: refused at step {r.step}: {r.code}: {r.message}" for r in found.refusals]
    lines += [f"undecided: {error.code}: {error.message}" for error in found.undecided]
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


class _Talk:
    """Says what a turn found, unless the turn before said the same."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._last: list[str] = []

    def __call__(self, found: Turn) -> None:
        lines = _lines(self._device, found)
        if lines != self._last:
            for line in lines:
                say(line)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chopmark device", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    enrol = commands.add_parser("enroll", help="make this machine a device")
    for name in ("--name", "--channel-url", "--pin"):
        enrol.add_argument(name, required=True)
    enrol.add_argument("--model", action="append", required=True)
    enrol.add_argument("--root", type=Path)
    enrol.add_argument("--poll-s", type=int, default=300)
    defaults = {"channel": "production", "fleet-url": "", "token": "", "runtime": "onnxruntime", "app": "0"}
    for option, default in defaults.items():
        enrol.add_argument(f"--{option}", default=default)
    run_ = commands.add_parser("run", help="follow the channel, check, report")
    run_.add_argument("--once", action="store_true")
    commands.add_parser("verify", help="check what is installed")
    commands.add_parser("load", help="load a model, and say that it can be").add_argument("model")
    for command in commands.choices.values():
        command.add_argument("--folder", type=Path, required=True)
    return parser
