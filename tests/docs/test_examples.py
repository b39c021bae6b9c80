# SPDX-License-Identifier: Apache-2.0
"""The examples are run: each line with chopmark, the script, the notebook, and what the guide shows. And they ask for little."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chopmark.adapters.kms import file as kms
from chopmark.apps.cli.main import run
from chopmark.keys import Algorithm
from chopmark.statements import decode_statement
from unit.recorder.stage import Stage

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
GITHUB, GITLAB = EXAMPLES / "github-actions/model.yml", EXAMPLES / "gitlab-ci/model.gitlab-ci.yml"
GUIDE = ROOT / "docs/guides/record-a-notebook.md"


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(tmp_path, monkeypatch)
    stage.write("data/rows.csv", "1,2\n2,4\n")
    stage.write(".gitignore", "")
    stage.write("train.py", (EXAMPLES / "train.py").read_text())
    stage.commit()
    return stage


def read(path: Path) -> dict[Any, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def steps(path: Path) -> Iterator[tuple[str, str]]:
    """Yield job and line of everything that a pipeline runs."""
    pipeline = read(path)
    if path == GITHUB:
        for name, job in pipeline["jobs"].items():
            for step in job["steps"]:
                yield from ((name, line.strip()) for line in step.get("run", "").splitlines())
    else:
        yield from (("before", line) for line in pipeline["default"]["before_script"])
        for name in pipeline["stages"]:
            yield from ((name, line) for line in pipeline[name]["script"])


@pytest.mark.parametrize("path", [GITHUB, GITLAB], ids=lambda path: path.name)
def test_the_lines_of_the_pipelines_run(stage: Stage, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = kms.create(stage.repo.parent / "ours.pem", Algorithm.ECDSA_P256)
    theirs = kms.create(stage.repo.parent / "theirs.pem", Algorithm.ECDSA_P256)
    stage.write("keys/packager.pub", ours.public.pem)
    stage.write("keys/supplier.pub", theirs.public.pem)
    stage.write("base/weights.json", "{}")
    assert run(["sign", "base", "--key", str(stage.repo.parent / "theirs.pem"), "--out", "base.sig"]) == 0
    stage.commit()
    variables = {"$SIGNING_KEY": str(stage.repo.parent / "ours.pem")}
    ran = []
    for _, line in steps(path):
        words = [variables.get(word, word) for word in shlex.split(line)]
        if words[:2] == ["python", "train.py"]:
            runpy.run_path("train.py", run_name="__main__")
        elif words[:1] == ["chopmark"]:
            assert run(words[1:]) == 0, line
            ran.append(words[1])
    assert ran == ["verify", "hash", "sign", "verify"]
    said = decode_statement((stage.repo / "out/train.provenance.json").read_bytes())
    assert "gitCommit" in str(said.predicate), "the script is committed, and what it wrote is no change of the code"
    (stage.repo / "out/weights.json").write_text('{"slope": 3}')
    assert run(["verify", "out", "--key", "keys/packager.pub", "--signature", "out.sig"]) == 1


def test_the_pipelines_do_the_same() -> None:
    lines = [[line for _, line in steps(path) if line.startswith(("chopmark", "python "))] for path in (GITHUB, GITLAB)]
    assert lines[0] == lines[1]


def test_the_workflow_asks_for_little() -> None:
    workflow = read(GITHUB)
    assert workflow["permissions"] == {}
    jobs = workflow["jobs"]
    assert jobs["train"]["permissions"] == {"contents": "read"}
    assert jobs["sign"]["permissions"] == {"contents": "read", "id-token": "write"}
    assert jobs["sign"]["environment"] == "signing"
    assert set(workflow[True]) == {"push"}, "YAML reads `on` as true; and no event that strangers can cause"
    for job in jobs.values():
        assert job["timeout-minutes"] <= 60
        assert "latest" not in job["runs-on"]


def test_only_the_signing_job_has_an_identity_and_it_runs_nothing_of_the_training() -> None:
    pipeline = read(GITLAB)
    assert "id_tokens" not in pipeline["train"]
    assert "id_tokens" in pipeline["sign"]
    for path in (GITHUB, GITLAB):
        assert not [line for job, line in steps(path) if job == "sign" and re.search(r"train\.py|python (?!-)", line)]


def test_actions_are_pinned_to_commits_and_nothing_of_an_event_is_put_into_a_shell() -> None:
    text = GITHUB.read_text(encoding="utf-8")
    uses = re.findall(r"uses: (\S+)(.*)", text)
    assert uses
    for action, rest in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r"  # v\d+\.\d+\.\d+", rest), action
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")
    assert not [line for _, line in steps(GITHUB) if "${{" in line]
    for path in (GITHUB, GITLAB):
        installs = [line for _, line in steps(path) if "pip install" in line]
        assert installs
        assert all("--require-hashes" in line for line in installs)


def test_the_notebook_runs(stage: Stage) -> None:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    space: dict[str, object] = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            exec(compile("".join(cell["source"]), "<cell>", "exec"), space)  # noqa: S102 - our own example
    saved = decode_statement((stage.repo / "train.provenance.json").read_bytes())
    assert saved.subject.name == "model/line"
    assert "data/rows.csv" in str(saved.predicate)


def test_what_the_guide_shows_runs(stage: Stage) -> None:
    blocks = re.findall(r"^```text\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        stage.write("weights.npz", "old")
        runpy.run_path(str(stage.write(f"guide{number}.py", block)), run_name="__main__")
        said = decode_statement((stage.repo / "train.json").read_bytes())
        assert (stage.repo / "weights.npz").read_text() != "old"
        assert ("data/rows.csv" in str(said.predicate), said.subject.name) == (True, "model/repo")
        (stage.repo / "train.json").unlink()
