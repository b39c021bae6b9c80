# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of a model: CycloneDX 1.6 JSON with the model, its data and the libraries that made it.

Plain JSON on purpose: the object model of cyclonedx-python-lib silently drops model cards and data components. Its strict
validator is good, and is used (:func:`validate_sbom`, extra ``sbom``).

Every ``bom-ref`` is the digest of what it names. The same parts give the same bytes: the serial number is derived from the
content, and the time is passed in. What is backed by a signed statement says so in a property ``chopmark:evidence:<what>``;
all else is declared, and a reader can tell the two apart.
"""

from __future__ import annotations

import importlib.metadata
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chopmark.artifacts import Digest
from chopmark.canonical import encode
from chopmark.clock import format_time
from chopmark.errors import DecodeError, UndecidedError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One measurement: ``Metric(name="accuracy", value="0.9704", slice="held-back test set")``."""

    name: str
    value: str
    slice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPart:
    """The model, and what its card says."""

    name: str
    version: str
    digest: Digest
    description: str = ""
    task: str = ""
    architecture: str = ""
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    metrics: Sequence[Metric] = ()
    use_cases: Sequence[str] = ()
    limitations: Sequence[str] = ()
    evidence: Mapping[str, Digest] = field(default_factory=dict)
    """What -> digest of the statement that backs it: ``{"test-result": …}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPart:
    """One dataset."""

    name: str
    version: str
    digest: Digest
    description: str = ""
    classification: str = "internal"
    evidence: Mapping[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryPart:
    """One installed Python distribution; *digest* is that of its list of files and their hashes."""

    name: str
    version: str
    digest: Digest
    license: str = ""

    @property
    def purl(self) -> str:
        """The package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def library(name: str) -> LibraryPart:
    """Return an installed distribution by its name.

    Raises:
        UsageError: it is not installed.
    """
    try:
        found = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:
        raise UsageError(
            f"{name[:80]!r} is not installed here", hint="name the distribution as `pip list` does"
        ) from error
    record = found.read_text("RECORD") or found.read_text("METADATA") or f"{name} {found.version}"
    return LibraryPart(
        name=re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower(),
        version=found.version,
        digest=Digest.of(record.encode()),
        license=_license(found),
    )


def _license(found: importlib.metadata.Distribution) -> str:
    return str(found.metadata["License-Expression"]) if "License-Expression" in found.metadata else ""


def build_sbom(
    *,
    model: ModelPart,
    datasets: Sequence[DatasetPart],
    libraries: Sequence[LibraryPart],
    timestamp: datetime,
    tool_version: str,
) -> dict[str, object]:
    """Return the bill as JSON, ready for :func:`chopmark.canonical.encode`.

    Args:
        libraries: what took part in training, conversion and loading; the order does not matter.
        timestamp: when it was drawn up.
    """
    data = sorted(datasets, key=lambda part: str(part.digest))
    code = sorted({part.purl: part for part in libraries}.values(), key=lambda part: part.purl)
    refs = [*(str(part.digest) for part in data), *(str(part.digest) for part in code)]
    bill: dict[str, object] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": format_time(timestamp),
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "chopmark", "version": tool_version}]},
            "component": _model(model, data),
        },
        "components": [*map(_dataset, data), *map(_library, code)],
        "dependencies": [{"ref": str(model.digest), "dependsOn": refs}, *({"ref": ref} for ref in refs)],
    }
    bill["serialNumber"] = f"urn:uuid:{uuid.UUID(bytes=Digest.of(encode(bill)).value[:16], version=5)}"
    return bill


def validate_sbom(document: bytes) -> None:
    """Check a bill against the schema of CycloneDX 1.6, unknown members refused.

    Raises:
        DecodeError: it does not fit.
        UndecidedError: the extra ``sbom`` is not installed.
    """
    try:
        from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 - an extra
        from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415
    except ImportError as error:
        raise UndecidedError("the CycloneDX validator is not installed", hint="pip install 'chopmark[sbom]'") from error
    try:
        problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DecodeError("bill of materials: not JSON") from error
    if problem is not None:
        raise DecodeError(f"bill of materials: {str(problem)[:300]}")


def _model(model: ModelPart, datasets: Sequence[DatasetPart]) -> dict[str, object]:
    parameters: dict[str, object] = {"approach": {"type": "supervised"}}
    if model.task:
        parameters["task"] = model.task
    if model.architecture:
        parameters["modelArchitecture"] = model.architecture
    parameters["datasets"] = [{"ref": str(part.digest)} for part in datasets]
    parameters["inputs"] = [{"format": text} for text in model.inputs]
    parameters["outputs"] = [{"format": text} for text in model.outputs]
    card: dict[str, object] = {"bom-ref": f"{model.digest}#card", "modelParameters": parameters}
    if model.metrics:
        card["quantitativeAnalysis"] = {"performanceMetrics": [_metric(metric) for metric in model.metrics]}
    if model.use_cases or model.limitations:
        card["considerations"] = {
            "useCases": list(model.use_cases),
            "technicalLimitations": list(model.limitations),
        }
    component = _component("machine-learning-model", model.name, model.version, model.digest, model.description)
    return {**component, **_evidence(model.evidence), "modelCard": card}


def _metric(metric: Metric) -> dict[str, str]:
    plain = {"type": metric.name, "value": metric.value}
    return {**plain, "slice": metric.slice} if metric.slice else plain


def _dataset(part: DatasetPart) -> dict[str, object]:
    component = _component("data", part.name, part.version, part.digest, part.description)
    contents = {"type": "dataset", "name": part.name, "classification": part.classification}
    return {**component, **_evidence(part.evidence), "data": [contents]}


def _library(part: LibraryPart) -> dict[str, object]:
    component: dict[str, object] = {
        "type": "library",
        "bom-ref": str(part.digest),
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
    }
    # The digest is of the installation record and no archive's, so it is the reference and not a hash of the component.
    return {**component, "licenses": [{"expression": part.license}]} if part.license else component


def _component(kind: str, name: str, version: str, digest: Digest, description: str) -> dict[str, object]:
    component: dict[str, object] = {
        "type": kind,
        "bom-ref": str(digest),
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": digest.hex}],
    }
    return {**component, "description": description} if description else component


def _evidence(statements: Mapping[str, Digest]) -> dict[str, object]:
    if not statements:
        return {}
    return {
        "properties": [
            {"name": f"chopmark:evidence:{what}", "value": str(digest)} for what, digest in sorted(statements.items())
        ]
    }
