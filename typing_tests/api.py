# SPDX-License-Identifier: Apache-2.0
"""What an application may rely on, as types: checked by mypy, never run."""

from pathlib import Path
from typing import assert_type

import chopmark
from chopmark.apps.signing import Signed
from chopmark.apps.signing import Verified as VerifiedFolder
from chopmark.artifacts import Digest, Manifest, scan
from chopmark.channel import Release
from chopmark.device import Loaded, Refusal, Verdict, Verified, check
from chopmark.errors import ChopmarkError, Refused, Retry


def one_call() -> None:
    with chopmark.load("digits", device=Path("/var/lib/chopmark")) as model:
        assert_type(model, Loaded)
        assert_type(model.run([[0.0]]), list[list[float]])
        assert_type(model.read("labels.json"), bytes)
        assert_type(model.release, Release)


def signing() -> None:
    assert_type(chopmark.sign("model", key=Path("packager.pem")), Signed)
    found = chopmark.verify(Path("model"), key="packager.pub", ignore=[".git"])
    assert_type(found, VerifiedFolder)
    assert_type(found.files, dict[str, Digest])


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
