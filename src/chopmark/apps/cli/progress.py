# SPDX-License-Identifier: Apache-2.0
"""Progress of work over bytes, on stderr: one line that is written over on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from chopmark.errors import ChopmarkError

_EVERY_S: Final = 5.0
"""How often a line is written where it cannot be written over."""

_MEASURED_AFTER_S: Final = 0.5
"""Before, a rate says nothing."""


def progress_line(done: tuple[int, int], total: tuple[int, int], seconds: float) -> str:
    """Return how far it is: files, bytes, the rate, and the time that remains at that rate.

    Args:
        done, total: bytes and files.
        seconds: since the start.
    """
    share = f"{min(100, 100 * done[0] // total[0]) if total[0] else 100:3} %"
    line = f"{share}  {done[1]:,} of {total[1]:,} files  {amount(done[0])} of {amount(total[0])}"
    if seconds < _MEASURED_AFTER_S or not done[0]:
        return line
    rate = done[0] / seconds
    return f"{line}  {amount(int(rate))}/s  {_left(max(0, total[0] - done[0]) / rate)} left"


def amount(number: int) -> str:
    """Return bytes as people read them: ``1.5 GB``."""
    size, unit = float(number), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{number} B" if unit == "B" else f"{size:.1f} {unit}"


def _left(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress_over(path: Path, *, asked: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that shows how far the reading of *path* is; None where nobody looks and nobody *asked*."""
    if not asked and not sys.stderr.isatty():
        yield None
        return
    from chopmark.artifacts import size_of

    try:
        total = size_of(path)
    except (OSError, ChopmarkError):
        yield None  # whoever reads it says what is wrong
        return
    with shown(total) as show:
        yield show


@contextmanager
def shown(total: tuple[int, int]) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows how far it is, whenever it is called with bytes and files."""
    start, terminal = time.monotonic(), sys.stderr.isatty()
    last = start

    def show(bytes_done: int, files_done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if terminal:
            click.echo("\r\x1b[K" + progress_line((bytes_done, files_done), total, now - start), err=True, nl=False)
        elif now - last >= _EVERY_S or (bytes_done, files_done) == total:
            last = now
            click.echo(progress_line((bytes_done, files_done), total, now - start), err=True)

    try:
        yield show
    finally:
        if terminal:
            click.echo("\r\x1b[K", err=True, nl=False)
