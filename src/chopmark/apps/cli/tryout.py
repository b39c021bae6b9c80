# SPDX-License-Identifier: Apache-2.0
"""``try``: the reader's own model, signed under a throw-away trust, loaded, tampered with, refused."""

from __future__ import annotations

import importlib
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.render import Answer, answers, bad, dim, good, say
from chopmark.errors import InternalError, Refused, VerificationError

if TYPE_CHECKING:
    from chopmark.apps.cli.wiring import Site
    from chopmark.artifacts import Manifest, Session
    from chopmark.channel import Release
    from chopmark.inspection import Inspection

MAX_MODEL_BYTES = 512 * 1024 * 1024
MODEL = "yours"
TO_PASTE = """\
import chopmark
from chopmark.errors import Refused

try:
    with chopmark.load("digits", device="/var/lib/chopmark") as model:
        answer = model.run(rows)
except Refused as refusal:
    # not the model that was approved: go on without it; the fleet knows already
    log.error("model refused: %s: %s", refusal.code, refusal)
    answer = None
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of it.

    Attributes:
        refusal: after one byte was changed.
        load_ms: the gate and the runtime together, milliseconds.
    """

    inspection: Inspection
    release: Release
    manifest: Manifest
    load_ms: float
    changed: int
    refusal: Refused


@click.command("try")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@answers
def try_(file: Path) -> Answer:
    """Sign your own .onnx FILE with throw-away keys, load it, change one byte, and see it refused.

    Nothing is sent anywhere, FILE is only read, and everything that is made is removed again.

    \b
    Example:
        chopmark try model.onnx
    """
    with tempfile.TemporaryDirectory(prefix="chopmark-try-") as temporary:
        done = run_try(file, Path(temporary), say)
    found = done.inspection
    body = {
        "ok": True,
        "inspection": {"passed": found.passed, "findings": [f.message for f in found.findings]},
        "release": str(done.release.digest),
        "load_ms": round(done.load_ms, 1),
        "changed_byte": done.changed,
        "refused": {"code": done.refusal.code, "step": done.refusal.step, "message": done.refusal.message},
    }
    inspected = (
        good(f"inspected  {len(found.operators)} operators, all allowed; {found.bytes_covered:,} bytes understood")
        if found.passed
        else bad(f"inspected  a gate would refuse it: {found.findings[0].message if found.findings else found.format}")
    )
    return body, [
        inspected,
        good(f"signed     by 2 of 3 throw-away owners, Ed25519 + ML-DSA-65   release {done.release.digest.short}…"),
        good("published  in a witnessed ledger and a signed channel; followed by a device as in production"),
        good(f"loaded     from sealed memory in {done.load_ms:.0f} ms, after every byte was checked"),
        f"  … somebody changes byte {done.changed:,} of the file on the device …",
        bad(f"REFUSED    {done.refusal.code}, step {done.refusal.step}: {done.refusal.message}"),
        good("undone     and loads again"),
        "",
        dim("the lines to paste into your application:"),
        *TO_PASTE.splitlines(),
    ]


def run_try(file: Path, folder: Path, tell: Callable[[str], None]) -> Tried:
    """Do it, in *folder*.

    Raises:
        VerificationError: the runtime cannot load or run the model.
    """
    from chopmark.apps.cli.wiring import Site, create_workspace
    from chopmark.artifacts import read_file, scan, write_file
    from chopmark.inspection import inspect_bytes

    data = read_file(file, max_bytes=MAX_MODEL_BYTES)
    inspection = inspect_bytes(data)
    tell("making a throw-away trust …")
    site = Site(create_workspace(folder / "workspace", name="try", channel="production", port=1))
    session = site.runtime().load(data)
    package = folder / "package"
    write_file(package / "model.onnx", data)
    write_file(package / "self-test.json", _self_test(session))
    manifest = scan(package)
    release = publish(site, package, manifest)
    tell("a device follows the channel …")
    device = folder / "device"
    agent = importlib.import_module("chopmark.apps.agent.main")
    agent.enroll(
        device,
        name="yours",
        channel_url=site.workspace.published.as_uri(),
        pin=str(site.workspace.pin),
        models=[MODEL],
        fleet_url="",
    )
    agent.run(device, once=True, tell=lambda _: None)
    started = time.monotonic()
    _load(device)
    load_ms = 1000 * (time.monotonic() - started)
    model = next((device / "slots" / MODEL).glob("*/files/model.onnx"))
    changed, refusal = _tamper(device, model)
    shutil.copyfile(file, model)
    _load(device)
    return Tried(
        inspection=inspection, release=release, manifest=manifest, load_ms=load_ms, changed=changed, refusal=refusal
    )


def _self_test(session: Session) -> bytes:
    from chopmark.artifacts import selftest

    rows = [[value] * session.width for value in (0, 1)]
    try:
        return selftest.encode_vectors(selftest.record(session, rows, tolerance=10_000))
    except VerificationError as error:
        hint = "sizes that the model leaves open are taken as 1 here; give it fixed input sizes, then try again"
        raise VerificationError(error.message, code=error.code, hint=hint) from error


def publish(site: Site, package: Path, manifest: Manifest) -> Release:
    """Approve and publish *package* without Git, gate and network: what a device checks is all there."""
    from chopmark.artifacts import Digest, read_file
    from chopmark.channel import Assignment, Release, RuntimeNeed, decode_release, release_statement
    from chopmark.channel.publish import Shipment
    from chopmark.statements import encode_envelope, sign

    runtime = site.runtime()
    self_test = manifest.file("self-test.json")
    nothing = Digest.of(b"")  # no gate decided here, and no evidence stands behind it
    draft = Release(
        digest=nothing,
        workspace=site.workspace.name,
        model=MODEL,
        version="1",
        channels=(site.workspace.channel,),
        counter=1,
        epoch=1,
        manifest=manifest.digest,
        manifest_length=len(manifest.encode()),
        fallbacks=(),
        runtime=RuntimeNeed(name=runtime.name, range=f"=={runtime.version}", libraries={}),
        abi="any",
        min_app="0",
        min_tier=1,
        check_class="normal",
        self_test=self_test.sha256 if self_test else nothing,
        vsa=nothing,
        evidence=(),
    )
    keys = [key for owner in ("owner-a", "owner-b") for key in site.signers(owner)]
    envelope = sign(release_statement(draft), keys)
    release = decode_release(envelope.payload)
    shipment = Shipment(
        release=release.digest,
        envelope=encode_envelope(envelope),
        manifest=manifest,
        files={e.name: read_file(package / e.name, max_bytes=e.length) for e in manifest.files},
    )
    site.publish_alone(
        (Assignment(model=MODEL, runtime=runtime.name, first=0, end=10_000, release=release.digest),), (shipment,)
    )
    return release


def _load(device: Path) -> None:
    import chopmark

    with chopmark.load(MODEL, device=device):
        pass


def _tamper(device: Path, model: Path) -> tuple[int, Refused]:
    """Change one byte in the middle of the file; return which, and the refusal."""
    data = bytearray(model.read_bytes())
    at = len(data) // 2
    data[at] ^= 1
    model.write_bytes(data)
    try:
        _load(device)
    except Refused as refusal:
        return at, refusal
    raise InternalError("a changed model was loaded")
