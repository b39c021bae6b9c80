# SPDX-License-Identifier: Apache-2.0
"""``keys public``: the public half of a key, wherever the private one is."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers


@click.command()
@click.argument("key")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file instead.")
@answers
def public(key: str, out: Path | None) -> Answer:
    """Print the public half of KEY (PEM): a private key's file, or a URI such as pkcs11:… or openbao:….

    \b
    Example:
        chopmark keys public packager.pem --out packager.pub
        chopmark keys public 'openbao:transit/packager?version=1'
    """
    from chopmark.apps.cli.hashing import check_folder_of
    from chopmark.apps.cli.wiring import load_key
    from chopmark.artifacts import write_file

    found = load_key(key).public
    data = {"ok": True, "algorithm": str(found.algorithm), "keyid": found.keyid, "public": found.pem}
    if out is None:
        return data, [found.pem.rstrip("\n")]
    check_folder_of(out)
    write_file(out, found.pem.encode())
    return data, [f"{found.algorithm} {found.keyid}: {out}"]
