# SPDX-License-Identifier: Apache-2.0
"""What a command shows.

Rules: data goes to stdout, talk to stderr. ``--json`` replaces the data by one JSON object and nothing else. Colour
never carries meaning and is off where stdout is no terminal or NO_COLOR is set. After an error stands what to do next.
``ok`` decides the exit code, whoever reads on: true 0, false 1, null (could not be decided) 3.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from typing import Final, ParamSpec

import click

from chopmark.clock import format_time
from chopmark.errors import ChopmarkError, printable

P = ParamSpec("P")

GOOD = "✓"
BAD = "✗"

Answer = tuple[Mapping[str, object], Iterable[str]]
"""What a command returns: the JSON object, and the lines for people."""

_STYLES: Final = re.compile(r"(\x1b\[(?:0|1|2|31|32|36)m|\t)")
"""The styles of this module, and what separates columns of other programs: no cursor moves, nothing is hidden by them."""

_EXIT_CODES: Final = {True: 0, False: 1, None: 3}


def answers(command: Callable[P, Answer]) -> Callable[P, None]:
    """Give *command* the option ``--json`` and print what it returns."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, for programs.")
    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.pop("as_json"))
        data, lines = command(*args, **kwargs)
        text = [json.dumps(data, ensure_ascii=True, indent=2, default=_plain)] if as_json else lines
        for line in text:
            _show(line)
        if code := _EXIT_CODES[bool(data["ok"]) if data["ok"] is not None else None]:
            click.get_current_context().exit(code)

    return run


def _show(line: str) -> None:
    """Print *line* without what would move a cursor; a reader that has seen enough (``| head -1``) changes nothing about the exit code."""
    try:
        click.echo(harmless(line))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def harmless(line: str) -> str:
    """Return *line* with the styles that are used here and no other control: names in it may be an attacker's."""
    return "".join(part if number % 2 else printable(part) for number, part in enumerate(_STYLES.split(line)))


def _plain(value: object) -> str:
    """Write what JSON has no form for: times as everywhere on the wire, digests and names as they are shown."""
    return format_time(value) if isinstance(value, datetime) else str(value)


def say(line: str) -> None:
    """Talk: progress, notes, what was done."""
    click.echo(harmless(line), err=True)


def good(text: str) -> str:
    return click.style(f"{GOOD} ", fg="green") + text


def bad(text: str) -> str:
    return click.style(f"{BAD} ", fg="red", bold=True) + text


def plain(text: str) -> str:
    """Return *text* under a mark that says neither good nor bad."""
    return f"· {text}"


def marked(text: str, *, ok: bool | None) -> str:
    """Return *text* under the mark of an answer: yes, no, or neither."""
    return plain(text) if ok is None else good(text) if ok else bad(text)


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


def moment(time: datetime) -> str:
    """Return *time* as it stands in lines for people."""
    return f"{time:%Y-%m-%d %H:%M:%S}Z"


def columns(rows: Iterable[tuple[str, ...]], *, indent: str = "") -> list[str]:
    """Return *rows* as aligned lines; widths are those seen, styles not counted. No cell makes a line of its own."""
    table = [tuple(cell.replace("\n", "�") for cell in row) for row in rows]
    if not table:
        return []
    widths = [max(len(click.unstyle(row[i])) for row in table if i < len(row)) for i in range(max(map(len, table)))]
    lines = []
    for row in table:
        cells = [cell + " " * (widths[i] - len(click.unstyle(cell))) for i, cell in enumerate(row)]
        lines.append(indent + "  ".join(cells).rstrip())
    return lines
