# SPDX-License-Identifier: Apache-2.0
"""From data to package, each step recorded: call one function of a noun, sign what it returns, log it.

A step takes only what the ledger knows: a dataset that was registered, a file that a step before left. So the chain from
package to data has no gap that a file on disk could fill.
"""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chopmark.apps.cli.wiring import Site
from chopmark.artifacts import Digest, Manifest, hash_file, read_file, scan, write_file
from chopmark.builds import (
    PACKAGE_FILES,
    Builder,
    BuildRequest,
    Built,
    Examples,
    Input,
    Package,
    Requirements,
    Workshop,
    convert,
    evaluate_package,
    fill_card,
    make_self_test,
    package,
    quantise,
    train,
)
from chopmark.canonical import encode
from chopmark.errors import UsageError, VerificationError
from chopmark.statements import PredicateType, Statement, Subject, VerifiedStatement, verified

if TYPE_CHECKING:
    from chopmark.builds import Assessed
    from chopmark.data import Dataset
    from chopmark.inspection import Inspection

STEPS: Final[Mapping[str, Callable[..., Built]]] = {"train": train, "convert": convert, "quantise": quantise}
DATA: Final = "data"
REQUIRED: Final = Requirements(accuracy_ppm=950_000, class_accuracy_ppm=850_000)
"""What a model must reach to pass the test; the policy has its own floor over the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command to run as committed code.

    Attributes:
        kind: ``train``, ``convert`` or ``quantise``.
        source: a folder in the code's repository.
        data: the registered dataset, or None for a step that needs none.
        former: the file that the step before left; None for training.
        out: where outputs and log go.
    """

    kind: str
    model: str
    command: tuple[str, ...]
    source: Path
    out: Path
    outputs: tuple[str, ...]
    data: Path | None = None
    former: Path | None = None
    params_file: str = ""
    parameters: Mapping[str, object]


def register_data(site: Site, folder: Path, contract: Path) -> tuple[Dataset, int]:
    """Check *folder* against its contract, and record the dataset; return it and its index in the ledger."""
    from chopmark.data import dataset_statement, register

    dataset = register(folder, contract)
    index, _ = site.record(dataset_statement(dataset), "data-owner")
    return dataset, index


def run_step(site: Site, step: Step) -> tuple[Built, int]:
    """Run and record one step; return what it left and its index in the ledger.

    Raises:
        VerificationError: ``input-unrecorded``: the ledger does not know an input.
    """
    inputs = []
    if step.data is not None:
        inputs.append(_dataset_input(site, step.data))
    if step.former is not None:
        entry = hash_file(step.former)
        _recorded(site, entry.sha256, PredicateType.PROVENANCE, "builder", str(step.former))
        name = step.former.name
        inputs.append(Input(name=name, path=step.former, digest=entry.sha256, place=name))
    request = BuildRequest(
        model=step.model,
        command=step.command,
        outputs=step.outputs,
        inputs=tuple(inputs),
        former=step.former.name if step.former else "",
        params_file=step.params_file,
        parameters=step.parameters,
    )
    built = STEPS[step.kind](
        request, workshop=workshop(site), source=site.source(step.source), runner=site.runner(), out=step.out
    )
    index, _ = site.record(built.statement, "builder")
    return built, index


def make_package(
    site: Site,
    *,
    model: str,
    model_file: Path,
    files: Path,
    data: Path,
    into: Path,
    values: Mapping[str, str],
    replace: bool = False,
) -> tuple[Package, int]:
    """Assemble and record the package of a model that a recorded step left, or that was adopted.

    Args:
        files: a folder with labels.json, preprocessing.json and the model card's template.
        data: the registered dataset; self-test rows are taken from what was held back.
        values: for the places in the model card.
        replace: a package that stands in *into*, unless it was released.
    """
    _check_free(site, into, replace=replace)
    entry = hash_file(model_file)
    _known_model(site, entry.sha256, model_file)
    session = site.runtime.load(read_file(model_file, max_bytes=2**31))
    with tempfile.TemporaryDirectory(prefix="chopmark-package-") as temporary:
        made = Path(temporary)
        examples = held_back(site, data)
        write_file(made / "self-test.json", make_self_test(session, examples.inputs))
        card = read_file(files / "MODEL_CARD.md", max_bytes=1_000_000).decode("utf-8", "replace")
        write_file(made / "MODEL_CARD.md", fill_card(card, values).encode())
        given = {name: files / name for name in PACKAGE_FILES}
        given |= {"model.onnx": model_file, "self-test.json": made / "self-test.json"}
        given |= {"MODEL_CARD.md": made / "MODEL_CARD.md"}
        signer = site.signers("packager")[0]
        result = package(given, model=model, former=entry.sha256, workshop=workshop(site), into=into, signer=signer)
    write_file(into / "packager.pub", signer.public.pem.encode())
    keep(site, result.folder, result.manifest)
    index, _ = site.record(result.statement, "builder")
    return result, index


def _known_model(site: Site, digest: Digest, path: Path) -> None:
    from chopmark.release.adopt import ADOPTER

    if ADOPTER in site.trust.roles:
        for adoption in _statements(site, PredicateType.ADOPTION, ADOPTER):
            if digest == adoption.statement.subject.digest:
                return
    _recorded(site, digest, PredicateType.PROVENANCE, "builder", str(path))


def _check_free(site: Site, into: Path, *, replace: bool) -> None:
    if not (into / "package").exists():
        return
    released = {release.manifest for release in site.releases.values()}
    if scan(into / "package").digest in released:
        raise UsageError(f"{into}: holds a package that was released", hint="choose another --version")
    if not replace:
        raise UsageError(f"{into}: holds a package already", hint="choose another --version, or add --replace")


def keep(site: Site, folder: Path, manifest: Manifest) -> None:
    """Put a package into the store, where the operator finds it by its digest."""
    site.blobs.put(manifest.encode())
    for entry in manifest.files:
        if site.blobs.put(read_file(folder / entry.name, max_bytes=entry.length)) != entry.sha256:
            raise VerificationError(f"{folder / entry.name}: changed while it was read", code="input-altered")


def test_package(site: Site, *, model: str, folder: Path, data: Path) -> tuple[Assessed, int]:
    """Measure a package on what was held back, with the real runtime, and record the result."""
    digest = scan(folder).digest
    _recorded(site, digest, PredicateType.PROVENANCE, "builder", str(folder))
    assessed = evaluate_package(
        folder,
        model=model,
        package=digest,
        runtime=site.runtime,
        examples=held_back(site, data),
        requirements=REQUIRED,
        at=site.clock.now(),
    )
    index, _ = site.record(assessed.statement, "tester")
    return assessed, index


def inspect_package(site: Site, *, model: str, folder: Path) -> tuple[Inspection, int]:
    """Inspect a package's model file, byte by byte, and record what was found."""
    from chopmark.inspection import inspect_file, inspection_predicate

    manifest = scan(folder)
    inspection = inspect_file(folder / "model.onnx")
    entry = manifest.file("model.onnx")
    if entry is None or entry.sha256 != inspection.sha256:
        raise VerificationError(f"{folder}: changed while it was read", code="input-altered")
    statement = Statement(
        subjects=(Subject(f"model/{model}", manifest.digest), Subject(f"model/{model}/model.onnx", entry.sha256)),
        predicate_type=PredicateType.INSPECTION,
        predicate=inspection_predicate(inspection, tool_version=version("chopmark"), inspected_at=site.clock.now()),
    )
    index, _ = site.record(statement, "inspector")
    return inspection, index


def write_sbom(
    site: Site, *, model: str, folder: Path, data: Path, label: str, libraries: Sequence[str], out: Path
) -> tuple[dict[str, object], int]:
    """Write and record the CycloneDX 1.6 bill of a package: model, dataset, libraries."""
    from chopmark.inspection import DatasetPart, Metric, ModelPart, build_sbom, library, validate_sbom

    manifest = scan(folder)
    tests = [
        v
        for v in _statements(site, PredicateType.TEST_RESULT, "tester")
        if v.statement.subject.digest == manifest.digest
    ]
    measured = tests[-1] if tests else None
    dataset = _dataset(site, data)
    bill = build_sbom(
        model=ModelPart(
            name=model,
            version=label,
            digest=manifest.digest,
            task="classification",
            metrics=[Metric(name="accuracy", value=_accuracy(measured), slice="held back")] if measured else [],
            evidence={"test-result": measured.digest} if measured else {},
        ),
        datasets=[
            DatasetPart(
                name=dataset.statement.subject.name,
                version="1",
                digest=dataset.statement.subject.digest,
                evidence={"dataset": dataset.digest},
            )
        ],
        libraries=[library(name) for name in libraries],
        timestamp=site.clock.now(),
        tool_version=version("chopmark"),
    )
    encoded = encode(bill)
    validate_sbom(encoded)
    write_file(out, encoded)
    statement = Statement(
        subjects=(Subject(f"model/{model}", manifest.digest),), predicate_type=PredicateType.SBOM, predicate=bill
    )
    index, _ = site.record(statement, "inspector")
    return bill, index


def held_back(site: Site, data: Path) -> Examples:
    """Return the rows of the registered dataset at *data* that nothing learned from.

    Raises:
        UsageError: the dataset holds nothing back.
    """
    from chopmark.data import decode_contract, decode_dataset, read_table

    sources = decode_dataset(_dataset(site, data).statement.predicate)
    if not sources.get(""):
        raise UsageError(
            f"{data}: holds nothing back, so there is nothing to test on", hint="held_back = … in the contract"
        )
    contract = decode_contract(read_file(data.parent / "schema.toml", max_bytes=1_000_000))
    file = sources[""][0]
    table = read_table(data / file.name, contract, digest=file.sha256)
    return Examples(digest=table.digest, inputs=table.inputs, labels=table.labels)


def workshop(site: Site) -> Workshop:
    """Return what every step on this machine shares."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    builder = Builder(
        id=f"https://chopmark.dev/builder/{site.workspace.name}",
        version={"chopmark": version("chopmark"), "python": ".".join(map(str, sys.version_info[:3]))},
    )
    return Workshop(builder=builder, clock=site.clock, new_id=lambda: str(uuid.uuid4()), path=path)


def _dataset_input(site: Site, data: Path) -> Input:
    from chopmark.data import decode_dataset

    dataset = _dataset(site, data)
    sources = decode_dataset(dataset.statement.predicate)
    learned = {file.name for name, files in sources.items() if name for file in files}
    withheld = tuple(entry.name for entry in scan(data).files if entry.name not in learned)
    subject = dataset.statement.subject
    return Input(name=subject.name, path=data, digest=subject.digest, place=DATA, withheld=withheld)


def _dataset(site: Site, data: Path) -> VerifiedStatement:
    return _recorded(site, scan(data).digest, PredicateType.DATASET, "data-owner", str(data))


def _recorded(site: Site, digest: Digest, kind: PredicateType, role: str, what: str) -> VerifiedStatement:
    """Return the newest statement of *kind* about *digest*."""
    found = None
    for statement in _statements(site, kind, role):
        if digest in {subject.digest for subject in statement.statement.subjects}:
            found = statement
    if found is None:
        raise VerificationError(
            f"{what}: the ledger has no {kind.short} of {digest.short}… by {role}",
            code="input-unrecorded",
            hint="register the data first, and let every file come from a recorded step, or adopt the model: chopmark adopt",
            evidence={"digest": str(digest)},
        )
    return found


def _statements(site: Site, kind: PredicateType, role: str) -> list[VerifiedStatement]:
    return [statement for _, statement in verified(site.statements(), site.trust, kind=kind, role=role)]


def _accuracy(measured: VerifiedStatement) -> str:
    metrics = measured.statement.predicate.get("metrics")
    ppm = metrics.get("accuracy_ppm") if isinstance(metrics, dict) else None
    return f"{ppm / 1_000_000:.4f}" if isinstance(ppm, int) else ""
