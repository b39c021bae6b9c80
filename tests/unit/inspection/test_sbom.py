# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from chopmark import canonical
from chopmark.artifacts import Digest
from chopmark.errors import DecodeError, UsageError
from chopmark.inspection import DatasetPart, Metric, ModelPart, build_sbom, library, validate_sbom

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MODEL = ModelPart(
    name="digits",
    version="2",
    digest=Digest.of(b"model"),
    description="Reads one handwritten digit.",
    task="image classification",
    architecture="multilayer perceptron",
    inputs=("float32[n,64]",),
    outputs=("float32[n,10]",),
    metrics=(Metric(name="accuracy", value="0.9722", slice="540 held-back images"),),
    use_cases=("digits of a cheque",),
    limitations=("not as the only reader of an amount",),
    evidence={"test-result": Digest.of(b"statement")},
)
DATA = [DatasetPart(name=f"branch-{n}", version="1", digest=Digest.of(n.encode())) for n in "abc"]


def bill(**changes: object) -> dict[str, object]:
    parts: dict[str, object] = {
        "model": MODEL,
        "datasets": DATA,
        "libraries": [library("numpy"), library("onnxruntime")],
    }
    return build_sbom(**{**parts, "timestamp": NOON, "tool_version": "0.1.0", **changes})


def test_the_strict_validator_accepts_it() -> None:
    validate_sbom(canonical.encode(bill()))


def test_model_data_and_libraries_are_named_by_digest() -> None:
    sbom = bill()
    model = sbom["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["bom-ref"] == str(MODEL.digest)
    assert model["modelCard"]["modelParameters"]["datasets"] == [
        {"ref": r} for r in sorted(str(d.digest) for d in DATA)
    ]
    assert model["properties"] == [{"name": "chopmark:evidence:test-result", "value": str(Digest.of(b"statement"))}]
    kinds = [component["type"] for component in sbom["components"]]
    assert kinds == ["data", "data", "data", "library", "library"]
    assert {one["purl"].partition("@")[0] for one in sbom["components"][3:]} == {
        "pkg:pypi/numpy",
        "pkg:pypi/onnxruntime",
    }
    refs = [component["bom-ref"] for component in (model, *sbom["components"])]
    assert all(Digest.parse(ref) for ref in refs)
    assert [one["ref"] for one in sbom["dependencies"]] == refs


def test_the_same_parts_give_the_same_bytes_in_any_order() -> None:
    turned = bill(datasets=DATA[::-1], libraries=[library("onnxruntime"), library("numpy"), library("NumPy")])
    assert canonical.encode(turned) == canonical.encode(bill())


def test_other_parts_give_another_serial_number() -> None:
    assert bill(datasets=DATA[:1])["serialNumber"] != bill()["serialNumber"]
    assert bill(timestamp=NOON.replace(hour=13))["serialNumber"] != bill()["serialNumber"]


def test_a_bare_model_is_a_valid_bill() -> None:
    bare = ModelPart(name="m", version="1", digest=Digest.of(b"m"))
    validate_sbom(canonical.encode(bill(model=bare, datasets=[], libraries=[])))


def test_an_unknown_member_is_refused() -> None:
    with pytest.raises(DecodeError):
        validate_sbom(json.dumps({**bill(), "approvedBy": "somebody"}).encode())


@pytest.mark.parametrize("junk", [b"", b"{", b"\xff", b"[]", b"[" * 100_000, b"null"])
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(DecodeError):
        validate_sbom(junk)


@pytest.mark.parametrize("name", ["no-such-distribution", ""])
def test_a_library_must_be_installed(name: str) -> None:
    with pytest.raises(UsageError):
        library(name)
