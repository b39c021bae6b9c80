# SPDX-License-Identifier: Apache-2.0
"""The way of an old model from a disk into production and to an auditor, with the real commands, servers and runtime."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from chopmark.apps.cli.demo.stage import Processes, answers_at, free_ports, wait_for
from chopmark.apps.cli.main import run
from chopmark.apps.cli.wiring import Site
from chopmark.release import MAIN

pytestmark = pytest.mark.slow


@pytest.fixture
def old_model(tmp_path: Path) -> Path:
    """A folder in which somebody trained a model years ago, with nothing recorded."""
    folder = tmp_path / "digits"
    shutil.copytree(str(files("chopmark.apps.cli") / "bank"), folder)
    for script in ("make_dataset.py", "train.py", "convert.py", "quantize.py"):
        subprocess.run([sys.executable, script], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Path]:
    """A workspace whose service, security host and witness run."""
    port, folder = free_ports(3), tmp_path / "acme"
    assert run(["init", str(folder), "--port", str(port)]) == 0
    processes = Processes(folder, tmp_path / "logs")
    try:
        for name, words in (("witness", ["--only", "witness"]), ("security", ["--only", "security"]), ("service", [])):
            processes.start(name, ["serve", *words])
        for at in range(port, port + 3):
            wait_for(f"port {at}", lambda at=at: answers_at(at) or None, processes)
        yield folder
    finally:
        processes.stop()


@pytest.fixture
def chopmark(service: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, object]]:
    def call(*words: str, code: int = 0) -> dict[str, object]:
        capsys.readouterr()
        done = run(["-w", str(service), *words, "--json"])
        out = capsys.readouterr().out
        assert done == code, f"{words}: {out}"
        return dict(json.loads(out))

    return call


def test_an_old_model_is_adopted_shipped_traced_and_ends(  # noqa: PLR0917 - fixtures
    service, old_model, chopmark, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(old_model)
    model, package = str(old_model / "model.onnx"), str(service / "packages" / "digits-1" / "package")
    named = ("--model", "digits")

    # Nothing may be packaged of which the ledger knows nothing.
    chopmark("data", "register", "data", "--contract", "schema.toml", "--pin")
    chopmark("data", "register", "data", "--contract", "schema.toml")
    assert chopmark("build", "package", model, "--version", "1", *named, code=1)["error"] == "input-unrecorded"
    assert chopmark("adopt", model, "--name", "digits", "--dry-run")["new"] == 1
    assert chopmark("adopt", model, "--name", "digits")["new"] == 1
    assert chopmark("adopt", model, "--name", "digits")["new"] == 0

    chopmark("build", "package", model, "--version", "1", *named)
    chopmark("test", package, *named)
    chopmark("inspect", package, *named)
    chopmark("sbom", package, "--version", "1", *named)

    # The default policy asks where it comes from; that for adopted models is reviewed like any other file of the repository.
    proposal = ("release", "propose", package, "--version", "1", *named)
    denied = chopmark(*proposal, code=1)
    assert [r["id"] for r in denied["rules"] if not r["ok"]] == [  # type: ignore[attr-defined]
        "dataset-registered",
        "trained-from-commit",
        "chain-unbroken",
    ]
    site = Site.at(service)
    policy = str(chopmark("policy", "adoption", "--until", "2099-06-30")["policy"]).encode()
    commit(site, policy)
    chopmark(*proposal, "--policy", "adoption")
    for owner in ("owner-a", "owner-b"):
        chopmark("release", "approve", "digits-1", "--as", owner)
    chopmark("release", "merge", "digits-1")
    chopmark("operator", "once")
    assert chopmark("channel", "status")["assigned"][0]["model"] == "digits"  # type: ignore[index]

    # The auditor has one file, and the root from somewhere else.
    dossier, root = tmp_path / "audit" / "digits-1.chopmark", tmp_path / "1.root.json"
    chopmark("release", "export", "digits", "--out", str(dossier))
    shutil.copy(service / "release" / "trust" / "1.root.json", root)
    monkeypatch.chdir(dossier.parent)
    story = trace(capsys, str(dossier), "--root", str(root))
    assert (story["ok"], story["gaps"]["made from"]) == (True, "no training is recorded: origin unknown")  # type: ignore[index]
    assert "adoption" in [event["type"] for event in story["events"]]  # type: ignore[attr-defined]
    assert story["publication"]["assigned"]  # type: ignore[index]
    found = trace(capsys, model, "--dossier", str(dossier), "--root", str(root))
    assert found["digest"] == story["digest"]
    Path(model).write_bytes(Path(model).read_bytes() + b"\0")
    assert run(["trace", model, "--dossier", str(dossier), "--root", str(root)]) == 1

    # And it ends: the date is changed in the repository, and nothing is proposed any more.
    commit(site, policy.replace(b"2099-06-30", b"2020-06-30"))
    late = chopmark("release", "propose", package, "--version", "2", *named, "--policy", "adoption", code=1)
    refused = [rule for rule in late["rules"] if not rule["ok"]]  # type: ignore[attr-defined]
    assert [rule["id"] for rule in refused] == ["adoption-ends"]
    assert "2020-06-30" in refused[0]["message"]


def commit(site: Site, policy: bytes) -> None:
    """Put the policy on main, as the maintainer."""
    head = site.git.head(MAIN)
    assert head is not None
    site.git.commit(
        MAIN,
        {"policies/adoption.yaml": policy},
        parent=head,
        message="Allow adopted models until a date",
        by=site.committer("maintainer"),
        at=site.clock.now(),
    )


def trace(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capsys.readouterr()
    assert run(["trace", *words, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))
