# SPDX-License-Identifier: Apache-2.0
"""A block or a function leaves the statement that a build would leave, or none; and disturbs nobody."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

import chopmark
from chopmark.adapters.kms import file as kms
from chopmark.apps.cli.main import run as cli
from chopmark.apps.cli.wiring import Site, create_workspace
from chopmark.apps.recorder import watch
from chopmark.artifacts import Digest, hash_file, scan
from chopmark.builds import BuildType, model_name
from chopmark.errors import ChopmarkError, UndecidedError, UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.policy import Allowed, Phase, Policy, decide
from chopmark.release.life import read_life, trace
from chopmark.statements import PredicateType, Statement, Subject, decode_envelope, decode_statement
from unit.policy.facts import candidate, default_policy, fact
from unit.recorder.stage import BODY, HEAD, Stage, inputs, outputs, play, said

RULES = ("dataset-registered", "trained-from-commit")


def holds(*facts, rules: tuple[str, ...] = RULES) -> bool:
    """Decide the default policy's rules about a training over *facts*."""
    found = default_policy()
    some = Policy(name="some", digest=found.digest, rules=tuple(rule for rule in found.rules if rule.id in rules))
    return isinstance(decide(some, Phase.EVIDENCE, facts=facts, candidate=candidate()), Allowed)


# What it says


def test_a_block_leaves_the_provenance_that_a_build_leaves(stage: Stage) -> None:
    run = stage.block("    run.param(epochs=3, rate=0.5)\n" + BODY)
    provenance = said(run)
    assert provenance.build_type is BuildType.TRAIN
    assert run.statement.subject == Subject("model/repo", hash_file(stage.repo / "weights.npz").sha256)
    assert provenance.external["parameters"] == {"epochs": 3, "rate": "0.5"}
    assert (provenance.external["entry"], provenance.external["folder"]) == ("step.py", "")
    code = provenance.dependency("code")
    assert code is not None
    assert (code.algorithm, code.digest) == ("gitCommit", stage.git("rev-parse", "HEAD"))
    rows = provenance.dependency("data/rows.csv")
    assert rows is not None
    assert rows.digest == hash_file(stage.repo / "data/rows.csv").sha256.hex
    assert provenance.internal["recorder"] == "in-process"
    assert provenance.internal["python"] == ".".join(map(str, sys.version_info[:3]))
    packages = provenance.internal["packages"]
    assert isinstance(packages, dict)
    assert "msgspec" in packages
    assert provenance.started <= provenance.finished


def test_policies_and_trace_read_it_as_they_read_a_build(stage: Stage) -> None:
    data = scan(stage.repo / "data").digest
    run = stage.block("    run.input('data')\n" + BODY)
    registered = Statement(
        subjects=(Subject("data/rows", data),), predicate_type=PredicateType.DATASET, predicate={"v": 1}
    )
    dataset, training = fact("data-owner", registered, 0), fact("builder", run.statement, 1)
    assert holds(dataset, training)
    assert not holds(training)
    from unit.release.kit import people

    events = read_life([(f.index, f.verified.envelope) for f in (dataset, training)], people().policy)
    assert [event.type for event in trace(events, data.hex)] == ["dataset", "train"]
    assert [event.type for event in trace(events, stage.git("rev-parse", "HEAD"))] == ["train"]


def test_an_uncommitted_change_is_named_and_no_rule_takes_the_commit_for_the_code(stage: Stage, capsys) -> None:
    stage.script("", name="other.py")
    stage.write("other.py", "changed")
    run = stage.block(commit=False)  # step.py was never committed either
    code = said(run).internal["code"]
    assert isinstance(code, dict)
    assert code["commit"] == stage.git("rev-parse", "HEAD")
    assert code["changed"] == ["other.py", "step.py"]
    part = said(run).dependency("code:step.py")
    assert part is not None
    assert part.digest == hash_file(stage.repo / "step.py").sha256.hex
    assert not holds(fact("builder", run.statement, 0), rules=("trained-from-commit",))
    assert any("rules that ask for one will refuse it" in hint for hint in run.hints)
    stage.commit()
    assert holds(fact("builder", stage.block(commit=False).statement, 0), rules=("trained-from-commit",))


def test_data_of_the_run_is_no_change_of_the_code(stage: Stage) -> None:
    stage.script("with chopmark.record('train') as run:\n" + BODY)
    stage.write(".gitignore", "")
    stage.commit()
    stage.write("data/rows.csv", "3\n")  # changed, and an input; weights.npz is untracked from the second run on
    for _ in range(2):
        assert said(play(stage.repo / "step.py")["run"]).dependency("code") is not None


def test_without_a_repository_there_is_a_hint_and_a_statement(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chopmark.apps.recorder.run._said", set())
    (tmp_path / "step.py").write_text(
        HEAD + "with chopmark.record('train', model='m') as run:\n    Path('m.npz').touch()\n"
    )
    run = play(tmp_path / "step.py")["run"]
    assert said(run).internal["code"] == {"problem": "not in a Git repository"}
    err = capsys.readouterr().err
    assert "not in a Git repository" in err
    assert "Traceback" not in err
    play(tmp_path / "step.py")
    assert "not in a Git repository" not in capsys.readouterr().err, "said once in a process"


def test_an_empty_repository_names_no_commit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    (tmp_path / "step.py").write_text(
        HEAD + "with chopmark.record('train', model='m') as run:\n    Path('m.npz').touch()\n"
    )
    assert "nothing was committed" in str(said(play(tmp_path / "step.py")["run"]).internal["code"])


def test_where_git_is_not_installed(stage: Stage, monkeypatch) -> None:
    stage.script("")
    monkeypatch.setenv("PATH", "/nowhere")
    assert said(stage.block(commit=False)).internal["code"] == {"problem": "not in a Git repository"}


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("digits", "digits"),
        ("My Model (2)", "my-model--2-"),
        ("Überblick", "berblick"),
        ("x-y", "model"),
        ("…", "model"),
    ],
)
def test_the_model_is_named_after_the_folder(folder: str, name: str) -> None:
    assert model_name(folder) == name


# Files


def test_what_native_code_and_other_processes_write_is_seen(stage: Stage) -> None:
    body = "    import subprocess\n    subprocess.run(['sh', '-c', 'echo x > native.npz'], check=True)\n"
    run = stage.block(body)
    assert outputs(run) == ["native.npz"]


def test_the_model_comes_before_its_logs_and_what_was_named_before_both(stage: Stage) -> None:
    body = "    for n in ('a.txt', 'm.onnx', 'z.txt'):\n        Path(n).write_text(n)\n"
    assert outputs(stage.block(body)) == ["m.onnx", "a.txt", "z.txt"]
    for name in ("a.txt", "m.onnx", "z.txt"):
        (stage.repo / name).unlink()
    run = stage.block("    run.output('z.txt')\n" + body)
    assert outputs(run) == ["z.txt", "m.onnx", "a.txt"]
    assert run.statement.subject == Subject("model/repo", Digest.of(b"z.txt"))


def test_what_was_read_and_written_again_is_no_input(stage: Stage) -> None:
    body = "    p = Path('data/rows.csv')\n    p.write_text(p.read_text() + '3\\n')\n" + BODY
    run = stage.block(body)
    assert inputs(run) == []
    assert set(outputs(run)) == {"weights.npz", "data/rows.csv"}
    assert said(run).internal["rewritten"] == ["data/rows.csv"]


def test_what_was_read_and_removed_is_no_input_and_is_named(stage: Stage) -> None:
    run = stage.block(BODY + "    Path('data/rows.csv').unlink()\n")
    assert (inputs(run), outputs(run)) == ([], ["weights.npz"])
    assert said(run).internal["rewritten"] == ["data/rows.csv"]


def test_a_folder_that_grows_beyond_what_is_watched_says_so(stage: Stage, monkeypatch) -> None:
    monkeypatch.setattr("chopmark.apps.recorder.watch.MAX_WATCHED", 50)
    body = "    for n in range(60):\n        Path(f'{n}.txt').touch()\n    run.output('weights.npz')\n"
    run = stage.block(body + BODY)
    assert (inputs(run), outputs(run)) == ([], ["weights.npz"])
    assert any("too many files" in hint for hint in run.hints)


def test_what_was_written_and_read_back_is_no_input(stage: Stage) -> None:
    run = stage.block(BODY + "    assert Path('weights.npz').read_text()\n")
    assert inputs(run) == ["data/rows.csv"]


def test_opened_for_writing_and_left_alone_is_an_input(stage: Stage) -> None:
    body = "    with open('data/rows.csv', 'r+') as f:\n        f.read()\n    Path('data/rows.csv').read_bytes()\n"
    body += "    Path('m.npz').touch()\n"
    run = stage.block(body)
    assert (inputs(run), outputs(run)) == (["data/rows.csv"], ["m.npz"])


def test_code_libraries_hidden_files_and_what_lies_elsewhere_are_no_inputs(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.csv").write_text("x")
    stage.write("helper.py", "x = 1")
    stage.write(".cache/c.csv", "x")
    stage.write("env/pyvenv.cfg", "")
    stage.write("env/lib/x.csv", "x")
    body = f"    for n in ('helper.py', '.cache/c.csv', '{tmp_path}/elsewhere.csv', 'env/lib/x.csv'):\n        Path(n).read_text()\n"
    assert inputs(stage.block(body + BODY)) == ["data/rows.csv"]


def test_a_named_folder_is_one_input_with_the_digest_of_a_dataset(stage: Stage) -> None:
    run = stage.block("    run.input('data', name='data/numbers')\n" + BODY)
    assert inputs(run) == ["data/numbers"]
    found = said(run).dependency("data/numbers")
    assert found is not None
    assert found.digest == scan(stage.repo / "data").digest.hex


def test_a_named_input_from_elsewhere_and_a_named_folder_of_outputs(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "big.csv").write_text("x")
    body = f"    run.input('{tmp_path}/big.csv')\n    Path('out').mkdir()\n    Path('out/a.npz').touch()\n    run.output('out')\n"
    run = stage.block(body)
    assert (inputs(run), outputs(run)) == (["big.csv"], ["out"])
    assert run.statement.subject.digest == scan(stage.repo / "out").digest


def test_a_named_input_that_changes_and_a_named_output_that_is_missing_leave_no_statement(stage: Stage) -> None:
    with pytest.raises(VerificationError, match=r"rows\.csv: changed") as caught:
        stage.block("    run.input('data/rows.csv')\n    Path('data/rows.csv').write_text('9')\n" + BODY)
    assert caught.value.code == "input-altered"
    with pytest.raises(VerificationError, match="was to be written") as caught:
        stage.block("    run.output('nothing.npz')\n")
    assert caught.value.code == "build-incomplete"


def test_more_files_than_a_statement_lists(stage: Stage, monkeypatch) -> None:
    monkeypatch.setattr("chopmark.apps.recorder.run.MAX_LISTED", 2)
    for n in range(3):
        stage.write(f"data/{n}.csv", str(n))
    body = "    for p in sorted(Path('data').iterdir()):\n        p.read_text()\n" + BODY
    run = stage.block(body)
    assert inputs(run) == []
    assert said(run).internal["leftOut"] == 4
    assert any("4 files were read" in hint for hint in run.hints)
    assert inputs(stage.block("    run.input('data')\n" + body)) == ["data"]


def test_a_folder_of_too_many_files_is_not_watched_and_says_so(stage: Stage, monkeypatch) -> None:
    monkeypatch.setattr("chopmark.apps.recorder.watch.MAX_WATCHED", 2)
    run = stage.block("    run.output('weights.npz')\n" + BODY)
    assert (inputs(run), outputs(run)) == ([], ["weights.npz"])
    assert any("too many files" in hint for hint in run.hints)


def test_without_tracking_only_what_is_named_is_recorded(stage: Stage) -> None:
    run = stage.block("    run.output('weights.npz')\n" + BODY, call="'train', track_files=False")
    assert (inputs(run), outputs(run)) == ([], ["weights.npz"])


def test_nothing_is_noted_outside_of_runs(stage: Stage) -> None:
    run = stage.block()
    seen = dict(run._watch.reads)
    (stage.repo / "data/rows.csv").read_text()
    assert dict(run._watch.reads) == seen
    assert watch._open == ()


def test_nothing_written_is_no_statement_and_a_hint(stage: Stage) -> None:
    run = stage.block("    pass\n")
    assert any("nothing was written" in hint for hint in run.hints)
    with pytest.raises(UsageError, match="left nothing") as caught:
        run.save(stage.repo / "s.json")
    assert "run.output" in caught.value.hint
    assert not (stage.repo / "s.json").exists()


def test_more_inputs_than_a_statement_holds_are_an_error_with_a_way_out(stage: Stage) -> None:
    body = "    for n in range(3500):\n        run.input('data/rows.csv', name=f'{n}' + 'x' * 1000)\n"
    with pytest.raises(UsageError, match="makes no statement") as caught:
        stage.block(body + BODY)
    assert "name the folder" in caught.value.hint


# Blocks and functions


def test_what_the_block_raises_goes_on_and_leaves_no_statement(stage: Stage) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught, chopmark.record("train", sign=False) as run:
        raise error
    assert caught.value is error
    assert error.__context__ is None
    with pytest.raises(UsageError, match="failed"):
        _ = run.statement
    assert watch._open == ()


def test_arguments_of_a_function_are_the_parameters(stage: Stage) -> None:
    @chopmark.record("train")
    def fit(rows: Path, rate: float = 0.5, *more: int, opts: object = None, **rest: object) -> int:
        """Fit."""
        Path("w.npz").write_text(rows.read_text())
        return 7

    assert fit.last is None
    assert fit(stage.repo / "data/rows.csv", opts=threading.Lock(), seed=1) == 7
    assert (fit.__name__, fit.__doc__) == ("fit", "Fit.")
    assert fit.last is not None
    assert said(fit.last).external["parameters"] == {
        "rows": "data/rows.csv",
        "rate": "0.5",
        "opts": "<_thread.lock>",
        "seed": 1,
    }
    assert said(fit.last).external["entry"] == "test_arguments_of_a_function_are_the_parameters.fit"
    assert inputs(fit.last) == ["data/rows.csv"]


def test_a_method_an_async_function_and_two_tasks_at_once(stage: Stage) -> None:
    class Trainer:
        @chopmark.record("train", model="m")
        def fit(self, n: int) -> int:
            Path("m.npz").write_text(str(n))
            return n

    assert Trainer().fit(3) == 3
    last = Trainer.__dict__["fit"].last
    assert said(last).external["parameters"] == {"n": 3}

    @chopmark.record("train", model="m")
    async def slow(name: str) -> str:
        await asyncio.sleep(0.01)
        Path(name).write_text(name)  # noqa: ASYNC240 - as somebody would
        await asyncio.sleep(0.01)
        results[name] = chopmark.apps.recorder._current.get()
        return name

    results: dict[str, object] = {}

    async def both() -> list[str]:
        return await asyncio.gather(slow("a.npz"), slow("b.npz"))

    assert asyncio.run(both()) == ["a.npz", "b.npz"]
    assert [outputs(results[name]) for name in ("a.npz", "b.npz")] == [["a.npz"], ["b.npz"]]


def test_runs_in_threads_keep_to_their_own_files(stage: Stage) -> None:
    runs: dict[int, object] = {}
    together = threading.Barrier(4)

    def work(n: int) -> None:
        with chopmark.record("train", model=f"m{n}", sign=False) as run:
            together.wait()
            for m in range(50):
                Path(f"{n}-{m}.npz").write_text(str(n))
            together.wait()
        runs[n] = run

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(4):
        assert sorted(outputs(runs[n])) == sorted(f"{n}-{m}.npz" for m in range(50))


def test_a_thread_inside_a_run_belongs_to_it(stage: Stage) -> None:
    with chopmark.record("train", sign=False) as run:
        thread = threading.Thread(target=lambda: Path("m.npz").write_text(Path("data/rows.csv").read_text()))
        thread.start()
        thread.join()
    assert (inputs(run), outputs(run)) == (["data/rows.csv"], ["m.npz"])


def test_one_step_one_statement(stage: Stage) -> None:
    with pytest.raises(UsageError) as caught, chopmark.record("train", sign=False), chopmark.record("convert"):
        pass
    assert caught.value.code == "record-nested"
    stage.block()  # and the next one is none


def test_a_call_that_is_wrong_is_the_functions_own_error(stage: Stage) -> None:
    @chopmark.record("train")
    def fit(a: int) -> None: ...

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        fit()  # type: ignore[call-arg]
    assert watch._open == ()


def test_what_has_no_end_of_its_own_is_not_decorated() -> None:
    def numbers():
        yield 1

    async def later():
        yield 1

    for function in (numbers, later):
        with pytest.raises(UsageError, match="is a generator"):
            chopmark.record("train")(function)
    with pytest.raises(UsageError, match="is no function"):
        chopmark.record("train")(object())  # type: ignore[arg-type]


@pytest.mark.parametrize("step", ["package", "trained", "", "TRAIN"])
def test_steps_that_are_none(step: str) -> None:
    with pytest.raises(UsageError, match="no step that can be recorded"):
        chopmark.record(step)
    with pytest.raises(UsageError, match="is not a name"):
        chopmark.record("train", model="Ünfug")


def test_after_its_end_a_run_takes_nothing(stage: Stage) -> None:
    run = stage.block()
    for late in (lambda: run.param(a=1), lambda: run.input("data"), lambda: run.output("x")):
        with pytest.raises(UsageError, match="not open"):
            late()


def test_a_forked_child_makes_no_statement(stage: Stage) -> None:
    with chopmark.record("train", sign=False) as run:
        Path("m.npz").touch()
        child = os.fork()
        if child == 0:
            chopmark.apps.recorder._current.get().end()
            os._exit(0 if run._statement is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert outputs(run) == ["m.npz"]


# Parameters


class Odd:
    @property
    def shape(self) -> tuple[int, ...]:
        raise RuntimeError("no shape today")


def test_parameters_that_cannot_be_recorded_are_refused_or_named_by_type(stage: Stage) -> None:
    loop: list[object] = []
    loop += [loop, loop]
    bad = [object(), loop, {"x-a": 1}, "\ud800", "a\0b", b"bytes", {1: 1, "1": 2}, list(range(20_000)), "x" * 70_000]

    @chopmark.record("train", sign=False)
    def fit(value: object) -> None:
        Path("m.npz").touch()

    for value in bad:
        with pytest.raises(UsageError), chopmark.record("train", sign=False) as run:
            run.param(value=value)
        fit(value)
        assert said(fit.last).external["parameters"]["value"].startswith("<")
    fit(Odd())
    assert "Odd" in said(fit.last).external["parameters"]["value"]
    for name in ("", "x-a", "n" * 300):
        with pytest.raises(UsageError, match="cannot name"), chopmark.record("train", sign=False) as run:
            run.param(**{name: 1})


def test_numbers_are_written_as_what_they_are(stage: Stage) -> None:
    numpy = pytest.importorskip("numpy")
    values = {
        "a": numpy.float64(0.1),
        "b": numpy.int64(3),
        "c": numpy.bool_(True),
        "d": float("nan"),
        "e": 2**60,
        "f": -0.0,
    }
    with chopmark.record("train", sign=False) as run:
        run.param(**values)
    assert run.params == {"a": "0.1", "b": 3, "c": True, "d": "nan", "e": str(2**60), "f": "-0.0"}


# Signing


def test_a_key_signs_and_save_writes_what_others_read(stage: Stage) -> None:
    public = kms.create(stage.repo / ".keys/k.pem", Algorithm.ED25519).public
    run = stage.block(call="'train', key='.keys/k.pem'")
    data = run.save(stage.repo / "train.json").read_bytes()
    envelope = decode_envelope(data)
    assert envelope == run.envelope
    assert [s.keyid for s in envelope.signatures] == [public.keyid]
    assert public.verify(envelope.signatures[0].sig, envelope.message)
    assert run.entry is None
    unsigned = stage.block()
    assert unsigned.envelope is None
    assert decode_statement(unsigned.save(stage.repo / "u.json").read_bytes()) == unsigned.statement


def test_a_key_that_is_missing_stops_it_before_the_work(stage: Stage) -> None:
    ran = []
    with pytest.raises(UndecidedError) as caught, chopmark.record("train", key="nowhere.pem"):
        ran.append(1)
    assert caught.value.code == "key-missing"
    assert ran == []
    assert watch._open == ()


def test_in_a_workspace_the_builder_signs_and_the_ledger_has_it(stage: Stage, tmp_path: Path, capsys) -> None:
    workspace = create_workspace(tmp_path / "acme", name="acme", channel="production", port=8400)
    repo = workspace.folder / "code"
    shutil.copytree(stage.repo, repo)
    os.chdir(repo)
    stage.repo = repo
    run = stage.block()
    assert run.entry == 0
    assert said(run).builder.id == "https://chopmark.dev/builder/acme"
    site = Site.at(repo)
    assert [envelope for _, envelope in site.statements()] == [run.envelope]
    events = read_life(site.statements(), site.trust)
    assert [(e.type, e.role, e.problem) for e in events] == [("train", "builder", "")]
    capsys.readouterr()
    assert cli(["trace", "weights.npz"]) == 0
    assert "train" in capsys.readouterr().out
    # The next step of the chain takes what was recorded, as it takes what was built.
    converted = stage.block("    Path('m.onnx').write_text(Path('weights.npz').read_text())\n", call="'convert'")
    assert (converted.entry, inputs(converted)) == (1, ["weights.npz"])
    (workspace.keys / "builder").rename(workspace.keys / "away")
    alone = stage.block()
    assert (alone.envelope, alone.entry) == (None, None)
    assert any("stays unsigned" in hint for hint in alone.hints)


# Notebooks


def test_a_cell_is_named_by_its_source_and_what_ran_before(stage: Stage, monkeypatch) -> None:
    """IPython itself is not installed here: this is what it shows of itself, as release 9 does."""
    stage.script("")
    first, second = "x = 1", "with chopmark.record('train', sign=False) as run:\n    Path('m.npz').touch()"
    shell = SimpleNamespace(user_ns={"In": ["", first, second]})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    space: dict[str, object] = {"__name__": "__main__", "chopmark": chopmark, "Path": Path}
    exec(compile(second, "<ipython-input-2-abc>", "exec"), space)  # noqa: S102 - it is what a kernel does
    run = space["run"]
    provenance = said(run)
    assert provenance.external["entry"] == "cell"
    cell, ran = provenance.dependency("code:cell"), provenance.dependency("code:cells")
    assert cell is not None
    assert cell.digest == Digest.of(second.encode()).hex
    assert ran is not None
    assert provenance.dependency("code") is None, "what was typed is in no commit, however clean the tree is"
    assert not holds(fact("builder", run.statement, 0), rules=("trained-from-commit",))


def test_what_a_notebook_shows_is_escaped(stage: Stage) -> None:
    run = stage.block("    run.hints.append('<script>')\n" + BODY)
    shown = run._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert "model/repo" in str(run.statement.subject)
    assert str(run.statement.subject.digest) in shown
    assert "unsigned" in repr(run)


def test_errors_are_all_of_ours() -> None:
    assert issubclass(UsageError, ChopmarkError)
