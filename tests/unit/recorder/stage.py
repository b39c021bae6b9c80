# SPDX-License-Identifier: Apache-2.0
"""A repository with a script that is recorded, run as somebody runs it; and what its statement says."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from chopmark.apps.recorder import Run
from chopmark.builds import Provenance, decode_provenance
from chopmark.statements import decode_statement, encode_statement
from unit.builds.workbench import Bench

BODY = """\
    rows = Path("data/rows.csv").read_text()
    Path("weights.npz").write_text(rows)
"""
HEAD = "import chopmark\nfrom pathlib import Path\n"


class Stage(Bench):
    """The repository of :class:`Bench`, its dataset inside and ignored, and the current folder in it."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(base)
        monkeypatch.chdir(self.repo)
        self.write("data/rows.csv", "1\n2\n")
        self.write(".gitignore", "data/\n*.npz\n")

    def script(self, text: str, *, name: str = "step.py", commit: bool = True) -> Path:
        path = self.write(name, HEAD + text)
        if commit:
            self.commit()
        return path

    def block(self, body: str = BODY, *, call: str = "'train'", commit: bool = True) -> Run:
        """Run a script with one block; return its run."""
        return play(self.script(f"with chopmark.record({call}) as run:\n{body}", commit=commit))["run"]


def play(path: Path) -> dict[str, Any]:
    return runpy.run_path(str(path), run_name="__main__")


def said(run: Run) -> Provenance:
    """Return what the run's statement says to whoever reads its bytes."""
    statement = decode_statement(encode_statement(run.statement))
    assert statement.subjects == run.statement.subjects
    return decode_provenance(statement.predicate)


def inputs(run: Run) -> list[str]:
    return [d.name for d in said(run).dependencies if d.name != "code" and not d.name.startswith("code:")]


def outputs(run: Run) -> list[str]:
    listed = said(run).external["outputs"]
    assert isinstance(listed, list)
    return listed
