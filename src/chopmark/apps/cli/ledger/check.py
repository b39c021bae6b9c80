# SPDX-License-Identifier: Apache-2.0
"""Check a log against itself."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, bad, good


@click.command()
@click.pass_obj
@answers
def fsck(start: Path) -> Answer:
    """Re-derive every tile and root from the entries, and check every signature of the checkpoint.

    \b
    Example:
        chopmark ledger fsck
    """
    from chopmark.apps.cli.wiring import LogSite

    site = LogSite.at(start)
    report = site.ledger.fsck(site.place.policy)
    data = {"ok": report.ok, "size": report.size, "problems": list(report.problems)}
    if report.ok:
        return data, [good(f"ledger intact: {report.size} entries, first to last"), f"  {site.witnessed()}"]
    return data, [bad(problem) for problem in report.problems]
