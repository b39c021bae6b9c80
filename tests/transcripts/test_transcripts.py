# SPDX-License-Identifier: Apache-2.0
"""Conversations with the command line, written down as a user sees them: each ``*.txt`` beside this file is one.

$ chopmark hash model.onnx --json      a command; each file starts in an empty folder that holds model.onnx
{"ok": true, …                         what it says on stdout; … stands for anything
! hint: …                              what it says on stderr
[1]                                    its exit code, where that is not 0
$ write model.onnx other               replaces a file by text; `chmod`, `mkdir`, `rm`, `move` and `cd` work too
$ custom evil.onnx com.evil            writes a model whose operator is of another domain
$ public key.pem key.pub               writes the public half of a private key
$ key key.pem ed25519                  makes a private key, as `keys` and HSMs do; `copy` copies a file
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import pytest
from cryptography.hazmat.primitives import serialization
from onnx import TensorProto, helper

from chopmark.adapters.kms import file as kms
from chopmark.apps.cli.main import run
from chopmark.keys import Algorithm

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.txt"))
GUIDES = [HERE.parents[1] / "docs" / "guides" / name for name in ("operate-a-ledger.md", "trust-ceremony.md")]
"""Pages whose ``console`` blocks are a conversation."""


@dataclass
class Turn:
    line: int
    command: str
    wanted: list[str] = field(default_factory=list)
    code: int = 0


def turns(text: str) -> Iterator[Turn]:
    turn: Turn | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("$ "):
            if turn:
                yield turn
            turn = Turn(number, line[2:])
        elif line.startswith("#") or turn is None:
            continue
        elif found := re.fullmatch(r"\[(\d)\]", line):
            turn.code = int(found.group(1))
        else:
            turn.wanted.append(line)
    if turn:
        yield turn


def speak(command: str) -> tuple[int, str]:
    """Run one command line; return the exit code, and stdout with stderr's lines marked after it."""
    words = shlex.split(command)
    if words[0] != "chopmark":
        prepare(*words)
        return 0, ""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words[1:])
    return code, out.getvalue() + "".join(f"! {line}\n" for line in err.getvalue().splitlines())


def prepare(word: str, *arguments: str) -> None:
    """Do what a user does between two commands."""
    words: dict[str, Callable[..., object]] = {
        "write": lambda path, text: Path(path).write_text(text),
        "custom": lambda path, domain: Path(path).write_bytes(a_model(domain)),
        "public": lambda path, target: Path(target).write_bytes(public_half(Path(path).read_bytes())),
        "chmod": lambda mode, path: Path(path).chmod(int(mode, 8)),
        "mkdir": lambda path: Path(path).mkdir(),
        "rm": lambda path: Path(path).unlink(),
        "move": lambda path, target: Path(path).rename(target),
        "copy": shutil.copyfile,
        "key": lambda path, algorithm: kms.create(Path(path), Algorithm(algorithm)),
        "link": lambda target, path: Path(path).symlink_to(target),
        "cd": os.chdir,
        "seq": lambda first, last, _, path: Path(path).write_text(
            "".join(f"{n}\n" for n in range(int(first), int(last) + 1))
        ),
    }
    assert word in words, f"no such word: {word}"
    words[word](*arguments)


def public_half(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, password=None)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def pattern(lines: list[str]) -> str:
    text = "\n".join(lines).strip("\n")
    return ".*?".join(re.escape(part) for part in text.split("…"))


def a_model(domain: str = "") -> bytes:
    table = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    operator = "Gelu" if domain else "Softmax"
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], domain=domain)], "g", table[:1], table[1:])
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


@pytest.mark.parametrize("file", [*FILES, *GUIDES], ids=lambda file: file.stem)
def test_conversation(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("model.onnx").write_bytes(a_model())
    text = file.read_text(encoding="utf-8")
    if file in GUIDES:
        text = "".join(re.findall(r"^```console\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE))
        assert text
    for turn in turns(text):
        code, said = speak(turn.command)
        where = f"{file.name}:{turn.line}: $ {turn.command}\n{said}"
        assert code == turn.code, where
        wanted = pattern(turn.wanted)
        assert re.fullmatch(wanted, said.strip("\n"), flags=re.DOTALL), f"{where}\nwanted:\n" + "\n".join(turn.wanted)


def test_a_reader_that_has_seen_enough_changes_no_verdict() -> None:
    for arguments, code in ((["doctor"], 0), (["inspect", __file__], 1)):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([sys.executable, "-m", "chopmark", *arguments], stdout=writing, check=False)
        os.close(writing)
        assert done.returncode == code


def test_talk_that_nobody_hears_is_no_denial(tmp_path: Path) -> None:
    """Exit 1 says that something was denied; a reader of stderr that is gone denies nothing."""
    (tmp_path / "files").mkdir()
    for arguments, codes in (
        (["ledger", "fsck"], {2}),
        (["ledger", "create", "l", "--origin", "log.example/m"], {0, 3}),
    ):
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "chopmark", *arguments]
        done = subprocess.run(command, stderr=writing, stdout=subprocess.DEVNULL, cwd=tmp_path, check=False)
        os.close(writing)
        assert done.returncode in codes
