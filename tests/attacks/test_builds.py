# SPDX-License-Identifier: Apache-2.0
"""Threats to the steps before the release: each ends in a refusal, or has no effect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chopmark.adapters.runtimes.tiny import TinyRuntime
from chopmark.artifacts import Digest
from chopmark.builds import (
    Examples,
    Input,
    Requirements,
    convert,
    evaluate_package,
    make_self_test,
    package,
)
from chopmark.errors import UsageError, VerificationError
from simulators.clock import NOW
from unit.builds.workbench import RUNNER, TRAIN, WORKSHOP, Bench

MODEL = b'{"v":1,"format":"tiny","weights":[[0,1],[1,0]],"bias":[0,0]}'


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("name", ["train.py", "helper.py", "deep/er/new.txt"])
def test_code_that_was_not_committed_does_not_run(bench: Bench, name: str) -> None:
    bench.write(name, "import os")
    with pytest.raises(UsageError, match=name) as caught:
        bench.train()
    assert caught.value.code == "tree-dirty"
    assert caught.value.hint.startswith("commit first")


def test_a_staged_or_deleted_file_is_a_change_too(bench: Bench) -> None:
    bench.write("staged.py", "x")
    bench.git("add", "staged.py")
    with pytest.raises(UsageError, match="staged"):
        bench.train()
    bench.git("rm", "--quiet", "--force", "staged.py")
    (bench.repo / "train.py").unlink()
    with pytest.raises(UsageError, match="train"):
        bench.train()


def test_ignored_and_hidden_changes_do_not_leak_into_the_run(bench: Bench) -> None:
    """What Git is told to overlook stays outside: the run sees the commit, not the folder."""
    bench.write(".gitignore", "sitecustomize.py\n")
    bench.commit()
    honest = bench.train().digest
    bench.write("sitecustomize.py", "raise SystemExit('leaked')")
    bench.git("update-index", "--assume-unchanged", "train.py")
    bench.write("train.py", "raise SystemExit('leaked')")
    assert not bench.source.changes()
    assert bench.train().digest == honest


def test_hooks_filters_and_replacements_of_the_repository_have_no_say(bench: Bench, tmp_path: Path) -> None:
    bench.write(".gitattributes", "train.py filter=evil export-ignore\nparams.json export-subst ident\n")
    bench.commit()
    honest = bench.train().digest
    bench.git("config", "filter.evil.smudge", f"touch {tmp_path}/smudged; cat")
    hook = bench.repo / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    other = bench.write("evil.py", "raise SystemExit('replaced')")
    replaced = bench.git("hash-object", "-w", str(other))
    other.unlink()
    bench.git("replace", bench.git("rev-parse", "HEAD:train.py"), replaced)
    assert bench.train().digest == honest
    assert not (tmp_path / "smudged").exists()
    assert not (tmp_path / "hooked").exists()


def test_variables_that_point_git_elsewhere_are_not_followed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other")
    other.write("more.py", "x")
    other.commit()
    monkeypatch.setenv("GIT_DIR", str(other.repo / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.repo))
    assert bench.train().provenance.dependency("code").digest == bench.git("rev-parse", "HEAD")


def test_data_altered_after_registration(bench: Bench) -> None:
    request = bench.request()
    (bench.data / "a.csv").write_text("x\n1\n3\n")
    with pytest.raises(VerificationError) as caught:
        bench.train(request)
    assert caught.value.code == "input-altered"
    assert caught.value.evidence["expected"] == str(request.inputs[0].digest)
    assert not bench.out.exists()


def test_a_file_slipped_into_the_data(bench: Bench) -> None:
    request = bench.request()
    (bench.data / "b.csv").write_text("x\n9\n")
    with pytest.raises(VerificationError) as caught:
        bench.train(request)
    assert caught.value.code == "input-altered"


def test_data_committed_beside_the_code_is_not_what_is_learned_from(bench: Bench) -> None:
    honest = bench.train().digest
    bench.write("data/poison.csv", "x\n1000\n")
    bench.commit()
    assert bench.train().digest == honest


@pytest.mark.parametrize(
    "change",
    [
        'Path("data/a.csv").write_text("x\\n7\\n")',
        'Path("data/new.csv").write_text("x\\n7\\n")',
        'Path("data/a.csv").unlink()',
        'import shutil; shutil.rmtree("data"); Path("data").symlink_to("/etc")',
    ],
)
def test_a_command_that_changes_its_inputs(bench: Bench, change: str) -> None:
    with pytest.raises(VerificationError) as caught:
        bench.train_with(TRAIN + change + "\n")
    assert caught.value.code == "input-altered"
    assert not bench.out.exists()


@pytest.mark.parametrize(
    "change",
    [
        'Path("out/weights.txt").unlink(); Path("out/weights.txt").symlink_to("/etc/hostname")',
        'import shutil; shutil.rmtree("out"); Path("out").symlink_to("/etc")',
        'Path("out/weights.txt").unlink(); os.link("train.py", "out/weights.txt")',
    ],
)
def test_outputs_that_lead_out_of_the_run(bench: Bench, change: str) -> None:
    with pytest.raises((UsageError, VerificationError)):
        bench.train_with(TRAIN + change + "\n")
    assert not bench.out.exists() or not list(bench.out.iterdir())


def test_an_output_that_was_committed_is_not_passed_off_as_trained(bench: Bench) -> None:
    bench.write("out/weights.txt", "backdoored")
    bench.commit()
    with pytest.raises(UsageError, match="before the command runs"):
        bench.train(bench.request("true"))


def test_secrets_of_the_outer_environment_are_not_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/evil")
    monkeypatch.setenv("LD_PRELOAD", "")
    built = bench.train(bench.request("sh", "-c", "mkdir out; env > out/weights.txt"))
    seen = built.outputs["out/weights.txt"].read_text()
    assert all(name not in seen for name in ("CLOUD_TOKEN", "PYTHONPATH", "LD_PRELOAD"))


@pytest.mark.skipif(not RUNNER.can_isolate, reason="no network namespaces on this machine")
def test_a_training_cannot_send_the_data_away(bench: Bench) -> None:
    script = TRAIN + (
        "import socket\n"
        "try:\n"
        "    socket.create_connection(('192.0.2.1', 80), timeout=2)\n"
        "except OSError as error:\n"
        "    print('no way out:', error.strerror)\n"
    )
    assert "no way out: Network is unreachable" in bench.train_with(script).log.read_text()


def test_a_model_swapped_between_two_steps(bench: Bench) -> None:
    trained = bench.train()
    weights = trained.outputs["out/weights.txt"]
    weights.write_text("backdoored")
    step = Input(name="weights", path=weights, digest=trained.digest, place="weights.txt")
    request = replace(bench.request("cp", "weights.txt", "m"), inputs=(step,), former="weights", outputs=("m",))
    with pytest.raises(VerificationError) as caught:
        convert(request, workshop=WORKSHOP, source=bench.source, runner=RUNNER, out=bench.out)
    assert caught.value.code == "input-altered"


def test_a_model_swapped_before_or_after_packaging(tmp_path: Path) -> None:
    contents = {
        "model.onnx": MODEL,
        "labels.json": b'{"v":1,"output":"larger","labels":["y","x"]}',
        "preprocessing.json": b'{"v":1,"input":"xy","type":"float32","shape":["n",2]}',
        "MODEL_CARD.md": b"# Larger\n",
        "self-test.json": make_self_test(TinyRuntime().load(MODEL), [(1, 2), (2, 1)]),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    files = {name: tmp_path / name for name in contents}
    swapped = Digest.of(b"another model")
    with pytest.raises(VerificationError) as caught:
        package(files, model="m", former=swapped, workshop=WORKSHOP, into=tmp_path / "out")
    assert caught.value.code == "input-altered"

    packed = package(files, model="m", former=Digest.of(MODEL), workshop=WORKSHOP, into=tmp_path / "out")
    (packed.folder / "model.onnx").write_bytes(MODEL.replace(b"[0,1]", b"[0,2]"))
    with pytest.raises(VerificationError) as caught:
        evaluate_package(
            packed.folder,
            model="m",
            package=packed.digest,
            runtime=TinyRuntime(),
            examples=Examples(digest=Digest.of(b""), inputs=((1, 2),), labels=(0,)),
            requirements=Requirements(accuracy_ppm=0),
            at=NOW,
        )
    assert caught.value.code == "input-altered"
