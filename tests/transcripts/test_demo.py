# SPDX-License-Identifier: Apache-2.0
"""The demo tells the truth: it ends well, says what it must, and every command that it prints works afterwards."""

from __future__ import annotations

import json
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
    assert max(map(len, text.splitlines())) <= 100


def test_the_attacks_are_refused_each_by_its_own_name(told: tuple[Path, str]) -> None:
    _, text = told
    found = re.findall(r"REFUSED  (\S+) +chopmark why (R\d+)", text)
    assert [name for name, _ in found] == REFUSALS
    assert [number for _, number in found] == ["R1", "R2", "R3", "R4", "R5"]
    assert "kiosk-2 HELD" in text
    assert re.search(r"cheque for 100 +→ +reads 900", text), "the unprotected application is fooled"


def test_each_attack_is_one_alert_and_the_hold_stays_on_file(told: tuple[Path, str]) -> None:
    folder, text = told
    assert text.index("HELD") < text.index("undo the swap") < text.index("channel-rollback")
    alerts = json.loads(run("fleet", "alerts", "--json", cwd=folder).stdout)["alerts"]
    assert [alert["status_code"] for alert in alerts] == REFUSALS[::-1]
    past = json.loads(run("why", "kiosk-2", "--json", cwd=folder).stdout)["refusals"]
    assert [(refusal["code"], refusal["settled"]) for refusal in past] == [(code, True) for code in REFUSALS[::-1]]
    assert "undo the change" not in run("why", "R1", cwd=folder).stdout


def test_what_was_done_is_not_done_again(told: tuple[Path, str]) -> None:
    folder, _ = told
    wanted = {
        "release merge digits-1": (2, "already-merged"),
        "release approve digits-3 --as owner-b": (2, "already-merged"),
        "release rollback digits": (1, "fallback-unapproved"),  # v3, which devices have seen, names v2 alone
        "fleet release kiosk-1 --by me": (2, "not-held"),
    }
    for command, (code, name) in wanted.items():
        done = run(*command.split(), "--json", cwd=folder)
        assert (done.returncode, json.loads(done.stdout)["error"]) == (code, name), command


def test_the_operator_does_not_say_all_is_well_where_security_is_silent(told: tuple[Path, str]) -> None:
    folder, _ = told
    done = run("operator", "once", cwd=folder)
    assert done.returncode == 3
    assert "the security host is silent" in done.stdout


def test_why_of_a_digest_is_the_decision_over_it(told: tuple[Path, str]) -> None:
    folder, _ = told
    made = json.loads(run("release", "history", "--json", cwd=folder).stdout)["decisions"]
    assert [(d["model"], d["version"], d["allowed"]) for d in made] == [
        ("digits", "1", False),
        ("digits", "1", True),
        ("digits", "2", True),
        ("digits", "3", True),
    ]
    found = json.loads(run("why", made[-1]["release"], "--json", cwd=folder).stdout)
    assert (found["decision"], found["allowed"], found["next"]) == (made[-1]["id"], True, None)


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
