# SPDX-License-Identifier: Apache-2.0
"""The life of a log: written as files, moved, closed, succeeded."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, good


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_obj
@answers
def export(start: Path, folder: Path) -> Answer:
    """Write the ledger into FOLDER as static files that any tlog-tiles client reads.

    \b
    Example:
        chopmark ledger export /srv/ledger
    """
    from chopmark.apps.cli.wiring import LogSite

    point = LogSite.at(start).ledger.export(folder)
    data = {"ok": True, "folder": str(folder), "size": point.size}
    return data, [good(f"{point.size} entries of {point.origin} in {folder}")]
