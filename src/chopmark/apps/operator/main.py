# SPDX-License-Identifier: Apache-2.0
"""Run the operator once, or until it is told to stop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from chopmark.apps.operator.wiring import open_operator
from chopmark.errors import ChopmarkError, Retry, spoken
from chopmark.release import open_workspace
from chopmark.release.reconcile import Reconciled

REFRESH_S = 3600.0
MAX_PAUSE_S = 300.0


def once(start: Path) -> Reconciled:
    """Look once, and publish what differs."""
    return open_operator(open_workspace(start), refresh_every=timedelta(seconds=REFRESH_S)).once()


def run(start: Path, *, every_s: float, refresh_s: float = REFRESH_S) -> None:
    """Look every *every_s* seconds until SIGTERM or SIGINT; back off while it fails."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    workspace = open_workspace(start)
    operator = open_operator(workspace, refresh_every=timedelta(seconds=refresh_s))
    pause, quiet = every_s, ""
    while not stop.is_set():
        try:
            if workspace.superseded(operator.root):  # trust was changed: other keys, roles, ledgers
                operator = open_operator(workspace, refresh_every=timedelta(seconds=refresh_s))
                _say([f"root {operator.root.version} governs"])
            done = operator.once()
        except ChopmarkError as error:
            _say(spoken(error))
            # What waits for a human is still looked at: the human may have acted, in Git or on the network.
            pause = min(MAX_PAUSE_S, max(every_s, pause * 2)) if error.retry is Retry.STALL else every_s
        else:
            pause = every_s
            if done.changes:
                _say(done.explain())
            if done.quiet and not quiet:
                _say([silence(done)])
            quiet = done.quiet
        stop.wait(pause)


def silence(done: Reconciled) -> str:
    """Return what is not known where the security host is silent."""
    return f"the security host is silent ({done.quiet}): its last status stays; a newer revocation is not published"


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the loop talks to whoever started it
