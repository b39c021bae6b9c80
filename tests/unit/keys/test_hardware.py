# SPDX-License-Identifier: Apache-2.0
"""A model is signed with a key that is nowhere in a file, through the command line, and verified by its public half alone."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from chopmark.adapters.kms import file as kms
from chopmark.apps.cli.main import cli
from chopmark.errors import ChopmarkError, UndecidedError, UsageError, VerificationError
from chopmark.keys import Algorithm, read_public_key
from simulators.tokens import Token
from simulators.vault import bao


def run(*arguments: str, error: type[ChopmarkError] | None = None):
    done = CliRunner().invoke(cli, list(arguments))
    if error is None:
        assert done.exit_code == 0, done.output + done.stderr + repr(done.exception)
    else:
        assert isinstance(done.exception, error)
    return done


@pytest.fixture(params=["token", "openbao", "encrypted file"])
def key(request, tmp_path, monkeypatch):
    if request.param == "token":
        token = Token()
        token.add(Algorithm.ECDSA_P256)
        yield token.uri()
    elif request.param == "openbao":
        with bao() as server:
            server.environment(monkeypatch)
            yield f"openbao:transit/{server.make('ecdsa-p256')}?version=1"
    else:
        kms.create(tmp_path / "key.pem", Algorithm.ECDSA_P256, passphrase=b"secret")
        (tmp_path / "word").write_text("secret\r\nand a remark\n")
        (tmp_path / "word").chmod(0o600)
        monkeypatch.setenv(kms.PASSPHRASE_FILE, str(tmp_path / "word"))
        yield str(tmp_path / "key.pem")


def test_signed_with_it_verified_without(tmp_path, key):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"weights" * 1000)
    run("keys", "public", key, "--out", str(tmp_path / "key.pub"))
    run("sign", str(tmp_path / "model"), "--key", key)
    run("verify", str(tmp_path / "model"), "--key", str(tmp_path / "key.pub"))
    (tmp_path / "model" / "weights").write_bytes(b"Weights" * 1000)
    run("verify", str(tmp_path / "model"), "--key", str(tmp_path / "key.pub"), error=VerificationError)


def test_the_public_half_is_printed(key):
    printed = read_public_key(run("keys", "public", key).stdout.encode())
    said = json.loads(run("keys", "public", key, "--json").stdout)
    assert (said["algorithm"], said["keyid"], said["public"]) == ("ecdsa-p256", printed.keyid, printed.pem)


def test_a_locked_key_without_a_terminal_is_undecided(tmp_path):
    kms.create(tmp_path / "key.pem", Algorithm.ED25519, passphrase=b"secret")
    done = run("keys", "public", str(tmp_path / "key.pem"), error=UndecidedError)
    assert kms.PASSPHRASE_FILE in done.exception.hint


def test_a_file_for_the_public_half_makes_no_folders(tmp_path):
    kms.create(tmp_path / "key.pem", Algorithm.ED25519)
    run("keys", "public", str(tmp_path / "key.pem"), "--out", str(tmp_path / "no" / "key.pub"), error=UsageError)
