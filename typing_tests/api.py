# SPDX-License-Identifier: Apache-2.0
"""What an application may rely on, as types: checked by mypy, never run."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, assert_type

import chopmark
from chopmark.apps.recorder import Run
from chopmark.artifacts import Digest, Manifest, scan
from chopmark.channel import Release
from chopmark.device import Loaded, Refusal, Verdict, Verified, check
from chopmark.errors import ChopmarkError, Refused, Retry
from chopmark.statements import Envelope, Statement


def one_call() -> None:
    with chopmark.load("digits", device=Path("/var/lib/chopmark")) as model:
        assert_type(model, Loaded)
        assert_type(model.run([[0.0]]), list[list[float]])
        assert_type(model.read("labels.json"), bytes)
        assert_type(model.release, Release)


def a_block_and_a_function() -> None:
    with chopmark.record("train", key=Path("builder.pem")) as run:
        assert_type(run, Run)
        run.param(epochs=3)
        assert_type(run.input("data"), Path)
        assert_type(run.output("model.onnx"), Path)
    assert_type(run.statement, Statement)
    assert_type(run.envelope, Envelope | None)
    assert_type(run.entry, int | None)
    assert_type(run.save("train.json"), Path)
    assert_type(fit(Path("data"), epochs=3), int)
    assert_type(fit.last, Run | None)
    fit("data")  # type: ignore[arg-type]
    waiting = assert_type(later(), Coroutine[Any, Any, str])
    waiting.close()


@chopmark.record("train")
def fit(rows: Path, *, epochs: int = 1) -> int:
    return epochs + len(rows.parts)


@chopmark.record("convert")
async def later() -> str:
    return "done"


def a_no_is_told_apart(error: ChopmarkError) -> str:
    assert_type(error.retry, Retry)
    if isinstance(error, Refused):
        assert_type(error.step, int)
    return error.code


def digests() -> None:
    assert_type(scan(Path("package")), Manifest)
    assert_type(Digest.of(b"").hex, str)


def verdicts(verdict: Verdict) -> str:
    match verdict:
        case Verified():
            return verdict.release.version
        case Refusal():
            return verdict.code


assert callable(check)
