# SPDX-License-Identifier: Apache-2.0
"""``try``: the reader's own model, signed under a throw-away trust, loaded, tampered with, refused."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.render import Answer, answers, bad, counted, dim, good, say
from chopmark.errors import InternalError, Refused, VerificationError

if TYPE_CHECKING:
    from chopmark.apps.cli.wiring import Site
    from chopmark.artifacts import Manifest, Session
    from chopmark.channel import Release
    from chopmark.inspection import Inspection

MAX_MODEL_BYTES = 512 * 1024 * 1024
MODEL = "yours"
MAX_ROW = 1_000_000
TO_PASTE = """\
import logging
import chopmark
from chopmark.errors import ChopmarkError

try:
    with chopmark.load("{model}", device="/var/lib/chopmark") as model:
        # a row holds the elements of all inputs, one after the other, flat
        answer = model.run([[0.0] * {width}])
except ChopmarkError as error:  # refused, not enrolled, or not decidable: not loaded
    logging.error("%s: %s", error.code, error)
    answer = None  # go on without it; the fleet hears of a refusal at the agent's next turn
"""
_INSPECT = "`chopmark inspect FILE` lists all that was found"
OPEN_SIZES = (1, 16, 64, 224, 512, 16_000)
"""Tried in turn for sizes that a model leaves open: single values, images, sequences, a second of sound."""
LOADABLE = frozenset({"operator-denied", "domain-denied", "version"})
"""Findings that a policy decides about; with any other the file is not what it says, and no parser here sees it."""


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
    width: int


@click.command("try")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@answers
def try_(file: Path) -> Answer:
    """Sign your own .onnx FILE with throw-away keys, load it, change one byte, and see it refused.

    Nothing is sent anywhere, FILE is only read, and everything that is made is removed again. There is no gate here: what
    one would refuse is shown all the same, and the exit code is 1.

    \b
    Example:
        chopmark try model.onnx
    """
    with tempfile.TemporaryDirectory(prefix="chopmark-try-") as temporary:
        done = run_try(file, Path(temporary), say)
    found = done.inspection
    body = {
        "ok": found.passed,
        "gate": "skipped: there is none for a throw-away trust",
        "inspection": {"passed": found.passed, "findings": [f.message for f in found.findings]},
        "release": str(done.release.digest),
        "load_ms": round(done.load_ms, 1),
        "changed_byte": done.changed,
        "refused": {"code": done.refusal.code, "step": done.refusal.step, "message": done.refusal.message},
    }
    operators = counted(len(found.operators), "operator")
    inspected = (
        good(f"inspected  {operators}, all allowed; {found.bytes_covered:,} bytes understood")
        if found.passed
        else bad(f"inspected  {_refused(found)}: no real release of it; the gate is skipped here")
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
        *TO_PASTE.format(model=_model_name(file), width=done.width).splitlines(),
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
    _check_loadable(inspection)
    tell("making a throw-away trust …")
    site = Site(create_workspace(folder / "workspace", name="try", channel="production", port=1))
    session = _load_first(site, data, inspection)
    package = folder / "package"
    write_file(package / "model.onnx", data)
    width, self_test = _self_test(session)
    write_file(package / "self-test.json", self_test)
    manifest = scan(package)
    release = publish(site, package, manifest)
    tell("a device follows the channel …")
    device = folder / "device"
    import chopmark.apps.agent.main as agent

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
        inspection=inspection,
        release=release,
        manifest=manifest,
        load_ms=load_ms,
        changed=changed,
        refusal=refusal,
        width=width,
    )


def _refused(inspection: Inspection) -> str:
    return f"a gate refuses it: {inspection.findings[0].message if inspection.findings else inspection.format}"


def _load_first(site: Site, data: bytes, inspection: Inspection) -> Session:
    """Load the model outside of any device; where the inspection refused it already, that is the reason to tell."""
    try:
        return site.runtime.load(data)
    except VerificationError as error:
        if inspection.passed:
            raise
        message = f"{_refused(inspection)}; and the runtime does not load it: {error.message}"
        raise VerificationError(message, code="inspection-failed", hint=_INSPECT) from error


def _check_loadable(inspection: Inspection) -> None:
    serious = [finding for finding in inspection.findings if finding.code not in LOADABLE]
    if serious or inspection.format != "onnx":
        shown = serious[0] if serious else None
        raise VerificationError(
            f"{shown.message} ({shown.where})" if shown else f"not an ONNX model, but {inspection.format}",
            code="inspection-failed",
            hint=f"{_INSPECT}; no parser was given this file",
        )


def _self_test(session: Session) -> tuple[int, bytes]:
    """Return the width of a row that the model runs on, and self-test vectors of such rows."""
    from chopmark.artifacts import selftest

    failure: VerificationError | None = None
    for size in OPEN_SIZES:
        width = session.width(size)
        if width > MAX_ROW:
            break
        try:
            vectors = selftest.record(session, [[value] * width for value in (0, 1)], tolerance=10_000)
        except VerificationError as error:
            failure = error
        else:
            return width, selftest.encode_vectors(vectors)
    raise VerificationError(
        failure.message if failure else "a row of this model is too long to try",
        code="model-not-runnable",
        hint=f"it runs on rows of none of the sizes tried ({', '.join(map(str, OPEN_SIZES))}); fix its input sizes",
    )


def _model_name(file: Path) -> str:
    """Return a name that a release of *file* could have."""
    name = re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._") or MODEL
    return name[:63]


def publish(site: Site, package: Path, manifest: Manifest) -> Release:
    """Approve and publish *package* without Git, gate and network: what a device checks is all there."""
    from chopmark.artifacts import Digest, read_file
    from chopmark.channel import BUCKETS, Assignment, Release, RuntimeNeed, decode_release, release_statement
    from chopmark.channel.follow import MAX_TARGETS_BYTES
    from chopmark.channel.publish import Lifetimes, Publisher, Shipment
    from chopmark.statements import encode_envelope, sign

    runtime = site.runtime
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
    publisher = Publisher(
        store=site.published,
        root=site.root,
        channel=site.workspace.channel,
        signers=site.signers("operator"),
        prove=lambda leaf: _prove(site, leaf),
        lifetimes=Lifetimes(),
    )
    publisher.publish(
        assignments=(Assignment(model=MODEL, runtime=runtime.name, first=0, end=BUCKETS, release=release.digest),),
        shipments=(shipment,),
        targets=read_file(site.workspace.targets, max_bytes=MAX_TARGETS_BYTES),
        status=site.status_host().current(),
        now=site.clock.now(),
    )
    return release


def _prove(site: Site, leaf: bytes) -> bytes:
    """Log *leaf* and have it witnessed inside this process."""
    from chopmark.apps.cli.wiring import WITNESS
    from chopmark.ledger import WitnessPolicy
    from chopmark.ledger.feed import feed

    index = site.ledger.append([leaf])[0]
    feed(site.ledger, WitnessPolicy.parse(site.trust.witness_policy), {WITNESS: site.own_witness()})
    return site.ledger.prove(index)


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
