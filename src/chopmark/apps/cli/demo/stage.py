# SPDX-License-Identifier: Apache-2.0
"""What the story is told on: aligned lines, progress while something long runs, and processes that are ended at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import click

from chopmark.apps.cli.render import BAD, GOOD
from chopmark.errors import UndecidedError

T = TypeVar("T")

WIDTH: Final = 58
"""Where the commands that check a line begin."""
MAX_WIDTH: Final = 100
PATIENCE_S: Final = 60.0
QUIET: Final = {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
"""One thread for each part, and no library that reports to its maker."""


class Screen:
    """Lines of the story, on stdout."""

    def __init__(self) -> None:
        self.lines = 0

    def act(self, title: str, rest: str = "", check: str = "") -> None:
        """Begin an act."""
        self.put("")
        self.put(self._with_check(click.style(title, bold=True, fg="cyan") + rest, check))

    def good(self, text: str, check: str = "") -> None:
        self.put(self._with_check(f" {click.style(GOOD, fg='green')} {text}", check))

    def bad(self, text: str, check: str = "") -> None:
        self.put(self._with_check(f" {click.style(BAD, fg='red', bold=True)} {text}", check))

    def plain(self, text: str, check: str = "") -> None:
        self.put(self._with_check(f"   {text}", check))

    def title(self, text: str, right: str) -> None:
        self.put(
            self._with_check(
                click.style(text.split("  ", maxsplit=1)[0], bold=True) + "  " + text.split("  ", 1)[1], right
            )
        )

    def put(self, line: str) -> None:
        self.lines += 1
        click.echo(line)

    @staticmethod
    def _with_check(text: str, check: str) -> str:
        if not check:
            return text
        gap = max(2, WIDTH - len(click.unstyle(text)))
        columns = min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 0)).columns)
        if len(click.unstyle(text)) + gap + len(check) > columns:
            return f"{text}\n      {click.style(check, dim=True)}"
        return text + " " * gap + click.style(check, dim=True)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Show that something long is running, on stderr and only where a person looks."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()

    def turn() -> None:
        start = time.monotonic()
        while not done.wait(0.1):
            frame = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"[int((time.monotonic() - start) * 10) % 10]
            click.echo(f"\r   {frame} {what} … {time.monotonic() - start:.0f} s", nl=False, err=True)

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        click.echo("\r\x1b[2K", nl=False, err=True)


class Processes:
    """The parts that run beside the story. Each writes its talk to a log of its own."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self._folder = folder
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Start ``chopmark`` with *arguments* in the workspace."""
        self.start_program(name, [sys.executable, "-m", "chopmark", *arguments])

    def start_program(self, name: str, command: Sequence[str]) -> None:
        """Start any program in the workspace."""
        environment = {**os.environ, **QUIET, "PYTHONUNBUFFERED": "1"}
        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def end(self, name: str) -> None:
        """End one part, if it runs."""
        process = self._running.pop(name, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def check(self) -> None:
        """Raise if a part ended by itself.

        Raises:
            UndecidedError: names it and shows the end of its log.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                log = self._logs / f"{name}.log"
                tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
                raise UndecidedError(f"{name} ended: {' / '.join(tail)}", code="part-ended", hint=f"see {log}")

    def stop(self) -> None:
        """End everything, politely first."""
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()


def wait_for(what: str, look: Callable[[], T | None], processes: Processes) -> tuple[T, float]:
    """Look until there is an answer; return it and the seconds it took.

    Raises:
        UndecidedError: nothing within a minute, or a part ended.
    """
    start = time.monotonic()
    while time.monotonic() - start < PATIENCE_S:
        found = look()
        if found is not None:
            return found, time.monotonic() - start
        processes.check()
        time.sleep(0.05)
    raise UndecidedError(
        f"waited {PATIENCE_S:.0f} s for {what}", code="demo-waited", hint="see the logs in the workspace"
    )


def free_ports(count: int) -> int:
    """Return the first of *count* free ports in a row."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        if first + count < 65_536 and all(_is_free(first + n) for n in range(count)):
            return first
    raise UndecidedError("no free ports", code="no-ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def answers_at(port: int) -> bool:
    """Tell whether somebody listens."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
