# SPDX-License-Identifier: Apache-2.0
"""Check a log against itself: one's own, or anybody's static files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.render import Answer, answers, bad, good

if TYPE_CHECKING:
    from chopmark.ledger import WitnessPolicy
    from chopmark.ledger.fsck import FsckReport

_MAX_POLICY_BYTES = 1024 * 1024


@click.command()
@click.option("--files", "where", help="Check static files in this folder or behind this address instead.")
@click.option("--key", "vkeys", multiple=True, help="With --files: a vkey that must have signed; several may be given.")
@click.option("--policy", type=click.Path(path_type=Path), help="With --files: the witness policy (C2SP tlog-policy).")
@click.option("--jobs", type=click.IntRange(min=1), help="How many processes; default: one for each core.")
@click.pass_obj
@answers
def fsck(start: Path, where: str | None, vkeys: tuple[str, ...], policy: Path | None, jobs: int | None) -> Answer:
    """Re-derive every tile and root from the entries, and check every signature of the checkpoint.

    With --files the log may be anybody's: every file that its checkpoint promises is fetched and checked.

    \b
    Example:
        chopmark ledger fsck
        chopmark ledger fsck --files /srv/ledger
        chopmark ledger fsck --files https://log.example/models --key log.example/models+5a…
    """
    from chopmark.ledger.helpers import cores

    workers = jobs or cores()
    if where is None and (vkeys or policy):
        raise click.UsageError("--key and --policy say whose --files are checked")
    if where is None:
        return _own(start, workers)
    return _files(where, start, vkeys, policy, workers)


def _own(start: Path, workers: int) -> Answer:
    from chopmark.apps.cli.ledger.meter import Meter
    from chopmark.apps.cli.ledger.wiring import LogSite
    from chopmark.ledger import VerifierKey
    from chopmark.ledger.fsck import fsck as check

    site = LogSite.at(start)
    place, (store, heads) = site.place, site.stores
    keys = [VerifierKey.decode(vkey) for vkey in place.require]
    report = check(store, heads, keys, place.policy, workers=workers, progress=Meter("checked"))
    return _answer(report, place.policy, place.external)


def _files(where: str, start: Path, vkeys: tuple[str, ...], policy: Path | None, workers: int) -> Answer:
    from functools import partial

    from chopmark.apps.cli.ledger.meter import Meter
    from chopmark.apps.cli.ledger.wiring import LogSite, open_log_files
    from chopmark.artifacts import read_file
    from chopmark.ledger import VerifierKey, WitnessPolicy
    from chopmark.ledger.fsck_files import fsck_files

    external: tuple[str, ...] = ()
    if vkeys:
        require, witnesses = vkeys, WitnessPolicy(logs=(), witnesses=(), groups=(), quorum="none")
    else:
        site = LogSite.at(start)
        require, witnesses, external = site.place.require, site.place.policy, site.place.external
    if policy is not None:
        witnesses = WitnessPolicy.parse(read_file(policy, max_bytes=_MAX_POLICY_BYTES))
    report = fsck_files(
        open_log_files(where),
        origin=VerifierKey.decode(require[0]).name,
        require=require,
        policy=witnesses,
        opener=partial(open_log_files, where),
        workers=workers,
        progress=Meter("checked"),
    )
    return _answer(report, witnesses, external)


def _answer(report: FsckReport, policy: WitnessPolicy, external: tuple[str, ...]) -> Answer:
    from chopmark.ledger import witnessed_by

    witnessed = witnessed_by(policy, report.cosigned_by, external)
    data = {
        "ok": report.ok,
        "size": report.size,
        "root": report.root.hex(),
        "pruned_before": report.minimum,
        "witnessed": witnessed,
        "problems": list(report.problems),
    }
    if not report.ok:
        return data, [bad(problem) for problem in report.problems]
    lines = [good(f"ledger intact: {report.size} entries, first to last"), f"  {witnessed}"]
    if report.minimum:
        lines.append(f"  entries before {report.minimum:,} are pruned: of them, only the hashes were checked")
    return data, lines
