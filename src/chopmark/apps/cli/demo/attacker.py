# SPDX-License-Identifier: Apache-2.0
"""The attacker's own workbench. Nothing here touches a device: what it makes is carried there by plain file copies.

An attacker may use any tool, ours included: this one signs a release of its own with keys of its own, so that the files
on the kiosk are perfectly well-formed and perfectly signed - by nobody who may sign them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from chopmark.apps.cli.wiring import Site
from chopmark.artifacts import read_file, scan, write_file
from chopmark.channel import decode_release, release_statement
from chopmark.statements import decode_envelope, encode_envelope, sign

MAX_ENVELOPE_BYTES = 4_000_000


def own_package(slot: Path, model: Path, into: Path, evil: Site) -> None:
    """Copy a slot, put *model* into it, and make manifest and envelope fit, signed by the attacker's own approvers."""
    from dataclasses import replace

    shutil.copytree(slot, into)
    shutil.copyfile(model, into / "files" / "model.onnx")
    manifest = scan(into / "files")
    write_file(into / "manifest.json", manifest.encode())
    genuine = decode_envelope(read_file(into / "envelope.json", max_bytes=MAX_ENVELOPE_BYTES))
    release = decode_release(genuine.payload)
    forged = replace(
        release, manifest=manifest.digest, manifest_length=len(manifest.encode()), counter=release.counter + 1
    )
    keys = [key for owner in ("owner-a", "owner-b", "owner-c") for key in evil.signers(owner)]
    write_file(into / "envelope.json", encode_envelope(sign(release_statement(forged), keys)))
