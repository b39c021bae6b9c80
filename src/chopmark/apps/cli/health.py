# SPDX-License-Identifier: Apache-2.0
"""What ``doctor`` looks at. Reads only."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from chopmark.errors import ChopmarkError

SOON_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str
    hint: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def examine(start: Path) -> list[Finding]:
    """Look at this machine, and at the workspace that *start* is in."""
    findings = [_program("git"), _program("ssh-keygen")]
    findings += [_extra(module, extra) for module, extra in (("onnxruntime", "onnx"), ("litestar", "service"))]
    linux = sys.platform == "linux"
    detail = "Linux: models load from sealed memory" if linux else f"{sys.platform}: no sealed memory files"
    findings.append(Finding(what="sealed memory", ok=linux, detail=detail, hint="run devices on Linux"))
    return findings + _workspace(start)


def _program(name: str) -> Finding:
    path = shutil.which(name)
    return Finding(what=name, ok=path is not None, detail=path or "not found", hint=f"install {name}")


def _extra(module: str, extra: str) -> Finding:
    there = importlib.util.find_spec(module) is not None
    return Finding(
        what=module, ok=there, detail="installed" if there else "not installed", hint=f"pip install 'chopmark[{extra}]'"
    )


def _workspace(start: Path) -> list[Finding]:
    from chopmark.apps.cli.wiring import Site

    try:
        site = Site.at(start)
        left = site.root.expires - site.clock.now()
    except ChopmarkError as error:
        return [Finding(what="workspace", ok=error.code == "no-workspace", detail=error.message, hint=error.hint)]
    findings = [
        Finding(
            what="root",
            ok=left.days > SOON_DAYS,
            detail=f"version {site.root.version}, expires in {left.days} days",
            hint="the root owners sign a new version",
        )
    ]
    try:
        report = site.ledger.fsck()
        findings.append(
            Finding(
                what="ledger",
                ok=report.ok,
                detail=f"{site.ledger.checkpoint.size} entries",
                hint="chopmark ledger fsck",
            )
        )
    except ChopmarkError as error:
        findings.append(Finding(what="ledger", ok=False, detail=error.message, hint=error.hint))
    return findings
