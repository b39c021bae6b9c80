# SPDX-License-Identifier: Apache-2.0
"""A real repository with a real command that learns one number, for the tests of the steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from chopmark.adapters.processes.runner import ProcessRunner
from chopmark.adapters.processes.source import GitSource
from chopmark.builds import Builder, BuildRequest, Built, Input, Workshop, digest_of, train
from simulators import StandingClock

TRAIN = """\
import json, os, sys
from pathlib import Path
rows = [int(x) for file in sorted(Path("data").glob("*.csv")) for x in file.read_text().split()[1:]]
params = json.loads(Path("params.json").read_text())
Path("out").mkdir()
Path("out/weights.txt").write_text(f"{sum(rows) * params['rate']}")
print("learned from", sorted(p.name for p in Path("data").iterdir()), params)
"""


WORKSHOP = Workshop(
    builder=Builder(id="https://acme.example/builder", version={"chopmark": "0.1.0"}),
    clock=StandingClock(),
    new_id=lambda: "run-1",
    path=f"{Path(sys.executable).parent}:/usr/bin:/bin",
)
RUNNER = ProcessRunner()


class Bench:
    """A committed repository in ``repo`` and a dataset in ``data``, which is no part of it."""

    def __init__(self, base: Path) -> None:
        self.repo = base / "repo"
        self.data = base / "data"
        self.out = base / "out"
        self.repo.mkdir()
        self.data.mkdir()
        (self.data / "a.csv").write_text("x\n1\n2\n")
        (self.data / "test.csv").write_text("x\n100\n")
        self.git("init", "--quiet", "--initial-branch=main")
        self.write("train.py", TRAIN)
        self.write("params.json", '{"rate": 0.5, "seed": 1}')
        self.commit()

    def git(self, *arguments: str) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
        }
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@acme.example")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=self.repo, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> Path:
        path = self.repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "change")
        return self.git("rev-parse", "HEAD")

    @property
    def source(self) -> GitSource:
        return GitSource(self.repo)

    @property
    def dataset(self) -> Input:
        return Input(
            name="data/numbers", path=self.data, digest=digest_of(self.data), place="data", withheld=("test.csv",)
        )

    def request(self, *command: str, **changes: object) -> BuildRequest:
        settings: dict[str, object] = {
            "model": "numbers",
            "command": command or ("python", "train.py"),
            "outputs": ("out/weights.txt",),
            "inputs": (self.dataset,),
            "params_file": "params.json",
        }
        return BuildRequest(**{**settings, **changes})  # type: ignore[arg-type]

    def train(self, request: BuildRequest | None = None) -> Built:
        return train(request or self.request(), workshop=WORKSHOP, source=self.source, runner=RUNNER, out=self.out)

    def train_with(self, script: str, **changes: object) -> Built:
        """Commit *script* as the command's code and run it."""
        self.write("train.py", script)
        self.commit()
        return self.train(self.request(**changes))
