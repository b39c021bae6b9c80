# SPDX-License-Identifier: Apache-2.0
"""The owners of a real workspace change, twice, with keys in three folders; its operator publishes, its devices follow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from chopmark.adapters.kms import file as kms
from chopmark.keys import Algorithm

pytestmark = pytest.mark.slow

CHOPMARK = [sys.executable, "-m", "chopmark"]


def run(*arguments: str, cwd: Path, code: int = 0) -> str:
    done = subprocess.run([*CHOPMARK, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, f"{arguments}\n{done.stdout}{done.stderr}"
    return done.stdout


def ask(*arguments: str, cwd: Path, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", cwd=cwd, code=code))


@contextmanager
def serving(folder: Path, part: str) -> Iterator[None]:
    command = [*CHOPMARK, "serve", "--only", part]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def publish(bank: Path) -> Any:
    """Let the operator look until what it needs is started."""
    for _ in range(30):
        done = subprocess.run([*CHOPMARK, "operator", "once", "--json"], cwd=bank, capture_output=True, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)
    raise AssertionError(done.stdout)


def seen_root(bank: Path) -> int:
    state = json.loads((bank / "kiosks" / "kiosk-1" / "state.json").read_bytes())
    return int(state["state"]["root"]["version"])


def test_root_is_rotated_by_three_people_and_devices_follow(tmp_path: Path) -> None:
    bank, keys = tmp_path / "bank", tmp_path / "owner-d"
    run("demo", "--folder", str(bank), cwd=tmp_path)
    for algorithm in (Algorithm.ED25519, Algorithm.ML_DSA_65):
        public = kms.create(keys / f"{algorithm}.pem", algorithm).public
        (tmp_path / f"{algorithm}.pub").write_text(public.pem)
    own = [f"owner-d={tmp_path / name}.pub" for name in ("ed25519", "ml-dsa-65")]
    folder = bank / ".chopmark" / "keys"
    with ExitStack() as stack:
        for part in ("service", "witness", "security"):
            stack.enter_context(serving(bank, part))
        publish(bank)
        # Root 2, through Git: owner-d comes; owner-a, owner-c and owner-d sign.
        change = ["--add-owner", "owner-d", "--add-key", own[0], "--add-key", own[1]]
        change += [
            "--root-owners",
            "owner-a,owner-b,owner-d",
            "--role",
            "approver",
            "owners=owner-b,owner-c,owner-a,owner-d",
        ]
        assert ask("trust", "change", *change, "--branch", cwd=bank)["proposal"] == "trust/2"
        for owner in (folder / "owner-a", folder / "owner-c"):
            ask("trust", "sign", "trust/2", "--keys", str(owner), "--yes", cwd=bank)
        assert ask("trust", "status", "trust/2", cwd=bank, code=1)["waiting"] == ["owner-b", "owner-d"]
        ask("trust", "sign", "trust/2", "--keys", str(keys), "--yes", cwd=bank)
        assert ask("trust", "apply", "trust/2", cwd=bank)["root"]["version"] == 2
        assert publish(bank)["published"] is not None
        run("device", "run", "kiosks/kiosk-1", "--once", cwd=bank)
        assert seen_root(bank) == 2
        # Root 3, through files: owner-a's keys are stolen. Exactly the releases that lean on them are listed.
        theft = ["--remove-owner", "owner-a", "--reason", "compromised", "--until", "30"]
        theft += ["--root-owners", "owner-b,owner-c,owner-d"]
        told = ask("trust", "change", *theft, "--out", "theft.json", cwd=bank, code=1)
        assert told["error"] == "releases-would-stop"
        lost = {one["version"]: one["release"] for one in told["evidence"]["releases"]}
        assert sorted(lost) == ["1", "2"]
        assert not (bank / "theft.json").exists()
        for release in lost.values():
            ask("release", "sign-again", release, "--as", "owner-c", cwd=bank)
        digest = ask("trust", "change", *theft, "--out", "theft.json", cwd=bank)["digest"]
        for name, owner in (("b", folder / "owner-b"), ("d", keys)):
            out = f"{name}.json"
            ask("trust", "sign", "theft.json", "--keys", str(owner), "--digest", digest, "--out", out, cwd=bank)
        assert ask("trust", "apply", "d.json", "b.json", cwd=bank)["root"]["version"] == 3
        assert publish(bank)["published"] is not None
        run("device", "run", "kiosks/kiosk-1", "--once", cwd=bank)
        assert "v2 in slot B: verified" in run("device", "verify", "kiosks/kiosk-1", cwd=bank)
        assert seen_root(bank) == 3
        shown = ask("trust", "show", cwd=bank)
        assert {(old["owner"], old["reason"], old["until"]) for old in shown["retired"]} == {
            ("owner-a", "compromised", 30)
        }
