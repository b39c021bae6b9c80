# SPDX-License-Identifier: Apache-2.0
"""``demo``: the product in a minute. A bank reads cheques on three kiosks; somebody is root on one of them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import click

from chopmark.errors import UsageError

MARK = ".chopmark-demo"
MARKED = "A workspace of `chopmark demo`; the next demo replaces it, with all that lies in this folder.\n"


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path.home() / "chopmark-demo",
    help="Where the workspace is left behind; that of an earlier demo is replaced. Default: ~/chopmark-demo.",
)
@click.pass_context
def demo(ctx: click.Context, folder: Path) -> None:
    """Tell the whole story on real parts: build, ship, attack, take back. Every value is computed in the run.

    \b
    Example:
        chopmark demo
        cd ~/chopmark-demo && chopmark why R1
    """
    from chopmark.apps.cli.demo.story import Story

    folder = folder.expanduser().resolve()
    clear(folder)
    started = time.monotonic()
    story = Story(folder)
    try:
        story.tell()
    finally:
        story.close()
    click.echo(
        click.style(f"\n  {time.monotonic() - started:.0f} s; the workspace stays in {_short(folder)}", dim=True)
    )
    ctx.exit(0)


def clear(folder: Path) -> None:
    """Remove the workspace of an earlier demo, and nothing else.

    Raises:
        UsageError: *folder* is something else.
    """
    if folder.exists() and any(folder.iterdir()):
        mark = folder / MARK
        if mark.is_symlink() or not mark.is_file() or mark.read_text() != MARKED:
            raise UsageError(
                f"{folder}: exists and is no earlier demo", hint="name another: chopmark demo --folder DIR"
            )
        shutil.rmtree(folder)


def _short(folder: Path) -> str:
    home = Path.home()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)
