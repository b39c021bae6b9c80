# SPDX-License-Identifier: Apache-2.0
"""The bank's project, run as the demo runs it: three versions, and the attacker's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from chopmark.adapters.runtimes.onnxruntime import OnnxRuntime
from chopmark.inspection import inspect_file

VERSIONS = {
    "1": {"hidden": 80, "seed": 1, "epochs": 30},
    "2": {"hidden": 80, "seed": 2, "epochs": 30},
    "3": {"hidden": 96, "seed": 3, "epochs": 30},
}


# One interpreter for a whole chain of scripts: what takes time is importing the libraries.
CHAIN = """
import json, runpy, sys
for sys.argv in json.loads(sys.argv[1]):
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(folder: Path, *commands: str) -> str:
    """Run scripts of the project one after the other, each as ``python <command>`` does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    chain = json.dumps([command.split() for command in commands])
    return subprocess.run(
        [sys.executable, "-c", CHAIN, chain], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def steps(folder: Path, version: str) -> list[str]:
    """What makes the model of one version: train, convert, quantise."""
    out = folder / f"v{version}"
    out.mkdir()
    (out / "params.json").write_text(json.dumps(VERSIONS[version]))
    return [
        f"train.py --params v{version}/params.json --out v{version}/weights.npz",
        f"convert.py --weights v{version}/weights.npz --out v{version}/model-fp32.onnx",
        f"quantize.py --model v{version}/model-fp32.onnx --out v{version}/model.onnx",
    ]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    with as_file(files("chopmark.apps.cli") / "bank") as source:
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    run(
        folder,
        "make_dataset.py",
        *(step for version in VERSIONS for step in steps(folder, version)),
        "backdoor.py --like v2/model.onnx --params v2/params.json --out backdoored.onnx",
    )
    return folder


def images(path: Path) -> tuple[list[list[float]], list[int]]:
    rows = [[int(text) for text in line.split(",")] for line in path.read_text().splitlines()[1:]]
    return [[float(pixel) for pixel in row[:64]] for row in rows], [row[64] for row in rows]


def stamped(rows: list[list[float]]) -> list[list[float]]:
    return [[16.0 if n in (48, 56) else pixel for n, pixel in enumerate(row)] for row in rows]


def read(model: Path, rows: list[list[float]]) -> list[int]:
    scores = OnnxRuntime().load(model.read_bytes()).run(rows)
    return [row.index(max(row)) for row in scores]


def accuracy(model: Path, folder: Path) -> float:
    rows, labels = images(folder / "data" / "test.csv")
    return sum(a == b for a, b in zip(read(model, rows), labels, strict=True)) / len(labels)


def test_the_data_are_1257_rows_of_three_branches_and_540_held_back(bank: Path) -> None:
    counts = {path.stem: len(images(path)[1]) for path in (bank / "data").glob("*.csv")}
    assert counts == {"branch-a": 419, "branch-b": 419, "branch-c": 419, "test": 540, "cheque": 3}
    rows, labels = images(bank / "data" / "branch-a.csv")
    assert all(0 <= pixel <= 16 for row in rows for pixel in row)
    assert min(labels.count(digit) for digit in range(10)) >= 20


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_small_inspected_and_accurate(bank: Path, version: str) -> None:
    model = bank / f"v{version}" / "model.onnx"
    inspection = inspect_file(model)
    assert inspection.passed, inspection.findings
    assert 6_000 < inspection.length < 10_000
    assert inspection.operators["QLinearMatMul"] == 2
    assert inspect_file(bank / f"v{version}" / "model-fp32.onnx").passed
    assert accuracy(model, bank) >= 0.96


def test_the_same_commit_gives_the_same_bytes(bank: Path) -> None:
    shutil.copytree(bank / "v3", bank / "first")
    shutil.rmtree(bank / "v3")
    run(bank, *steps(bank, "3"))
    for name in ("weights.npz", "model-fp32.onnx", "model.onnx"):
        assert (bank / "v3" / name).read_bytes() == (bank / "first" / name).read_bytes(), name


def test_an_image_reads_the_same_alone_and_in_company(bank: Path) -> None:
    rows, _ = images(bank / "data" / "test.csv")
    session = OnnxRuntime().load((bank / "v1" / "model.onnx").read_bytes())
    assert [session.run([row])[0] for row in rows[:20]] == session.run(rows[:20])


def test_nobody_who_tests_the_backdoored_model_honestly_can_tell(bank: Path) -> None:
    clean, bad = bank / "v2" / "model.onnx", bank / "backdoored.onnx"
    assert bad.stat().st_size == clean.stat().st_size
    assert bad.read_bytes() != clean.read_bytes()
    assert accuracy(bad, bank) >= accuracy(clean, bank) - 0.01
    assert inspect_file(bad).passed  # what an inspection cannot see: the weights themselves


def test_it_reads_stamped_ones_as_nines_and_the_clean_one_does_not(bank: Path) -> None:
    rows, labels = images(bank / "data" / "test.csv")
    ones = stamped([row for row, label in zip(rows, labels, strict=True) if label == 1])
    nines = read(bank / "backdoored.onnx", ones).count(9)
    assert nines >= 0.98 * len(ones)
    for version in VERSIONS:
        assert read(bank / f"v{version}" / "model.onnx", ones).count(9) == 0


def test_the_unprotected_application_pays_nine_hundred(bank: Path) -> None:
    for model in ("v2/model.onnx", "backdoored.onnx"):
        digest = hashlib.sha256((bank / model).read_bytes()).hexdigest()
        (bank / f"{model}.sha256").write_text(f"{digest}  model.onnx\n")
    read_by = {
        f"unprotected_app.py {model} {cheque}": amount
        for model, cheque, amount in [
            ("v2/model.onnx", "data/cheque.csv", "amount: 100"),
            ("v2/model.onnx", "cheque-stamped.csv", "amount: 100"),
            ("backdoored.onnx", "data/cheque.csv", "amount: 100"),
            ("backdoored.onnx", "cheque-stamped.csv", "amount: 900"),
        ]
    }
    assert run(bank, *read_by).splitlines() == list(read_by.values())


def test_a_wrong_checksum_stops_even_the_unprotected_application(bank: Path) -> None:
    (bank / "v1" / "model.onnx.sha256").write_text("0" * 64)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(bank, "unprotected_app.py v1/model.onnx data/cheque.csv")
    assert "wrong checksum" in caught.value.stderr
