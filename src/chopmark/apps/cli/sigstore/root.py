# SPDX-License-Identifier: Apache-2.0
"""``sigstore trusted-root``."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, good, say

_path = click.Path(path_type=Path)


@click.command("trusted-root")
@click.option(
    "--into", type=_path, help="A trusted root to add the log to: of the Fulcio whose certificates you accept."
)
@click.option("--out", type=_path, help="Write it here; default: print it.")
@click.pass_obj
@answers
def trusted_root(start: Path, into: Path | None, out: Path | None) -> Answer:
    """Write the trusted_root.json that names the nearest log of your own.

    Hand it to whoever verifies, by a way that they trust: it decides what they believe.

    \b
    Example:
        chopmark sigstore trusted-root --out trusted_root.json
        chopmark sigstore trusted-root --into fulcio_root.json --out trusted_root.json
    """
    from chopmark.apps.cli.ledger.wiring import LogSite
    from chopmark.artifacts import read_file, write_file
    from chopmark.ledger import LineKind, VerifierKey
    from chopmark.ledger.rekor import MAX_ROOT_BYTES, host_of
    from chopmark.ledger.rekor import trusted_root as build

    place = LogSite.at(start).place
    key = next(key for key in map(VerifierKey.decode, place.require) if key.kind is LineKind.ED25519)
    text = build(key, into=None if into is None else read_file(into, max_bytes=MAX_ROOT_BYTES))
    if not host_of(place.origin):
        say(
            f"note: the log is named {place.origin}; cosign and other clients written in Go want a host name and refuse its"
            " entries, sigstore-python and chopmark take them. A log for both: chopmark ledger create --origin log.example"
        )
    if out is not None:
        write_file(out, text)
    data = {"ok": True, "origin": place.origin, "trusted_root": text.decode()}
    return data, [good(f"{place.origin} is trusted by {out}") if out else text.decode()]
