# SPDX-License-Identifier: Apache-2.0
"""What a command shows.

Rules: data goes to stdout, talk to stderr. ``--json`` replaces the data by one JSON object and nothing else. Colour
never carries meaning and is off where stdout is no terminal or NO_COLOR is set. After an error stands what to do next.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from typing import ParamSpec

import click

from chopmark.clock import format_time
from chopmark.errors import ChopmarkError

P = ParamSpec("P")

GOOD = "✓"
BAD = "✗"

Answer = tuple[Mapping[str, object], Iterable[str]]
"""What a command returns: the JSON object, and the lines for people."""


def answers(command: Callable[P, Answer]) -> Callable[P, None]:
    """Give *command* the option ``--json`` and print what it returns."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, for programs.")
    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.pop("as_json"))
        data, lines = command(*args, **kwargs)
        if as_json:
            click.echo(json.dumps(data, ensure_ascii=True, indent=2, default=_plain))
        else:
            for line in lines:
                click.echo(line)
        if data.get("ok") is False:
            click.get_current_context().exit(1)

    return run


def _plain(value: object) -> str:
    """Write what JSON has no form for: times as everywhere on the wire, digests and names as they are shown."""
    return format_time(value) if isinstance(value, datetime) else str(value)


def say(line: str) -> None:
    """Talk: progress, notes, what was done."""
    click.echo(line, err=True)


def good(text: str) -> str:
    return click.style(f"{GOOD} ", fg="green") + text


def bad(text: str) -> str:
    return click.style(f"{BAD} ", fg="red", bold=True) + text


def dim(text: str) -> str:
    return "" if not text else click.style(text, dim=True)


def strong(text: str) -> str:
    return click.style(text, bold=True)


def show_error(error: ChopmarkError, *, as_json: bool) -> None:
    """Print an error: a JSON object on stdout, or two lines on stderr."""
    if as_json:
        body = {"ok": False, "error": error.code, "message": error.message, "hint": error.hint}
        body["evidence"] = dict(error.evidence)
        click.echo(json.dumps(body, ensure_ascii=True, indent=2, default=_plain))
        return
    say(f"{click.style('error', fg='red', bold=True)} {error.code}: {error.message}")
    if error.hint:
        say(f"{click.style('hint:', fg='cyan')} {error.hint}")


def counted(number: int, what: str) -> str:
    """Return ``1 device``, ``2 devices``."""
    return f"{number:,} {what}" + "s" * (number != 1)


def columns(rows: Iterable[tuple[str, ...]], *, indent: str = "") -> list[str]:
    """Return *rows* as aligned lines; widths are those seen, styles not counted."""
    table = [tuple(row) for row in rows]
    if not table:
        return []
    widths = [max(len(click.unstyle(row[i])) for row in table if i < len(row)) for i in range(max(map(len, table)))]
    lines = []
    for row in table:
        cells = [cell + " " * (widths[i] - len(click.unstyle(cell))) for i, cell in enumerate(row)]
        lines.append(indent + "  ".join(cells).rstrip())
    return lines
