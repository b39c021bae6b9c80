# SPDX-License-Identifier: Apache-2.0
"""``chopmark.sign`` and ``chopmark.verify`` as an engineer calls them."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from click.testing import CliRunner

import chopmark
from chopmark.adapters.kms.file import create, generate
from chopmark.apps.cli.main import cli, run
from chopmark.apps.signing import Signed, Verified
from chopmark.artifacts import Digest
from chopmark.errors import UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.statements import OMS_FILE, sign_files
from simulators import SimTrust
from simulators.oms import SIGNS, authority, bundle, certificate, chained, statement


@pytest.fixture
def key(tmp_path):
    signer = create(tmp_path / "packager.pem", Algorithm.ECDSA_P256)
    (tmp_path / "packager.pub").write_text(signer.public.pem, encoding="ascii")
    return signer


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.onnx").write_bytes(b"1")
    (folder / "b.json").write_bytes(b"2")
    return folder


def test_sign_and_verify(model, key, tmp_path):
    signed = chopmark.sign(model, key=tmp_path / "packager.pem")
    assert isinstance(signed, Signed)
    assert (signed.bundle, signed.files, signed.left_out) == (tmp_path / "model.sig", 2, ())
    found = chopmark.verify(str(model), key=str(tmp_path / "packager.pub"))
    assert isinstance(found, Verified)
    assert found.root == signed.root == Digest.of(Digest.of(b"1").value + Digest.of(b"2").value)
    assert found.files == {"a.onnx": Digest.of(b"1"), "b.json": Digest.of(b"2")}
    assert found.signer == "key " + hashlib.sha256(key.public.pem.encode()).hexdigest()[:8]
    (model / "a.onnx").write_bytes(b"3")
    with pytest.raises(VerificationError) as refused:
        chopmark.verify(model, key=tmp_path / "packager.pub")
    assert (refused.value.code, refused.value.evidence) == ("oms-altered", {"altered": ["a.onnx"]})


def test_a_file_and_where_its_bundle_is(model, key, tmp_path):
    signed = chopmark.sign(model / "a.onnx", key=key, out=tmp_path / "elsewhere.sig")
    assert chopmark.verify(model / "a.onnx", key=key.public, signature=signed.bundle).files == {".": Digest.of(b"1")}
    with pytest.raises(UsageError):
        chopmark.verify(model / "a.onnx", key=key.public)
    with pytest.raises(UsageError):
        chopmark.sign(model / "a.onnx", key=key, out=tmp_path / "nowhere" / "x.sig")


@pytest.mark.parametrize("place", ["model.sig", "model/model.sig", OMS_FILE])
def test_bundles_are_found(model, key, tmp_path, place):
    chopmark.sign(model, key=key, out=tmp_path / place)
    assert chopmark.verify(model, key=key.public).signature == tmp_path / place


def test_a_place_is_looked_into_once(model, key):
    with pytest.raises(UsageError) as refused:
        chopmark.verify(model, key=key.public)
    assert refused.value.hint.count("model.sig") == 2  # beside the folder, and in it


def test_the_folder_one_is_in(model, key, monkeypatch, tmp_path):
    monkeypatch.chdir(model)
    assert chopmark.sign(".", key=key).bundle == tmp_path / "model.sig"
    assert chopmark.verify(".", key=key.public).signature == tmp_path / "model.sig"


@pytest.mark.parametrize("form", ["path", "text", "bytes", "key"])
@pytest.mark.parametrize("member", ["key", "trust"])
def test_a_key_in_every_form(model, key, tmp_path, form, member):
    chopmark.sign(model, key=key)
    forms = {"path": tmp_path / "packager.pub", "text": key.public.pem, "bytes": key.public.pem.encode()}
    assert chopmark.verify(model, **{member: forms.get(form, key.public)})


def test_what_is_no_key(model, key, tmp_path):
    chopmark.sign(model, key=key)
    both = {"key": key.public, "trust": key.public}
    for wrong in ({}, both, {"key": 7}, {"key": model / "a.onnx"}, {"trust": "-----BEGIN CERTIFICATE-----\n"}):
        with pytest.raises(UsageError):
            chopmark.verify(model, **wrong)
    with pytest.raises(UsageError):
        chopmark.sign(model, key=generate(Algorithm.ED25519))


def test_a_private_key_itself_is_not_repeated(model, key, tmp_path):
    pem = (tmp_path / "packager.pem").read_text(encoding="ascii")
    secret = pem.splitlines()[1]
    for wrong in (pem, pem.encode(), 7, None):
        with pytest.raises(UsageError) as refused:
            chopmark.sign(model, key=wrong)
        assert secret not in f"{refused.value!r} {refused.value} {refused.value.hint}"


def test_the_text_of_a_key_is_not_repeated_and_an_empty_name_is_said(model, key, tmp_path):
    secret = (tmp_path / "packager.pem").read_text(encoding="ascii")
    for text, said in ((secret, "the text of a key"), ("", "is empty")):
        for command in ("verify", "sign"):
            ran = CliRunner().invoke(cli, [command, str(model), "--key", text])
            assert isinstance(ran.exception, UsageError)
            assert said in ran.exception.message
            assert secret.splitlines()[1] not in f"{ran.exception!r} {ran.exception.hint} {ran.output}"


def test_one_name_to_ignore_is_not_its_letters(model, key):
    (model / "b").write_bytes(b"3")
    assert chopmark.sign(model, key=key, ignore="b.json").left_out == ("b.json",)
    assert chopmark.verify(model, key=key.public, ignore="b.json").unsigned == ("b.json",)
    (model / "j").write_bytes(b"nobody signed this")
    with pytest.raises(VerificationError) as refused:
        chopmark.verify(model, key=key.public, ignore="b.json")
    assert refused.value.evidence == {"unsigned": ["j"]}


def test_an_authority_is_trusted(model, key, tmp_path):
    """Against this machine's clock, and so with certificates that have been valid for long and will be."""
    days = {"days": (-10_000, 10_000)}
    root = authority("root", key.private, **days)
    end = certificate("me", key.private, issuer="root", issuer_key=key.private, extensions=[(SIGNS, True)], **days)
    made = bundle(statement({"a.onnx": b"1", "b.json": b"2"}), key.private, material=chained(end))
    (tmp_path / "model.sig").write_bytes(made)
    from cryptography.hazmat.primitives.serialization import Encoding

    (tmp_path / "ca.pem").write_bytes(root.public_bytes(Encoding.PEM))
    assert chopmark.verify(model, trust=tmp_path / "ca.pem").signer.startswith("CN=me")
    assert chopmark.verify(model, trust=root.public_bytes(Encoding.PEM))
    with pytest.raises(VerificationError):
        chopmark.verify(model, trust=key.public)


def test_a_trust_policy_counts_its_packager_for_its_subjects(tmp_path):
    people = SimTrust()
    (packager,) = people.keys("packager")
    folder = tmp_path / "model"
    (folder / "digits").mkdir(parents=True)
    (folder / "digits" / "a").write_bytes(b"1")
    (tmp_path / "x.sig").write_bytes(sign_files(folder, packager, out=tmp_path / "x.sig").bundle)
    with pytest.raises(VerificationError) as refused:
        chopmark.verify(folder, trust=people.policy, signature=tmp_path / "x.sig")
    assert "may not sign for 'model'" in refused.value.message
    said = statement({"digits/a": b"1"})
    said["subject"][0]["name"] = "model/digits"
    (tmp_path / "x.sig").write_bytes(bundle(said, packager.private))
    assert chopmark.verify(folder, trust=people.policy, signature=tmp_path / "x.sig").signer == "packager packager"
    (tmp_path / "x.sig").write_bytes(bundle(said, generate(Algorithm.ECDSA_P256).private))
    with pytest.raises(VerificationError) as refused:
        chopmark.verify(folder, trust=people.policy, signature=tmp_path / "x.sig")
    assert refused.value.code == "oms-unsigned"


def test_git_is_left_out_and_said_so(model, key):
    (model / ".git").mkdir()
    (model / ".git" / "config").write_bytes(b"")
    (model / ".gitattributes").write_bytes(b"")
    signed = chopmark.sign(model, key=key)
    assert signed.left_out == (".git", ".gitattributes")
    assert signed.files == 2
    with pytest.raises(VerificationError) as refused:
        chopmark.verify(model, key=key.public)
    assert refused.value.hint.endswith("--ignore .git --ignore .gitattributes")
    assert chopmark.verify(model, key=key.public, ignore=signed.left_out).unsigned == (".git", ".gitattributes")


def test_a_table_for_notebooks(model, key):
    for shown in (chopmark.sign(model, key=key), chopmark.verify(model, key=key.public)):
        assert shown._repr_html_().startswith("<table><tr><th>")
        assert str(model) in shown._repr_html_()


def test_what_a_shell_completes():
    assert [name for name in dir(chopmark) if not name.startswith("__")] == ["load", "record", "sign", "verify"]


def test_verifying_loads_neither_tuf_nor_git_nor_a_server():
    """A cold start is what a build step pays for each model."""
    script = (
        "import sys; from chopmark.apps.cli.main import run; run(['verify', 'nothing', '--key', 'none']);"
        "run(['sign', 'nothing', '--key', 'none']);"
        "import chopmark; chopmark.verify; print('\\n'.join(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = ("tuf", "securesystemslib", "rich", "yaml", "chopmark.trust", "chopmark.release", "chopmark.ledger")
    heavy += ("cryptography.x509", "sigstore", "asyncio", "http", "email", "ssl")
    assert "chopmark.statements.oms" in loaded
    assert [name for name in loaded for part in heavy if name == part or name.startswith(part + ".")] == []


def test_the_commands_say_how_far_they_are(model, key, tmp_path, capsys):
    private, bundle = str(tmp_path / "packager.pem"), str(tmp_path / "b")
    assert run(["sign", str(model), "--key", private, "--out", bundle, "--progress"]) == 0
    assert "100 %" in capsys.readouterr().err
    assert (
        run(["verify", str(model), "--key", str(tmp_path / "packager.pub"), "--signature", bundle, "--progress"]) == 0
    )
    assert "2 of 2 files" in capsys.readouterr().err
    nothing = str(tmp_path / "nothing")
    assert run(["verify", nothing, "--key", str(tmp_path / "packager.pub"), "--progress"]) == 2


def test_a_folder_that_holds_the_key_is_not_signed(model, key, tmp_path):
    inside = model / "deep" / "my key.pem"
    inside.parent.mkdir()
    inside.write_bytes((tmp_path / "packager.pem").read_bytes())
    inside.chmod(0o600)
    with pytest.raises(UsageError) as refused:
        chopmark.sign(model, key=inside)
    assert refused.value.code == "key-inside"
    assert "'deep/my key.pem'" in refused.value.hint
    assert run(["sign", str(model), "--key", str(inside)]) == 2
    assert chopmark.sign(model, key=inside, ignore=["deep"]).files == 2
    assert run(["sign", str(model), "--key", f"file:{inside}", "--ignore", "deep/my key.pem"]) == 0
