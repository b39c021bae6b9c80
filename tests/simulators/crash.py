# SPDX-License-Identifier: Apache-2.0
"""Real processes that are killed, and real processes that run at once."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from chopmark.artifacts import write_file
from chopmark.canonical import decode_base64, encode_base64
from simulators.log import SimLog

POINTS = ("fsync", "replace", "link", "unlink")
"""Calls of ``os`` before which a process is killed: between any two, the folder is in a state of its own."""


def killed_everywhere(action: Callable[[], object], *, at: Sequence[str] = POINTS) -> Iterator[int]:
    """Run *action* in child processes, each killed with SIGKILL one point later than the one before.

    Args:
        at: some of :data:`POINTS`.

    Yields:
        The number of the point, after each child that was killed; ends when *action* ran through.
    """
    point = 0
    while True:
        point += 1
        child = os.fork()
        if child == 0:
            _die_at(point, at)
            _run(action)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "the action failed by itself"
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield point


def at_once(actions: Sequence[Callable[[], bool]]) -> list[bool]:
    """Run *actions* in processes of their own that start together; return what each returned.

    An exception in one counts as a failure of the test.
    """
    ready, go = os.pipe(), os.pipe()
    children = []
    for action in actions:
        child = os.fork()
        if child == 0:
            os.write(ready[1], b".")
            os.read(go[0], 1)
            _run(action)
        children.append(child)
    for _ in actions:
        os.read(ready[0], 1)
    os.write(go[1], b"." * len(actions))
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    for descriptor in (*ready, *go):
        os.close(descriptor)
    assert set(codes) <= {0, 10}, f"a process failed by itself: {codes}"
    return [code == 0 for code in codes]


def _run(action: Callable[[], object]) -> None:
    """Run *action* in a child: 0 it is done, 10 it returned False, 1 it raised."""
    code = 1
    try:
        code = 10 if action() is False else 0
    finally:
        os._exit(code)


def _die_at(point: int, calls: Sequence[str]) -> None:
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            step()
            return call(*args, **options)

        return counted

    # What a killed process wrote is in the kernel's hands, synchronised or not: waiting for the disk shows nothing here.
    os.fsync = lambda descriptor: None
    for name in calls:
        setattr(os, name, watched(getattr(os, name)))


class SharedLog(SimLog):
    """A SimLog of which several processes append to one history, kept in a file.

    Args:
        like: the log whose keys and witnesses it has.
    """

    def __init__(self, like: SimLog, file: Path) -> None:
        super().__init__(origin=like.origin, witnesses=0, quorum=like.quorum)
        self.signers, self.witnesses, self.entries = like.signers, like.witnesses, like.entries
        self._file = file

    def prove(self, entry: bytes) -> bytes:
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._file.exists():
                self.entries = [decode_base64(text, what="entry") for text in json.loads(self._file.read_bytes())]
            self.append(entry)
            write_file(self._file, json.dumps([encode_base64(each) for each in self.entries]).encode())
            return super().prove(entry)
