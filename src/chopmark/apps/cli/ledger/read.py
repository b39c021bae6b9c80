# SPDX-License-Identifier: Apache-2.0
"""Read a log: its checkpoint, its entries, proofs; and verify what somebody else hands over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.render import Answer, answers, columns, dim, good, say
from chopmark.errors import Refused, UsageError, printable

if TYPE_CHECKING:
    from chopmark.apps.cli.ledger.wiring import LogSite

MAX_PROOF_BYTES = 262_144
_SHOWN = 1000
_HINTS = {
    "log-unproven": "entry and proof do not belong together, or one of them was altered: get both again from the log",
    "log-unwitnessed": "it is the log's own word only: get the proof again once the witnesses cosigned",
}


@click.command()
@click.pass_obj
@answers
def checkpoint(start: Path) -> Answer:
    """Print the newest checkpoint as it is signed, and which witnesses saw it.

    \b
    Example:
        chopmark ledger checkpoint
    """
    from chopmark.apps.cli.ledger.wiring import LogSite

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
    from chopmark.apps.cli.ledger.wiring import LogSite
    from chopmark.apps.cli.wiring import Site
    from chopmark.release.life import read_life

    own = LogSite.at(start)
    if not own.of_workspace:
        return _entries(own, kind)
    site = Site.at(start)
    known = read_life(site.statements(), site.trust, before=site.trust_before)
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


def _entries(site: LogSite, kind: str | None) -> Answer:
    """List the entries of a log of its own, whose meaning is its owner's."""
    from chopmark.ledger import leaf_hash

    if kind is not None:
        raise UsageError("the entries of a log of its own have no type", hint="leave --type out")
    store, heads = site.stores
    first, size = store.state().minimum, heads.head().size
    shown = range(max(first, size - _SHOWN), size)
    found = list(zip(shown, store.entries(shown.start, size) if shown else (), strict=True))
    rows = [
        (f"#{n}", leaf_hash(entry).hex()[:16], f"{len(entry):,} B", entry[:60].decode("utf-8", "replace"))
        for n, entry in found
    ]
    data = {
        "ok": True,
        "size": size,
        "entries": [{"index": n, "leaf": leaf_hash(entry).hex(), "length": len(entry)} for n, entry in found],
    }
    return data, [*columns([tuple(printable(cell) for cell in row) for row in rows]), dim(f"{len(rows)} of {size:,}")]


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
    from chopmark.apps.cli.ledger.wiring import LogSite
    from chopmark.artifacts import write_file

    site = LogSite.at(start)
    found, entry = site.prove(index)
    seen = site.witnessed()
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
    from chopmark.apps.cli.ledger.wiring import LogSite
    from chopmark.artifacts import read_file
    from chopmark.ledger import verify_proof, witnessed_by

    place = LogSite.at(start).place
    try:
        found = verify_proof(
            read_file(proof, max_bytes=MAX_PROOF_BYTES),
            read_file(entry, max_bytes=65_535),
            origin=place.origin,
            require=place.require,
            policy=place.policy,
        )
    except Refused as error:
        raise Refused(error.code, error.message, hint=_HINTS[error.code], evidence=error.evidence) from error
    data = {"ok": True, "index": found.index, "size": found.checkpoint.size, "witnesses": list(found.cosigned_by)}
    seen = witnessed_by(place.policy, found.cosigned_by, place.external)
    return {**data, "witnessed": seen}, [
        good(f"entry {found.index} of {found.checkpoint.size} in {found.checkpoint.origin}; {seen}")
    ]
