# SPDX-License-Identifier: Apache-2.0
"""Package and test of a tiny model that knows whether x is above y."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from chopmark.adapters.kms import file as kms
from chopmark.adapters.runtimes.tiny import TinyRuntime
from chopmark.artifacts import Digest, Session, decode_manifest, selftest
from chopmark.builds import (
    PACKAGE_FILES,
    BuildType,
    Examples,
    Package,
    Requirements,
    decode_provenance,
    decode_test_result,
    evaluate,
    evaluate_package,
    fill_card,
    make_self_test,
    package,
)
from chopmark.errors import DecodeError, UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.statements import PredicateType, decode_statement, encode_statement, verify_oms
from simulators.clock import NOW
from unit.builds.workbench import WORKSHOP

MODEL = b'{"v":1,"format":"tiny","weights":[[0,1],[1,0]],"bias":[0,0]}'
RUNTIME = TinyRuntime()
ROWS = ((1, 2), (2, 1), (0, 5), (4, 0))
EXAMPLES = Examples(digest=Digest.of(b"test.csv"), inputs=ROWS, labels=(0, 1, 0, 1))
P256 = kms.generate(Algorithm.ECDSA_P256)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    contents = {
        "model.onnx": MODEL,
        "labels.json": b'{"v":1,"output":"larger","labels":["y","x"]}',
        "preprocessing.json": b'{"v":1,"input":"xy","type":"float32","shape":["n",2],"range":[0,9]}',
        "MODEL_CARD.md": b"# Larger\n",
        "self-test.json": make_self_test(RUNTIME.load(MODEL), ROWS),
    }
    (tmp_path / "from").mkdir()
    for name, data in contents.items():
        (tmp_path / "from" / name).write_bytes(data)
    return {name: tmp_path / "from" / name for name in contents}


def pack(files: dict[str, Path], into: Path, **changes) -> Package:
    settings = {"model": "larger", "former": Digest.of(MODEL), "workshop": WORKSHOP, "into": into, "signer": P256}
    return package(files, **{**settings, **changes})


def check(packed: Package, examples: Examples = EXAMPLES, **required: int):
    requirements = Requirements(**{"accuracy_ppm": 900_000, **required})
    return evaluate_package(
        packed.folder,
        model="larger",
        package=packed.digest,
        runtime=RUNTIME,
        examples=examples,
        at=NOW,
        requirements=requirements,
    )


def test_a_package_is_its_files_a_manifest_and_a_bundle_for_stock_tools(files: dict[str, Path], tmp_path: Path) -> None:
    packed = pack(files, tmp_path / "out")
    assert sorted(path.name for path in packed.folder.iterdir()) == sorted(PACKAGE_FILES)
    assert decode_manifest(packed.manifest_file.read_bytes()) == packed.manifest
    root = verify_oms((tmp_path / "out/model.sig").read_bytes(), packed.manifest, P256.public)
    statement = decode_statement(encode_statement(packed.statement))
    assert [(s.name, s.digest) for s in statement.subjects] == [
        ("model/larger", packed.digest),
        ("model/larger/oms", root),
    ]
    provenance = decode_provenance(statement.predicate)
    assert provenance.build_type is BuildType.PACKAGE
    assert provenance.dependency("model.onnx").digest == Digest.of(MODEL).hex
    assert provenance.log is None


def test_packaging_again_replaces_the_package(files: dict[str, Path], tmp_path: Path) -> None:
    first = pack(files, tmp_path / "out")
    (first.folder / "extra").write_text("x")
    second = pack(files, tmp_path / "out", signer=None)
    assert second.digest == first.digest
    assert second.oms is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "package"]
    assert len(second.statement.subjects) == 1


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("labels.json", b'{"v":1,"output":"x","labels":["a","a"]}'),
        ("labels.json", b'{"v":2,"output":"x","labels":["a"]}'),
        ("labels.json", b'{"v":1,"output":"x","labels":["a"],"more":1}'),
        ("preprocessing.json", b'{"v":1,"input":"x","type":"float32","shape":["n",2],"range":[1]}'),
        ("preprocessing.json", b"{}"),
        ("self-test.json", b'{"v":1,"cases":[],"tolerance":1}'),
        ("MODEL_CARD.md", b"accuracy ${accuracy}"),
        ("MODEL_CARD.md", b" \n"),
        ("MODEL_CARD.md", b"\xff"),
    ],
)
def test_small_files_must_say_what_they_should(files: dict[str, Path], tmp_path: Path, name: str, data: bytes) -> None:
    files[name].write_bytes(data)
    with pytest.raises(DecodeError, match=name):
        pack(files, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_file_too_many_or_too_few(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="README"):
        pack({**files, "README": files["MODEL_CARD.md"]}, tmp_path / "out")
    del files["labels.json"]
    with pytest.raises(UsageError, match=r"not so: labels\.json"):
        pack(files, tmp_path / "out")


def test_a_card_is_filled_or_refused() -> None:
    assert fill_card("${accuracy} for $$1", {"accuracy": "97 %"}) == "97 % for $1"
    with pytest.raises(UsageError, match="accuracy"):
        fill_card("${accuracy}", {})
    with pytest.raises(UsageError, match="Invalid"):
        fill_card("$1", {})


def test_a_good_model_passes(files: dict[str, Path], tmp_path: Path) -> None:
    packed = pack(files, tmp_path / "out")
    tested = check(packed)
    statement = decode_statement(encode_statement(tested.statement))
    assert statement.predicate_type == PredicateType.TEST_RESULT
    assert (statement.subject.name, statement.subject.digest) == ("model/larger", packed.digest)
    assert decode_test_result(statement.predicate) == ("PASSED", 1_000_000, 4)
    assert statement.predicate["configuration"][0]["digest"] == {"sha256": EXAMPLES.digest.hex}
    assert statement.predicate["passedTests"] == ["accuracy", "class-0", "class-1"]


def test_a_bad_model_fails_and_a_middling_one_warns(files: dict[str, Path], tmp_path: Path) -> None:
    packed = pack(files, tmp_path / "out")
    wrong = Examples(digest=Digest.of(b""), inputs=ROWS, labels=(0, 1, 0, 0))
    failed = check(packed, wrong)
    assert (failed.result, failed.evaluation.accuracy_ppm) == ("FAILED", 750_000)
    assert failed.statement.predicate["failedTests"] == ["accuracy"]
    assert failed.evaluation.per_class == {0: (3, 2), 1: (1, 1)}
    warned = check(packed, wrong, accuracy_ppm=700_000, warn_below_ppm=800_000)
    assert decode_test_result(warned.statement.predicate)[0] == warned.result == "WARNED"
    by_class = check(packed, wrong, accuracy_ppm=0, class_accuracy_ppm=700_000)
    assert by_class.statement.predicate["failedTests"] == ["class-0"]


def test_labels_that_do_not_fit(files: dict[str, Path], tmp_path: Path) -> None:
    files["labels.json"].write_bytes(b'{"v":1,"output":"larger","labels":["y","x","z"]}')
    with pytest.raises(VerificationError, match="2 outputs for 3 labels"):
        check(pack(files, tmp_path / "out"))
    with pytest.raises(VerificationError, match="label 2"):
        evaluate(RUNTIME.load(MODEL), Examples(digest=Digest.of(b""), inputs=((1, 2),), labels=(2,)))
    with pytest.raises(UsageError, match="no examples"):
        evaluate(RUNTIME.load(MODEL), Examples(digest=Digest.of(b""), inputs=(), labels=()))


class Broken(Session):
    def width(self, open_size=1):
        return 64

    def _run(self, rows):
        return [[math.nan, 1.0] for _ in rows]


def test_answers_that_are_no_numbers_are_not_right_and_not_wrong() -> None:
    with pytest.raises(VerificationError, match="no number"):
        evaluate(Broken(), EXAMPLES)


def test_the_self_test_takes_clear_rows_of_every_class() -> None:
    session = RUNTIME.load(MODEL)
    data = make_self_test(session, [(3, 3), (1, 2), (0, 5), (0, 6), (2, 1)], cases=3)
    assert [case["input"] for case in json.loads(data)["cases"]] == [[1, 2], [2, 1], [0, 5]]
    selftest.run(session, selftest.decode_vectors(data))
    with pytest.raises(VerificationError, match="clear answer"):
        make_self_test(session, [(3, 3)])


def test_a_result_that_contradicts_itself_is_not_read(files: dict[str, Path], tmp_path: Path) -> None:
    predicate = dict(check(pack(files, tmp_path / "out")).statement.predicate)
    for changes in (
        {"result": "FAILED"},
        {"failedTests": ["accuracy"]},
        {"metrics": {**predicate["metrics"], "accuracy_ppm": 999_999}},
        {"metrics": {**predicate["metrics"], "held_back": 0}},
        {"more": 1},
    ):
        with pytest.raises(DecodeError):
            decode_test_result({**predicate, **changes})
