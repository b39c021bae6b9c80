# SPDX-License-Identifier: Apache-2.0
"""What the documents say is so: pages are current, links lead somewhere, commands exist, examples run, threats have tests."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from chopmark.adapters.kms.file import create
from chopmark.apps.cli.main import COMMANDS, cli
from chopmark.errors import FAILURES
from chopmark.keys import Algorithm

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ATTACKS = ROOT / "tests" / "attacks"
NOT_BUILT = frozenset({"key-refused", "seal-broken"})
MARKDOWN = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_generated_pages_and_links() -> None:
    done = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# Commands


def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None, f"{path} {name}"
            yield from walk(f"{path} {name}", found)


def test_every_command_can_be_imported() -> None:
    assert set(COMMANDS) == set(cli.list_commands(click.Context(cli)))
    assert len(list(walk("chopmark", cli))) > len(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_of_its_own(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for path, found in walk(f"chopmark {name}", command):
        text = found.help or ""
        assert "Example" in text, f"{path}: its help has no Example"
        examples = [line.strip() for line in text.split("Example", 1)[1].splitlines()]
        examples = [line for line in examples if line.startswith("chopmark ")]
        assert any(line.startswith(path) for line in examples), f"{path}: its Example does not show it"
        for line in examples:
            check_call(line, where=path)


def calls(text: str) -> Iterator[str]:
    """Yield each call of chopmark in code: blocks, indented lines, and inline code."""
    for line in text.splitlines():
        if match := re.match(r"(?: {4,}|\$ |)(?:\.venv/bin/)?(chopmark [a-z].*)", line):
            yield match.group(1)
    yield from re.findall(r"`(?:\.venv/bin/)?(chopmark [a-z][^`]*)`", text)


def check_call(line: str, *, where: str) -> None:
    """Check that a line calls a command that exists, with options that it has."""
    call = line.split("  ", maxsplit=1)[0]  # what stands beside it is a remark
    words = shlex.split(call, comments=True)
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"{where}: `{line}`: there is no `{rest[0]}`"
        command, rest = found, rest[1:]
    if command.context_settings.get("ignore_unknown_options"):
        return
    known = {name for option in command.params if isinstance(option, click.Option) for name in option.opts}
    for word in rest:
        if word == "--":
            break
        name = word.split("=", maxsplit=1)[0]
        if name.startswith("-") and name not in {"--help", "-h", "…"}:
            assert name in known, f"{where}: `{line}`: there is no option `{name}`"


@pytest.mark.parametrize("path", [path for path in MARKDOWN if path.name != "commands.md"], ids=relative)
def test_commands_in_the_documents_exist(path: Path) -> None:
    for line in calls(path.read_text(encoding="utf-8")):
        check_call(line, where=relative(path))


@pytest.mark.parametrize("path", MARKDOWN, ids=relative)
def test_verbs_in_the_documents_exist(path: Path) -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = path.read_text(encoding="utf-8")
    used = set(re.findall(r"`make ([a-z-]+)", text)) | set(
        re.findall(r"^(?: {4}|\$ )make ([a-z-]+)", text, re.MULTILINE)
    )
    assert used <= verbs, f"{relative(path)}: there is no make {', '.join(used - verbs)}"


# Names


@pytest.mark.parametrize("path", MARKDOWN, ids=relative)
def test_words_that_mean_one_thing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"in-toto\.io/attestation|inputAttestations|Key Attestation", "", text)
    assert "attestation" not in text.lower(), f"{relative(path)}: say statement (a signed claim) or evidence (a device)"


def test_the_protocol_names_every_failure_at_its_step() -> None:
    text = (DOCS / "concepts" / "trust.md").read_text(encoding="utf-8")
    rows = {int(m[1]): m[2] for m in re.finditer(r"^\| (\d+) \|(.*)$", text, re.MULTILINE)}
    assert sorted(rows) == list(range(1, 19))
    for name, failure in FAILURES.items():
        assert f"`{name}`" in rows[failure.step], f"{name} is not in step {failure.step} of trust.md"


# Threats


def attack_tests() -> dict[str, set[str]]:
    return {
        path.name: {
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        }
        for path in ATTACKS.glob("test_*.py")
    }


def threat_links() -> list[tuple[str, str]]:
    text = (DOCS / "threats.md").read_text(encoding="utf-8")
    return re.findall(r"\[`?([^\]`]+)`?\]\(\.\./tests/attacks/([\w.]+)\)", text)


def test_every_threat_has_a_test() -> None:
    found = attack_tests()
    assert threat_links()
    for name, file in threat_links():
        assert file in found, f"threats.md: tests/attacks/{file} does not exist"
        assert name in found[file], f"threats.md: tests/attacks/{file} has no {name}"


def test_every_row_of_the_threat_table_names_a_test() -> None:
    text = (DOCS / "threats.md").read_text(encoding="utf-8").split("## Not answered", maxsplit=1)[0]
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| threat")]
    assert rows
    for row in rows:
        assert "](../tests/attacks/" in row, f"threats.md: no test in: {row[:80]}"


def test_every_attack_file_is_in_the_table() -> None:
    assert {file for _, file in threat_links()} == set(attack_tests())


@pytest.mark.parametrize("name", sorted(set(FAILURES) - NOT_BUILT))
def test_every_failure_is_provoked(name: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in ATTACKS.glob("test_*.py")]
    assert any(f'"{name}"' in text for text in texts), f"no test in tests/attacks provokes {name}"


# Examples


def python_blocks() -> list[tuple[str, str]]:
    return [
        (f"{relative(path)}:{number}", code)
        for path in MARKDOWN
        for number, (language, code) in enumerate(BLOCK.findall(path.read_text(encoding="utf-8")))
        if language == "python"
    ]


@pytest.mark.parametrize(("where", "code"), python_blocks())
def test_python_in_the_documents_runs(where: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with what readers have: a model, and a packager's keys."""
    (tmp_path / "model").mkdir()
    for name in ("model.onnx", "model/model.onnx"):
        (tmp_path / name).write_bytes(b"weights")
    key = create(tmp_path / "packager.pem", Algorithm.ECDSA_P256)
    (tmp_path / "packager.pub").write_text(key.public.pem, encoding="ascii")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, where, "exec"), {"__name__": "example"})  # noqa: S102 - our own documents


def test_the_unprotected_app_is_the_one_that_is_attacked() -> None:
    app = (ROOT / "src/chopmark/apps/cli/bank/unprotected_app.py").read_text(encoding="utf-8")
    blocks = BLOCK.findall((DOCS / "guides" / "protect-an-app.md").read_text(encoding="utf-8"))
    assert blocks[0][1] in app
    compile(blocks[1][1], "protect-an-app.md", "exec")


@cache
def modules_with_examples() -> tuple[str, ...]:
    src = ROOT / "src"
    return tuple(
        ".".join(path.relative_to(src).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(src.rglob("*.py"))
        if ">>> " in path.read_text(encoding="utf-8")
    )


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert result.attempted
    assert not result.failed


def test_the_readme_shows_a_refusal_first() -> None:
    """The first screen: a sentence, the spine, a transcript of at most ten lines that ends in a refusal."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    _, transcript = next(iter(BLOCK.findall(text)))
    lines = transcript.strip().splitlines()
    assert len(lines) <= 10
    assert lines[0].startswith("$ ")
    assert "REFUSED" in lines[-1]
    assert any(name in lines[-1] for name in FAILURES)
