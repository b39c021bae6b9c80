# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from chopmark.artifacts import Digest, hash_file
from chopmark.builds import (
    BuildType,
    Completed,
    Input,
    Isolation,
    Runner,
    convert,
    decode_provenance,
    quantise,
)
from chopmark.errors import ChopmarkError, DecodeError, UndecidedError, UsageError, VerificationError
from chopmark.statements import PredicateType, decode_statement, encode_statement
from simulators import NOW
from unit.builds.workbench import RUNNER, WORKSHOP, Bench


class NoIsolation(Runner):
    can_isolate = False  # type: ignore[assignment]

    def _run(self, command, *, cwd, env, timeout, isolated) -> Completed:
        return RUNNER._run(command, cwd=cwd, env=env, timeout=timeout, isolated=False)


def test_training_names_commit_data_parameters_and_result(bench: Bench) -> None:
    built = bench.train()
    assert built.outputs["out/weights.txt"].read_text() == "1.5"
    statement = decode_statement(encode_statement(built.statement))
    assert statement.predicate_type == PredicateType.PROVENANCE
    assert statement.subject.name == "model/numbers"
    assert statement.subject.digest == built.digest == Digest.of(b"1.5")
    provenance = decode_provenance(statement.predicate)
    assert provenance == built.provenance
    assert provenance.build_type is BuildType.TRAIN
    code, data = provenance.dependencies
    assert (code.name, code.algorithm, code.digest) == ("code", "gitCommit", bench.git("rev-parse", "HEAD"))
    assert (data.name, data.algorithm, data.digest) == ("data/numbers", "sha256", bench.dataset.digest.hex)
    assert provenance.external["parameters"] == {"rate": "0.5", "seed": 1}
    assert provenance.external["command"] == ["python", "train.py"]
    assert (provenance.started, provenance.finished, provenance.invocation) == (NOW, NOW, "run-1")
    assert provenance.log == hash_file(built.log).sha256


def test_withheld_files_are_not_there_and_recorded(bench: Bench) -> None:
    built = bench.train()
    assert "learned from ['a.csv']" in built.log.read_text()
    assert built.provenance.internal["withheld"] == {"data/numbers": ["test.csv"]}


def test_parameters_of_the_request_stand_over_those_of_the_file(bench: Bench) -> None:
    built = bench.train(bench.request(parameters={"rate": 2}))
    assert built.outputs["out/weights.txt"].read_text() == "6"
    assert built.provenance.external["parameters"] == {"rate": 2, "seed": 1}


def test_parameters_are_named_by_a_variable_too(bench: Bench) -> None:
    built = bench.train(
        bench.request(
            "sh", "-c", 'mkdir out; cp "$CHOPMARK_PARAMETERS" out/weights.txt', params_file="", parameters={"n": 3}
        )
    )
    assert built.outputs["out/weights.txt"].read_text() == '{\n  "n": 3\n}\n'


def test_the_same_commit_gives_the_same_result(bench: Bench) -> None:
    assert bench.train().digest == bench.train().digest


def test_several_outputs_are_several_subjects(bench: Bench) -> None:
    command = ("sh", "-c", "mkdir out; echo 1 > out/weights.txt; mkdir logs; echo 2 > logs/loss")
    built = bench.train(bench.request(*command, outputs=("out/weights.txt", "logs")))
    assert [subject.name for subject in built.statement.subjects] == ["model/numbers", "model/numbers/logs"]
    assert (bench.out / "logs/loss").read_text() == "2\n"


def test_a_command_runs_in_its_folder_of_the_tree(bench: Bench) -> None:
    bench.write("models/one/train.sh", "mkdir out && pwd > out/weights.txt && test -f ../../train.py")
    bench.commit()
    bench.repo = bench.repo / "models/one"
    built = bench.train(bench.request("sh", "train.sh", params_file=""))
    assert built.provenance.external["folder"] == "models/one"
    assert built.outputs["out/weights.txt"].read_text().endswith("code/models/one\n")


def test_conversion_and_quantisation_hang_on_the_step_before(bench: Bench) -> None:
    trained = bench.train()
    for step, build_type in ((convert, BuildType.CONVERT), (quantise, BuildType.QUANTISE)):
        weights = Input(
            name="weights", path=trained.outputs["out/weights.txt"], digest=trained.digest, place="in/weights.txt"
        )
        request = bench.request("cp", "in/weights.txt", "model.bin", outputs=("model.bin",), inputs=(weights,))
        with pytest.raises(UsageError, match="step before"):
            step(request, workshop=WORKSHOP, source=bench.source, runner=RUNNER, out=bench.out)
        request = replace(request, former="weights")
        built = step(request, workshop=WORKSHOP, source=bench.source, runner=RUNNER, out=bench.out)
        assert built.provenance.build_type is build_type
        assert built.provenance.dependency("weights").digest == trained.digest.hex


def test_a_failing_command_shows_the_end_of_its_log_and_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(VerificationError, match="no \\?such digit") as caught:
        bench.train_with("import sys\nprint('learning')\nsys.exit('no \\x1bsuch digit')")
    assert caught.value.code == "build-failed"
    assert caught.value.evidence["exit_code"] == 1
    assert not bench.out.exists()


def test_a_command_whose_time_is_up_is_ended(bench: Bench) -> None:
    with pytest.raises(VerificationError, match="time was up") as caught:
        bench.train(bench.request("sleep", "60", timeout=timedelta(seconds=0.2)))
    assert caught.value.evidence["timed_out"] is True


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"inputs": ()}, UsageError, "dataset"),
        ({"outputs": ()}, UsageError, "output"),
        ({"outputs": ("../weights.txt",)}, DecodeError, "cannot name"),
        ({"outputs": ("train.py",)}, UsageError, "before the command runs"),
        ({"outputs": ("out/weights.txt", "weights.txt")}, UsageError, "two outputs"),
        ({"outputs": ("elsewhere",)}, VerificationError, "did not write"),
        ({"command": ("no-such-program",)}, UsageError, "no such program"),
        ({"model": "No Name"}, UsageError, "not a name"),
        ({"environment": {"PATH": "bin"}}, UsageError, "PATH"),
        ({"params_file": "nothing.json"}, UsageError, "cannot be read"),
        ({"params_file": "train.py"}, DecodeError, "not JSON"),
    ],
)
def test_requests_that_cannot_be_carried_out(bench: Bench, changes: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        bench.train(replace(bench.request(), **changes))
    assert isinstance(caught.value, ChopmarkError)
    assert not list(bench.out.glob("*")) if bench.out.exists() else True


def test_two_inputs_in_one_place(bench: Bench) -> None:
    inputs = (bench.dataset, replace(bench.dataset, name="other", place="data/more"))
    with pytest.raises(UsageError, match="one place"):
        bench.train(bench.request(inputs=inputs))
    with pytest.raises(UsageError, match="another name"):
        bench.train(bench.request(inputs=(replace(bench.dataset, name="code"),)))


def test_isolation_is_recorded_and_can_be_required(bench: Bench) -> None:
    built = bench.train(bench.request(isolation=Isolation.OFF))
    assert not built.isolated
    assert built.provenance.internal["network"] == "open"
    request = bench.request(isolation=Isolation.REQUIRED)
    with pytest.raises(UndecidedError, match="without network"):
        convert(
            replace(request, former="data/numbers"),
            workshop=WORKSHOP,
            source=bench.source,
            runner=NoIsolation(),
            out=bench.out,
        )
    if RUNNER.can_isolate:
        assert bench.train(request).provenance.internal["network"] == "none"
