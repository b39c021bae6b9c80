# SPDX-License-Identifier: Apache-2.0
"""What ``doctor`` looks at. Reads only."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import sys
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chopmark.errors import ChopmarkError

if TYPE_CHECKING:
    from chopmark.apps.cli.wiring import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        ok: None for what may well be so, and has to be known: keys that are elsewhere, a part that is not started.
    """

    what: str
    ok: bool | None
    detail: str
    hint: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"hint": "" if self.ok else self.hint}


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
        outside = error.code == "no-workspace"
        what = "none here, and none is needed to try things out" if outside else error.message
        return [Finding(what="workspace", ok=outside, detail=what, hint=error.hint)]
    root = Finding(
        what="root",
        ok=left > timedelta(seconds=site.trust.limits.key_warning_s),
        detail=f"version {site.root.version}, {_in_days(left)}",
        hint="the root owners sign a new version: chopmark trust change --renew",
    )
    return [root, *_keys(site), *_lives(site), _ledger(site), *_services(site)]


def _keys(site: Site) -> list[Finding]:
    """Look at the mode of every private key here, and at which roles have none here."""
    files = [*site.workspace.keys.glob("*/*.pem"), *site.workspace.keys.glob("*/git"), site.workspace.token_file]
    open_to_others = [path for path in files if path.exists() and path.stat().st_mode & 0o077]
    shown = " ".join(map(str, open_to_others)) or f"{len(files)} files, for their owner only"
    hint = f"chmod 600 {shown}; consider what was readable as known to others"
    away = [name for name in site.trust.owners if not any(site.workspace.owner_keys(name).glob("*.pem"))]
    where = f"elsewhere: {', '.join(away)}" if away else "those of every owner are on this machine"
    return [
        Finding(what="key files", ok=not open_to_others, detail=shown, hint=hint),
        Finding(what="keys", ok=None if away else True, detail=where, hint="run there what they sign"),
    ]


def _lives(site: Site) -> list[Finding]:
    """Look at how long each key is still used, and at keys of before that are still here."""
    from chopmark.apps.cli.keyring import ids_here, known_keys
    from chopmark.release.keyring import KeyState

    known = known_keys(site)
    here = ids_here(site)
    over = [key for key in known if key.state is KeyState.EXPIRED]
    soon = [key for key in known if key.state is KeyState.EXPIRING]
    due = list(dict.fromkeys(key.owner for key in (*over, *soon)))
    words = [f"{key.owner} {key.key.algorithm} {_in_days(key.left)}" for key in (*over, *soon) if key.left is not None]
    lefts = [key.left for key in known if key.left is not None]
    detail = ", ".join(words) or (f"the next one {_in_days(min(lefts))}" if lefts else "none of them expires")
    found = [
        Finding(
            what="key expiry",
            ok=not due,
            detail=detail,
            hint=f"rotate them while old and new overlap: chopmark keys rotate {due[0]}" if due else "",
        )
    ]
    left_over = [key for key in known if key.state is KeyState.RETIRED and key.keyid in here]
    if left_over:
        paths = [
            str(file.path)
            for owner in dict.fromkeys(key.owner for key in left_over)
            for file in site.keys_here(owner)
            if file.public.keyid in {key.keyid for key in left_over}
        ]
        hint = f"nobody counts what they sign; move them to where they are kept, or: rm {' '.join(paths)}"
        found.append(Finding(what="retired keys", ok=None, detail=", ".join(paths), hint=hint))
    return found


def _in_days(left: timedelta) -> str:
    return f"expires in {left.days} days" if left > timedelta(0) else f"expired {-left.days} days ago"


def _ledger(site: Site) -> Finding:
    try:
        report = site.ledger.fsck()
    except ChopmarkError as error:
        return Finding(what="ledger", ok=False, detail=error.message, hint=error.hint or "chopmark ledger fsck")
    detail = f"{report.size} entries" if report.ok else f"{len(report.problems)} problems"
    return Finding(what="ledger", ok=report.ok, detail=detail, hint="chopmark ledger fsck")


def _services(site: Site) -> list[Finding]:
    urls = {
        "service": (site.workspace.service_url, ""),
        "security host": (site.workspace.security_url, " --only security"),
    }
    urls |= {name: (url, " --only witness") for name, url in site.workspace.witness_urls.items()}
    return [
        Finding(what=name, ok=_answers(url) or None, detail=url, hint=f"not running; start it: chopmark serve{part}")
        for name, (url, part) in urls.items()
    ]


def _answers(url: str) -> bool:
    """Tell whether somebody listens at the address."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=1):
            return True
    except OSError:
        return False
