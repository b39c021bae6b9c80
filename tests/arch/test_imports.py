# SPDX-License-Identifier: Apache-2.0
"""The import rules of CONTRIBUTING.md that import-linter cannot see: lazy imports, tables of strings, what a fresh interpreter loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "chopmark"
PACKAGES = frozenset(path.name for path in SRC.iterdir() if (path / "__init__.py").exists())

# What a device must not carry: rooms of the server side, server halves of shared rooms, servers, databases, training.
NOT_ON_A_DEVICE = (
    "chopmark.release",
    "chopmark.fleet",
    "chopmark.data",
    "chopmark.builds",
    "chopmark.inspection",
    "chopmark.policy",
    "chopmark.channel.publish",
    "chopmark.channel.status",
    "chopmark.ledger.agreement",
    "chopmark.ledger.sequencer",
    "chopmark.ledger.feed",
    "chopmark.ledger.carry",
    "chopmark.ledger.witness",
    "chopmark.ledger.export",
    "chopmark.ledger.compare",
    "chopmark.ledger.events",
    "chopmark.ledger.files",
    "chopmark.ledger.followed",
    "chopmark.ledger.fsck",
    "chopmark.ledger.index",
    "chopmark.ledger.intake",
    "chopmark.ledger.objects",
    "chopmark.ledger.place",
    "chopmark.ledger.rekor",
    "chopmark.ledger.monitor",
    "chopmark.ledger.fsck_files",
    "chopmark.ledger.collect",
    "chopmark.ledger.freeze",
    "chopmark.ledger.migrate",
    "chopmark.ledger.prune",
    "chopmark.ledger.helpers",
    "chopmark.ledger.rehash",
    "chopmark.ledger.seal",
    "chopmark.ledger.shown",
    "chopmark.ledger.staging",
    "chopmark.ledger.static",
    "chopmark.ledger.submit",
    "chopmark.ledger.tokens",
    "chopmark.apps.cli",
    "chopmark.apps.service",
    "chopmark.apps.operator",
    "chopmark.apps.recorder",
    "chopmark.adapters.git",
    "chopmark.adapters.sql",
    "chopmark.adapters.processes",
    "chopmark.adapters.alerts",
    "litestar",
    "uvicorn",
    "sqlite3",
    "psycopg",
    "obstore",
    "sklearn",
    "onnx",
    "cel_expr_python",
    "yaml",
    "click",
    "rich",
)

# Clients of things outside this process, and the only places that may import each.
OUTSIDE = {
    "sqlite3": ("adapters/sql/",),
    "urllib3": ("adapters/http/",),
    "urllib.request": ("adapters/http/",),
    "http.client": ("adapters/http/",),
    "requests": ("adapters/http/",),
    "httpx": ("adapters/http/",),
    "boto3": ("adapters/",),
    "psycopg": ("adapters/sql/",),
    "obstore": ("adapters/blobs/",),
    "onnxruntime": ("adapters/runtimes/",),
    # The demo plays the people at the keyboards and the attacker: it starts programs as they would.
    "subprocess": ("adapters/", "apps/cli/demo/"),
    "litestar": ("apps/service/",),
    "uvicorn": ("apps/service/",),
    "yaml": ("documents.py",),
}

# Scripts of the demo's bank: copied into its repository and run there, never imported by the product.
NOT_THE_PRODUCT = ("apps/cli/bank/",)

# Modules that other packages may import besides a package's face. Either they do not belong on a device, or they run on
# one and have to be loaded only when they are used.
SECOND_FACES = {
    "artifacts.ports": "ports stand beside the face: their adapters import nothing else",
    "artifacts.selftest": "recorded by builds, run by device; others never see it",
    "channel.follow": "steps 5 to 9, as a namespace: follow.timestamp, follow.snapshot …",
    "channel.ports": "as artifacts.ports",
    "channel.publish": "the operator's half",
    "channel.status": "the security host's half",
    "channel.walk": "steps 5 to 9 in order, for devices and for `channel status`",
    "fleet.model": "as fleet.ports",
    "fleet.ports": "as artifacts.ports",
    "ledger.agreement": "a server's half: a log against its head, and what an ended log refuses with",
    "ledger.carry": "a server's half: witnesses without a network",
    "ledger.collect": "a tool's half: partial tiles that nobody needs",
    "ledger.export": "a server's half",
    "ledger.feed": "a server's half",
    "ledger.freeze": "a tool's half: what is built on a log's end",
    "ledger.fsck": "a tool's half: a log against itself",
    "ledger.fsck_files": "a tool's half: static files against their checkpoint",
    "ledger.migrate": "a tool's half: copies and mirrors",
    "ledger.prune": "a tool's half: the retention policy",
    "ledger.helpers": "a tool's half: much reading, in several processes",
    "ledger.static": "a tool's half: readers of static files",
    "ledger.files": "a server's half",
    "ledger.index": "people, monitors and mirrors rely on it; a device does not",
    "ledger.intake": "a server's half: many who append at once",
    "ledger.compare": "a tool's half: several checkpoints of one log",
    "ledger.events": "as ledger.monitor",
    "ledger.followed": "as ledger.ports: what a monitor's store keeps",
    "ledger.monitor": "a tool's half: following a log",
    "ledger.objects": "a server's half: order in a database, files in an object store",
    "ledger.ports": "as artifacts.ports",
    "ledger.place": "where a log of its own or a witness lives: servers and tools",
    "ledger.rekor": "what Rekor logs and answers: tools and their adapter",
    "ledger.sequencer": "a server's half: the log",
    "ledger.submit": "appends to a log that somebody else runs",
    "ledger.tokens": "a server's half: who may append",
    "ledger.witness": "a server's half: being a witness",
    "release.evidence": "the ledger as a record of statements",
    "release.founding": "used once, by `chopmark init`",
    "release.life": "reads the ledger; needs no repository",
    "release.record": "what the ledger says about releases",
    "release.reconcile": "the operator's half",
    "release.workspace": "where things are; needs no repository",
}

MAX_LINES = 600


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    module: str
    lazy: bool

    @property
    def package(self) -> str:
        """The package of ours that imports."""
        return self.file.split("/", maxsplit=1)[0].removesuffix(".py")

    def __str__(self) -> str:
        return f"src/chopmark/{self.file}:{self.line} imports {self.module}"


def sources() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


@cache
def face(package: str) -> frozenset[str]:
    """The names in a package's __all__; empty where it has no face."""
    for node in ast.parse((SRC / package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


def is_module(dotted: str) -> bool:
    path = SRC.parent / dotted.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@cache
def imports() -> tuple[Import, ...]:
    """Every import in the source, lazy ones and those for type checkers included."""
    return tuple(found for path in sources() for found in _imports_of(path))


def _imports_of(path: Path) -> Iterator[Import]:
    file = path.relative_to(SRC).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, node.col_offset > 0)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: import by the full name"
            module = node.module or ""
            yield Import(file, node.lineno, module, node.col_offset > 0)
            parts = module.split(".")
            for alias in node.names:
                named = f"{module}.{alias.name}"
                # `from chopmark.statements import verify` is the function of that name, which the face exports.
                if (
                    parts[0] == "chopmark"
                    and is_module(named)
                    and (len(parts) == 1 or alias.name not in face(parts[1]))
                ):
                    yield Import(file, node.lineno, named, node.col_offset > 0)


def below(module: str, name: str) -> bool:
    return module == name or module.startswith(name + ".")


@pytest.mark.parametrize(
    "module", ["chopmark.device", "chopmark.device.refresh", "chopmark.apps.agent.main", "chopmark.apps.library"]
)
def test_a_device_carries_no_server(module: str) -> None:
    script = f"import {module}, sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{module} cannot be imported alone:\n{done.stderr}"
    loaded = done.stdout.split()
    found = sorted(m for m in loaded if any(below(m, name) for name in NOT_ON_A_DEVICE))
    assert not found, f"importing {module} loads {', '.join(found)}"


def test_the_load_gate_of_the_face_carries_no_server() -> None:
    """``chopmark.load`` is on devices; ``chopmark.record``, of the same face, is not."""
    script = "import chopmark, sys; chopmark.load; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "chopmark.device" in loaded
    assert not [m for m in loaded if any(below(m, name) for name in NOT_ON_A_DEVICE)]


def test_importing_chopmark_loads_nothing_else() -> None:
    script = "import chopmark, sys; print('\\n'.join(m for m in sys.modules if m.startswith('chopmark')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["chopmark"]


def test_the_log_cannot_read_what_it_logs() -> None:
    wrong = [str(i) for i in imports() if i.package == "ledger" and below(i.module, "chopmark.statements")]
    assert not wrong, "\n".join(wrong)


def test_only_wiring_names_adapters() -> None:
    wrong = [
        str(i)
        for i in imports()
        if below(i.module, "chopmark.adapters")
        and i.package != "adapters"
        and not (i.file.startswith("apps/") and i.file.endswith("/wiring.py"))
    ]
    assert not wrong, "\n".join(wrong)


def test_apps_and_adapter_families_are_strangers() -> None:
    def foreign(i: Import) -> bool:
        place, parts = i.file.split("/"), i.module.split(".")
        if i.lazy and i.file.startswith("apps/cli/") and parts[-1] == "main":
            return False  # the command line starts the other programs, and only when it is told to
        if i.lazy and (i.file, i.module) == ("apps/recorder/wiring.py", "chopmark.apps.cli.ledger.wiring"):
            return False  # one way into a workspace's ledger, and only where there is a workspace
        return parts[:2] == ["chopmark", place[0]] and len(parts) > 2 and parts[2] != place[1]

    wrong = [str(i) for i in imports() if i.package in ("apps", "adapters") and foreign(i)]
    assert not wrong, "\n".join(wrong)


def test_what_is_outside_is_reached_by_adapters_alone() -> None:
    wrong = [
        str(i)
        for i in imports()
        for name, places in OUTSIDE.items()
        if below(i.module, name) and not i.file.startswith((*places, *NOT_THE_PRODUCT))
    ]
    assert not wrong, "\n".join(wrong)


def test_across_packages_faces_are_imported() -> None:
    wrong = []
    for i in imports():
        parts = i.module.split(".")
        if parts[0] != "chopmark" or len(parts) < 3 or parts[1] in (i.package, "adapters", "apps"):
            continue
        if parts[1] in PACKAGES and ".".join(parts[1:3]) not in SECOND_FACES:
            wrong.append(str(i))
    assert not wrong, "\n".join(wrong)


def test_every_second_face_is_used() -> None:
    used = {".".join(i.module.split(".")[1:3]) for i in imports() if i.module.split(".")[1:2] != [i.package]}
    assert sorted(set(SECOND_FACES) - used) == []


def test_files_are_of_a_size_to_read() -> None:
    long = [
        f"{p.relative_to(ROOT)}: {n} lines" for p in sources() if (n := len(p.read_text().splitlines())) > MAX_LINES
    ]
    assert not long, "\n".join(long)


def test_files_begin_with_their_licence() -> None:
    line = "# SPDX-License-Identifier: Apache-2.0\n"
    paths = [
        *sources(),
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "docs").rglob("*.py"),
        *(ROOT / "bench").rglob("*.py"),
    ]
    wrong = [str(p.relative_to(ROOT)) for p in paths if p.stat().st_size and not p.read_text().startswith(line)]
    assert not wrong, "\n".join(wrong)
