# SPDX-License-Identifier: Apache-2.0
"""Run commands as processes, in a network namespace of their own where the kernel allows it."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import IO

from chopmark.builds import Completed, Runner
from chopmark.errors import UsageError

HALF_LOG_BYTES = 4 * 1024 * 1024
"""Of a longer log, this much is kept of its beginning and of its end."""

_PROBE_SECONDS = 10
_GONE_SECONDS = 0.5
_CHUNK_BYTES = 65536

# The process namespace ends with its first process: what the command left running ends with it.
_ISOLATIONS = (
    ("--net", "--pid", "--fork", "--kill-child"),
    ("--user", "--map-current-user", "--net", "--pid", "--fork", "--kill-child"),
    ("--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"),
    ("--net",),
)


class ProcessRunner(Runner):
    """Processes of this machine."""

    @property
    def can_isolate(self) -> bool:
        return bool(self._isolation)

    @cached_property
    def _isolation(self) -> tuple[str, ...]:
        """The command that takes the network away, or nothing; tried once."""
        program = shutil.which("unshare")
        for options in _ISOLATIONS if program else ():
            command = (str(program), *options, "--")
            with suppress(OSError, subprocess.TimeoutExpired):
                probe = subprocess.run([*command, "true"], capture_output=True, timeout=_PROBE_SECONDS, check=False)
                if probe.returncode == 0:
                    return command
        return ()

    def _run(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: timedelta, isolated: bool
    ) -> Completed:
        before = self._isolation if isolated else ()
        try:
            process = subprocess.Popen(
                [*before, *command],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise UsageError(f"{command[0]}: cannot be run ({error.strerror})") from error
        with process:
            if process.stdout is None:
                raise OSError("no pipe to the command")
            log = _Log()
            try:
                timed_out = not _follow(process, process.stdout, log, until=time.monotonic() + timeout.total_seconds())
            finally:
                _end(process)
        return Completed(exit_code=process.returncode, log=log.content(), isolated=bool(before), timed_out=timed_out)


class _Log:
    """What was printed; of a long log the beginning and the end."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._cut = 0

    def add(self, data: bytes) -> None:
        room = HALF_LOG_BYTES - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        over = len(self._tail) - HALF_LOG_BYTES
        if over > HALF_LOG_BYTES:  # not at every line: each cut moves the whole tail
            del self._tail[:over]
            self._cut += over

    def content(self) -> bytes:
        over = max(0, len(self._tail) - HALF_LOG_BYTES)
        cut = self._cut + over
        note = b"\n[... %d bytes were cut out here ...]\n" % cut if cut else b""
        return bytes(self._head) + note + bytes(self._tail[over:])


def _follow(process: subprocess.Popen[bytes], pipe: IO[bytes], log: _Log, *, until: float) -> bool:
    """Read what is printed until the command ends; return whether it ended in time.

    The end of the process counts, not the end of the pipe: what it left in the background may hold that open.
    """
    os.set_blocking(pipe.fileno(), False)
    with selectors.DefaultSelector() as ready:
        ready.register(pipe, selectors.EVENT_READ)
        watched = os.pidfd_open(process.pid)
        try:
            ready.register(watched, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0:
                events = {key.fileobj for key, _ in ready.select(left)}
                if pipe in events and not _drain(pipe, log):
                    ready.unregister(pipe)
                if watched in events:
                    _drain(pipe, log)
                    return True
            return False
        finally:
            os.close(watched)


def _drain(pipe: IO[bytes], log: _Log) -> bool:
    """Read what is there; return False at the end of the pipe."""
    with suppress(BlockingIOError):
        while data := os.read(pipe.fileno(), _CHUNK_BYTES):
            log.add(data)
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and every process of its group, and see them gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # A killed process may take a moment, and its number stays while its new parent has not asked for it.
    until = time.monotonic() + _GONE_SECONDS
    with suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < until:
            os.killpg(process.pid, 0)
            time.sleep(0.002)
