# SPDX-License-Identifier: Apache-2.0
"""The demo tells the truth: it ends well, says what it must, and every command that it prints works afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CHOPMARK = [sys.executable, "-m", "chopmark"]
REFUSALS = ["package-altered", "release-unapproved", "release-rollback", "channel-rollback", "log-rollback"]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "CHOPMARK_DEVICE"}
    return subprocess.run(
        [*CHOPMARK, *arguments], cwd=cwd, capture_output=True, text=True, check=False, env=environment, timeout=300
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo") / "chopmark-demo"
    done = run("demo", "--folder", str(folder), cwd=folder.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_story_is_told_in_order_and_in_about_fifty_lines(told: tuple[Path, str]) -> None:
    _, text = told
    acts = [text.index(act) for act in ("BUILD", "SHIP", "ATTACK", "TAKE BACK", "NOT PROVEN", "NEXT")]
    assert acts == sorted(acts)
    assert len(text.splitlines()) <= 52


def test_the_attacks_are_refused_each_by_its_own_name(told: tuple[Path, str]) -> None:
    _, text = told
    found = re.findall(r"REFUSED  (\S+) +chopmark why (R\d+)", text)
    assert [name for name, _ in found] == REFUSALS
    assert [number for _, number in found] == ["R1", "R2", "R3", "R4", "R5"]
    assert "kiosk-2 HELD" in text
    assert re.search(r"cheque for 100 +→ +reads 900", text), "the unprotected application is fooled"


def test_every_command_that_is_printed_works_when_everything_has_stopped(told: tuple[Path, str]) -> None:
    folder, text = told
    commands = re.findall(r"chopmark ((?:why|trace|ledger|status|inspect|device|release|fleet|channel)\b[^·\n]*)", text)
    assert len(commands) >= 20
    for command in commands:
        done = run(*command.split(), cwd=folder)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        as_json = run(*command.split(), "--json", cwd=folder)
        assert as_json.returncode == 0, command
        assert as_json.stdout.startswith("{"), command


def test_the_alert_is_there_and_the_kiosks_run_the_fallback(told: tuple[Path, str]) -> None:
    folder, _ = told
    assert (folder / "alert.ocsf.json").exists()
    devices = run("fleet", "devices", cwd=folder).stdout
    assert devices.count("digits v2") == 3


def test_it_replaces_its_own_workspace_and_no_other_folder(told: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    done = run("demo", "--folder", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_byte_of_the_ledger_is_noticed_afterwards(told: tuple[Path, str]) -> None:
    folder, _ = told
    state = folder / ".chopmark"
    before = {path: path.read_bytes() for path in state.glob("ledger.db*")}
    path, data = next((path, data) for path, data in before.items() if b'"kind":"statement"' in data)
    path.write_bytes(data.replace(b'"kind":"statement"', b'"kind":"stAtement"', 1))
    try:
        assert run("ledger", "fsck", cwd=folder).returncode == 1
    finally:
        for restored, content in before.items():
            restored.write_bytes(content)
