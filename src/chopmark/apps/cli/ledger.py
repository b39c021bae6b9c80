# SPDX-License-Identifier: Apache-2.0
"""``ledger``: what was logged, proven to whoever asks."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, bad, columns, dim, good
from chopmark.errors import UsageError

MAX_PROOF_BYTES = 262_144


@click.group()
def ledger() -> None:
    """The transparency log: append-only, signed twice, witnessed.

    \b
    Example:
        chopmark ledger fsck
        chopmark ledger proof 7 --out 7.tlog-proof
        chopmark ledger verify 7.tlog-proof --entry 7.json
    """


@ledger.command()
@click.pass_obj
@answers
def checkpoint(start: Path) -> Answer:
    """Print the newest checkpoint as it is signed, and which witnesses saw it.

    \b
    Example:
        chopmark ledger checkpoint
    """
    from chopmark.apps.cli.wiring import Site

    log = Site.at(start).ledger
    note = (log.witnessed_checkpoint() or log.signed_checkpoint()).decode()
    point = log.checkpoint
    data = {"ok": True, "origin": point.origin, "size": point.size, "root": point.root.hex(), "note": note}
    return data, [note.rstrip("\n")]


@ledger.command()
@click.option("--type", "kind", help="Only statements of this type, e.g. release.")
@click.pass_obj
@answers
def entries(start: Path, kind: str | None) -> Answer:
    """List what was logged, in order.

    \b
    Example:
        chopmark ledger entries --type test-result
    """
    from chopmark.apps.cli.wiring import Site
    from chopmark.release.life import read_life

    site = Site.at(start)
    known = read_life(site.statements(), site.trust)
    events = [event for event in known if kind in (None, event.type)]
    size = site.ledger.checkpoint.size
    data = {"ok": True, "size": size, "entries": [event.as_json() for event in events]}
    rows = [
        (f"#{e.index}", e.type, e.subject_name, e.problem or f"by {', '.join(e.owners)}", f"{e.digest.short}…")
        for e in events
    ]
    return data, [
        *columns(rows),
        dim(f"{len(events)} of {len(known)} statements; {size - len(known)} more entries are publications"),
    ]


@ledger.command()
@click.argument("index", type=int)
@click.option("--out", type=click.Path(path_type=Path), help="Write the proof here; the entry goes beside it as .json.")
@click.pass_obj
@answers
def proof(start: Path, index: int, out: Path | None) -> Answer:
    """Prove that entry INDEX is in the witnessed ledger (a C2SP .tlog-proof).

    \b
    Example:
        chopmark ledger proof 7 --out 7.tlog-proof
    """
    from chopmark.apps.cli.wiring import Site
    from chopmark.artifacts import write_file

    log = Site.at(start).ledger
    found, entry = log.prove(index), log.entry(index)
    if out is not None:
        write_file(out, found)
        write_file(out.with_suffix(".json"), entry)
    data = {"ok": True, "index": index, "proof": found.decode(), "entry": entry.decode()}
    return data, [
        good(f"entry {index}: {out}, and the entry itself in {out.with_suffix('.json').name}")
        if out
        else found.decode().rstrip("\n")
    ]


@ledger.command()
@click.argument("proof", type=click.Path(path_type=Path))
@click.option("--entry", type=click.Path(path_type=Path), required=True, help="The entry that is proven.")
@click.pass_obj
@answers
def verify(start: Path, proof: Path, entry: Path) -> Answer:
    """Verify a proof offline: inclusion, both log signatures, witnesses.

    \b
    Example:
        chopmark ledger verify 7.tlog-proof --entry 7.json
    """
    from chopmark.apps.cli.wiring import Site
    from chopmark.artifacts import read_file
    from chopmark.ledger import WitnessPolicy, verify_proof

    trust = Site.at(start).trust
    if not trust.logs:
        raise UsageError("trust.json names no ledger")
    found = verify_proof(
        read_file(proof, max_bytes=MAX_PROOF_BYTES),
        read_file(entry, max_bytes=65_535),
        origin=trust.logs[0].origin,
        require=trust.logs[0].require,
        policy=WitnessPolicy.parse(trust.witness_policy),
    )
    data = {"ok": True, "index": found.index, "size": found.checkpoint.size, "witnesses": list(found.cosigned_by)}
    who = ", ".join(found.cosigned_by) or "nobody"
    return data, [
        good(f"entry {found.index} of {found.checkpoint.size} in {found.checkpoint.origin}; witnessed by {who}")
    ]


@ledger.command()
@click.pass_obj
@answers
def fsck(start: Path) -> Answer:
    """Re-derive every tile and root from the entries, and check every signature of the checkpoint.

    \b
    Example:
        chopmark ledger fsck
    """
    from chopmark.apps.cli.wiring import Site
    from chopmark.ledger import WitnessPolicy

    site = Site.at(start)
    report = site.ledger.fsck(WitnessPolicy.parse(site.trust.witness_policy))
    data = {"ok": report.ok, "size": report.size, "problems": list(report.problems)}
    if report.ok:
        return data, [good(f"ledger intact: {report.size} entries, first to last"), "  witnessed: internal only"]
    return data, [bad(problem) for problem in report.problems]


@ledger.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_obj
@answers
def export(start: Path, folder: Path) -> Answer:
    """Write the ledger into FOLDER as static files that any tlog-tiles client reads.

    \b
    Example:
        chopmark ledger export /srv/ledger
    """
    from chopmark.apps.cli.wiring import Site

    point = Site.at(start).ledger.export(folder)
    data = {"ok": True, "folder": str(folder), "size": point.size}
    return data, [good(f"{point.size} entries of {point.origin} in {folder}")]


@ledger.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False)
@click.pass_context
def witness(ctx: click.Context) -> None:
    """Run the workspace's witness: a process of its own, with its own key and folder.

    \b
    Example:
        chopmark ledger witness
    """
    from chopmark.apps.cli.services import start_service

    start_service("witness", ctx)
