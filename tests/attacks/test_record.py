# SPDX-License-Identifier: Apache-2.0
"""Threats to what is recorded in somebody's own process: claims that are not so, and secrets that would be logged for ever."""

from __future__ import annotations

import builtins
import os
import sys
import time
from pathlib import Path

import pytest

import chopmark
from chopmark.adapters.kms import file as kms
from chopmark.apps.recorder import Run
from chopmark.artifacts import Digest
from chopmark.builds.discretion import holds_secret
from chopmark.errors import UsageError
from chopmark.keys import Algorithm
from chopmark.statements import encode_statement
from unit.recorder.stage import BODY, HEAD, Stage, inputs, outputs, play, said

SECRET = "correct-horse-battery-staple"


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def text(run: Run) -> str:
    return encode_statement(run.statement).decode()


def names_no_commit(run: Run) -> bool:
    return said(run).dependency("code") is None and "gitCommit" not in text(run)


# Claims


def test_code_that_git_was_told_to_overlook_is_not_passed_off_as_the_commit(stage: Stage) -> None:
    """``git status`` is silent about all of these; what is in the files is not."""
    path = stage.script("with chopmark.record('train') as run:\n" + BODY)
    assert not names_no_commit(play(path)["run"])
    path.write_text(path.read_text() + "# and something else\n")
    for trick in ("--assume-unchanged", "--skip-worktree"):
        stage.git("update-index", trick, "step.py")
        assert stage.git("status", "--porcelain") == ""
        assert names_no_commit(play(path)["run"])
        stage.git("update-index", trick.replace("--", "--no-"), "step.py")


def test_a_script_that_is_ignored_or_lies_in_another_folder_runs_under_no_commit(stage: Stage, tmp_path: Path) -> None:
    body = HEAD + "with chopmark.record('train') as run:\n" + BODY
    stage.script("")
    stage.write(".gitignore", "data/\n*.npz\nignored.py\n.hidden/\n")
    stage.commit()
    for name in ("ignored.py", ".hidden/step.py"):
        assert names_no_commit(play(stage.write(name, body))["run"])
    outside = tmp_path / "outside.py"
    outside.write_text(body)
    assert names_no_commit(play(outside)["run"]), "the current folder's commit is not that of a script elsewhere"


@pytest.mark.parametrize("early", [True, False])
def test_an_ignored_module_that_was_imported_is_a_change(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, early: bool
) -> None:
    name = f"sly_helper_{early}".lower()
    stage.write(".gitignore", f"data/\n*.npz\n{name}.py\n")
    stage.write(f"{name}.py", "x = 1\n")
    monkeypatch.syspath_prepend(str(stage.repo))
    load = f"import {name}\n"
    block = "with chopmark.record('train') as run:\n" + BODY
    run = play(stage.script(load + block if early else block + f"    {load}"))["run"]
    sys.modules.pop(name)
    assert names_no_commit(run)
    code = said(run).internal["code"]
    assert isinstance(code, dict)
    assert f"{name}.py" in code["changed"]


def test_an_input_cannot_take_the_place_of_the_code(stage: Stage) -> None:
    for name in ("code", "code:cell"):
        with pytest.raises(UsageError, match="is taken already"):
            stage.block(f"    run.input('data/rows.csv', name='{name}')\n{BODY}")
    stage.write("code", "not code")
    stage.write("code:cell", "not code")
    stage.commit()
    run = stage.block("    Path('code').read_text()\n    Path('code:cell').read_text()\n" + BODY)
    assert inputs(run) == ["data/rows.csv"]
    code = said(run).dependency("code")
    assert code is not None
    assert code.algorithm == "gitCommit"


def test_two_inputs_and_two_outputs_have_two_names(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x")
    with pytest.raises(UsageError, match="is taken already"):
        stage.block(f"    run.input('{tmp_path}/rows.csv')\n    run.input('data/rows.csv', name='rows.csv')\n")
    with pytest.raises(UsageError, match="two outputs have one name"):
        stage.block(f"    run.output('{tmp_path}/m.npz')\n    run.output('m.npz')\n")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\\b", "a//b", "", "a\nb"])
def test_names_that_no_file_of_an_artifact_has(stage: Stage, name: str) -> None:
    with pytest.raises(UsageError):
        stage.block(f"    run.input('data/rows.csv', name={name!r})\n{BODY}", commit=False)


def test_links_lead_nothing_from_elsewhere_into_a_record(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.csv").write_text("x")
    (stage.repo / "data/link.csv").symlink_to(tmp_path / "elsewhere.csv")
    (stage.repo / "data/loop.csv").symlink_to("loop.csv")
    run = stage.block("    Path('data/link.csv').read_text()\n" + BODY)
    assert inputs(run) == ["data/rows.csv"]
    with pytest.raises(UsageError, match="symbolic link"):
        stage.block("    run.input('data/link.csv')\n" + BODY, commit=False)


def test_pipes_and_devices_do_not_hang_a_run(stage: Stage) -> None:
    os.mkfifo(stage.repo / "data/pipe")
    body = "    import os\n    os.close(os.open('data/pipe', os.O_RDONLY | os.O_NONBLOCK))\n"
    run = stage.block(body + "    Path('/dev/zero').open('rb').close()\n" + BODY)
    assert inputs(run) == ["data/rows.csv"]


# Secrets


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "db_password",
        "apiToken",
        "API_KEY",
        "aws_secret_access_key",
        "HF_TOKEN",
        "auth",
        "clientSecret",
        "userpassword",
        "dsn",
    ],
)
def test_a_parameter_that_is_called_like_a_secret_is_redacted(stage: Stage, name: str) -> None:
    @chopmark.record("train", sign=False)
    def fit(**options: object) -> None:
        Path("m.npz").touch()

    fit(**{name: SECRET, "nested": {"deep": [{name: SECRET}]}, f"{name}s_like": 1})
    assert fit.last is not None
    assert SECRET not in text(fit.last)
    assert Digest.of(SECRET.encode()).hex not in text(fit.last)
    redacted = said(fit.last).internal["redacted"]
    assert isinstance(redacted, list)
    assert name in redacted
    with chopmark.record("train", sign=False) as run:
        run.param(**{name: [SECRET, {"a": SECRET}]})
    assert SECRET not in str(run.params)


@pytest.mark.parametrize(
    "value",
    [
        "postgres://ada:hunter2@db/x",
        "ghp_" + "a" * 36,
        "hf_" + "b" * 34,
        "AKIA" + "C" * 16,
        "-----BEGIN PRIVATE KEY-----\nMIIB",
        "Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc",
        "Bearer abcdef1234567890abcdef",
        "--epochs 3 --password=hunter2",
        "--password hunter2",
        "Server=x;Password=hunter2;",
        '{"password": "hunter2"}',
        "https://host/x?a=b&sig=hunter2",
        "npm_" + "a" * 36,
    ],
)
def test_a_parameter_that_looks_like_a_secret_is_redacted(stage: Stage, value: str) -> None:
    with chopmark.record("train", sign=False) as run:
        run.param(harmless=value, list=[value])
    assert run.params == {"harmless": "<redacted>", "list": ["<redacted>"]}


def test_words_of_models_are_no_secrets(stage: Stage) -> None:
    params = {"max_tokens": 5, "key_dim": 64, "tokenizer": "bpe", "pad_token": "<pad>", "monkey": "x", "keyboard": "y"}
    params |= {"block": "basic convolutional", "note": "no password is asked for", "eos": "eos_token=<eos>"}
    with chopmark.record("train", sign=False) as run:
        run.param(**params)
    assert run.params == params


@pytest.mark.parametrize(
    "text", ["://" + ":" * 500_000, "password" + " " * 500_000, "Bearer " * 70_000, "://a:" * 100_000]
)
def test_a_long_text_is_looked_through_once(text: str) -> None:
    start = time.monotonic()
    holds_secret(text)
    assert time.monotonic() - start < 5


SECRET_FILES = ["server.pem", "id_ed25519", ".env", ".env.local", "token.txt", "client_secret.json", "credentials.json"]


@pytest.mark.parametrize("name", SECRET_FILES)
def test_not_even_the_digest_of_a_secret_file_is_recorded(stage: Stage, name: str) -> None:
    stage.write(name, "1234")
    run = stage.block(f"    Path('{name}').read_text()\n    Path('{name}').write_text('5678')\n{BODY}")
    for secret in ("1234", "5678"):
        assert Digest.of(secret.encode()).hex not in text(run)
    assert name not in [*inputs(run), *outputs(run)]
    for call in ("input", "output"):
        with pytest.raises(UsageError, match="taken for a secret"):
            stage.block(f"    run.{call}('{name}')\n{BODY}", commit=False)


def test_a_private_key_under_a_harmless_name_is_not_recorded(stage: Stage) -> None:
    kms.create(stage.repo / "data/weights.txt", Algorithm.ED25519)
    run = stage.block("    Path('data/weights.txt').read_text()\n" + BODY)
    assert inputs(run) == ["data/rows.csv"]
    assert said(run).internal["leftOut"] == 1
    with pytest.raises(UsageError, match="taken for a secret"):
        stage.block("    run.input('data/weights.txt')\n" + BODY, commit=False)


def test_no_credentials_of_a_remote_no_variables_and_no_home_are_recorded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", SECRET)
    stage.git("remote", "add", "origin", f"https://ada:{SECRET}@git.example/models.git?token={SECRET}")
    run = stage.block(f"    run.param(rows=Path('{stage.repo}/data/rows.csv'))\n{BODY}")
    assert SECRET not in text(run)
    assert str(stage.repo) not in text(run)
    code = said(run).dependency("code")
    assert code is not None
    assert code.uri == "git+https://git.example/models.git"
    stage.write("other.py", "changed")
    assert SECRET not in text(stage.block(commit=False))


# Whoever is recorded is not disturbed


def test_opens_of_every_odd_kind_fail_or_succeed_as_before(stage: Stage) -> None:
    odd: list[object] = ["\0", b"\xff\xfe", "", "x" * 5000, -1, 10**30, None, object(), "\ud800", Path("nowhere")]

    def outcome(path: object) -> str:
        try:
            with builtins.open(path):  # type: ignore[call-overload]  # noqa: PTH123 - whatever it is
                return "open"
        except Exception as error:  # noqa: BLE001 - whatever it is
            return f"{type(error).__name__}: {str(error)[:40]}"

    before = [outcome(path) for path in odd]
    with chopmark.record("train", sign=False):
        assert [outcome(path) for path in odd] == before
        Path("m.npz").touch()


def test_names_that_are_no_text_leave_a_run_as_it_was(stage: Stage) -> None:
    body = "    open(b'data/\\xff.csv', 'wb').close()\n    open(b'\\xff.py', 'wb').close()\n" + BODY
    run = stage.block(body)
    assert outputs(run) == ["weights.npz"]
    assert said(run).internal["leftOut"] == 1
    stage.block(commit=False)  # and they are changes now, which are named as far as they can be
    odd = os.fsdecode(b"st\xffp.py")
    assert said(stage.block(commit=False)).external["entry"] == "step.py"
    run = play(stage.script("with chopmark.record('train') as run:\n" + BODY, name=odd))["run"]
    assert said(run).external["entry"] == "st\\udcffp.py"


def test_a_file_that_vanishes_or_is_still_written_spoils_no_statement(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chopmark.apps.recorder import run as module

    real = module.digest_of

    def racing(path: Path) -> Digest:
        if path.name == "a.log":
            path.unlink()
        return real(path)

    monkeypatch.setattr(module, "digest_of", racing)
    run = stage.block("    Path('a.log').touch()\n" + BODY)
    assert outputs(run) == ["weights.npz"]
