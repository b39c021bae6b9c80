# SPDX-License-Identifier: Apache-2.0
"""What the monitor's tests share: a simulated log, served; a monitor with its state in a folder; what it told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from chopmark.adapters.blobs.monitor import FolderMonitor
from chopmark.ledger import WitnessPolicy
from chopmark.ledger.compare import Watched
from chopmark.ledger.events import Event, Watch
from chopmark.ledger.monitor import Monitor, Turn
from simulators import SimLog, StandingClock
from simulators.log import TIME
from simulators.served import ServedLog


def about(entry: bytes) -> list[str]:
    """An entry ``digits by 11ab`` is about model digits, signed by 11ab."""
    words = entry.decode("utf-8", "replace").split(" by ")
    return [f"model:{words[0]}", f"signer:{words[1]}"] if len(words) == 2 else []


def grown(count: int = 3, **options) -> SimLog:
    log = SimLog(**options)
    for n in range(count):
        log.append(b"model-%d by 11ab%d" % (n, n))
    return log


def watched(served: ServedLog) -> Watched:
    log = served.log
    return Watched(origin=log.origin, require=log.keys.require, policy=WitnessPolicy.parse(log.policy), files=served)


@dataclass
class Watching:
    """A monitor and its world; a new Monitor for every turn, as cron does."""

    folder: Path
    served: ServedLog
    successor: ServedLog | None = None
    watch: Watch = field(default_factory=Watch)
    options: dict = field(default_factory=dict)
    heard: list[Event] = field(default_factory=list)
    clock: StandingClock = field(default_factory=lambda: StandingClock(datetime.fromtimestamp(TIME, UTC)))

    def __post_init__(self):
        self.logs = [watched(served) for served in (self.served, self.successor) if served]

    @property
    def monitor(self) -> Monitor:
        return Monitor(
            self.logs,
            store=FolderMonitor(self.folder),
            about=about,
            tell=self.heard.append,
            clock=self.clock,
            watch=self.watch,
            **self.options,
        )

    def turn(self) -> Turn:
        self.heard.clear()
        return self.monitor.turn()

    def told(self) -> list[int]:
        """The entries that were told in the last turn."""
        return [event.data["index"] for event in self.heard if event.kind == "entry"]

    def codes(self) -> list[str]:
        """What was wrong or undecided in the last turn."""
        return [event.data["code"] for event in self.heard if event.kind in {"alarm", "undecided", "stands"}]

    def written(self, kind: str = "entry") -> list[dict]:
        """Every event of this kind that ever became durable."""
        lines = (self.folder / "events.jsonl").read_bytes().splitlines()
        events = [json.loads(line) for line in lines if line.endswith(b"}")]
        return [event for event in events if event["event"] == kind]

    def evidence(self) -> set[bytes]:
        return {path.read_bytes() for path in (self.folder / "evidence").glob("*.checkpoint")}
