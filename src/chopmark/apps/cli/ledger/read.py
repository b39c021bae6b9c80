# SPDX-License-Identifier: Apache-2.0
"""Read a log: its checkpoint, its entries, proofs; and verify what somebody else hands over."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, columns, dim, good, say

MAX_PROOF_BYTES = 262_144


@click.command()
@click.pass_obj
@answers
def checkpoint(start: Path) -> Answer:
    """Print the newest checkpoint as it is signed, and which witnesses saw it.

    \b
    Example:
        chopmark ledger checkpoint
    """
    from chopmark.apps.cli.wiring import LogSite

    site = LogSite.at(start)
    log, seen = site.ledger, site.witnessed()
    note = (log.witnessed_checkpoint() or log.signed_checkpoint()).decode()
    point = log.checkpoint
    data = {"ok": True, "origin": point.origin, "size": point.size, "root": point.root.hex(), "note": note}
    say(seen)
    return {**data, "witnessed": seen}, [note.rstrip("\n")]


@click.command()
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


@click.command()
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
    from chopmark.apps.cli.wiring import LogSite
    from chopmark.artifacts import write_file

    site = LogSite.at(start)
    log, seen = site.ledger, site.witnessed()
    found, entry = log.prove(index), log.entry(index)
    if out is not None:
        write_file(out, found)
        write_file(out.with_suffix(".json"), entry)
    data = {"ok": True, "index": index, "proof": found.decode(), "entry": entry.decode(), "witnessed": seen}
    say(seen)
    return data, [
        good(f"entry {index}: {out}, and the entry itself in {out.with_suffix('.json').name}")
        if out
        else found.decode().rstrip("\n")
    ]


@click.command()
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
    from chopmark.apps.cli.wiring import LogSite
    from chopmark.artifacts import read_file
    from chopmark.ledger import verify_proof, witnessed_by

    place = LogSite.at(start).place
    found = verify_proof(
        read_file(proof, max_bytes=MAX_PROOF_BYTES),
        read_file(entry, max_bytes=65_535),
        origin=place.origin,
        require=place.require,
        policy=place.policy,
    )
    data = {"ok": True, "index": found.index, "size": found.checkpoint.size, "witnesses": list(found.cosigned_by)}
    seen = witnessed_by(place.policy, found.cosigned_by, place.external)
    return {**data, "witnessed": seen}, [
        good(f"entry {found.index} of {found.checkpoint.size} in {found.checkpoint.origin}; {seen}")
    ]
