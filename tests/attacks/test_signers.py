# SPDX-License-Identifier: Apache-2.0
"""URIs that name no key, key files that cost a fortune, tokens that lose or mistake their keys, secrets that others can read."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from importlib.metadata import EntryPoint

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import chopmark.adapters.kms as table
from chopmark.adapters.kms import file as kms
from chopmark.adapters.kms import open_signer
from chopmark.adapters.kms import pkcs11 as tokens
from chopmark.errors import ChopmarkError, UndecidedError, UsageError, VerificationError
from chopmark.keys import Algorithm
from simulators.tokens import PIN, Token

MESSAGE = b"a statement"
TOKEN = "s.this-is-the-token"


def everything(error: BaseException | None) -> str:
    """All that an error and what caused it say to a person or to a log."""
    if error is None:
        return ""
    own = " ".join([error.message, error.hint, str(error.evidence)]) if isinstance(error, ChopmarkError) else ""
    return f"{error!r} {error} {own}"


# URIs


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("nokms:key", "scheme-unknown"),
        ("http://keys.example/key", "scheme-unknown"),
        ("file:", "usage"),
        ("file://elsewhere/key.pem", "usage"),
        ("file:key.pem?passphrase=secret", "usage"),
        ("pkcs11:", "usage"),
        ("pkcs11:token=a", "usage"),
        ("pkcs11:object=a", "usage"),
        ("pkcs11:token=a;object=b", "usage"),
        ("pkcs11:token=a;object=b?module-path=lib.so", "usage"),
        ("pkcs11:token=a;object=b?module-path=/nowhere/lib.so", "usage"),
        ("pkcs11:token=a;token=b;object=c?module-path=/lib.so", "usage"),
        ("pkcs11:token=a;object=b;slot=1?module-path=/lib.so", "usage"),
        ("pkcs11:token=%ff;object=b?module-path=/lib.so", "usage"),
        ("pkcs11:token=a;object=b;type=secret-key?module-path=/lib.so", "usage"),
        ("pkcs11:token=a;object=b?module-path=/lib.so&pin-source=|cat%20/etc/pin", "usage"),
        ("openbao:key", "usage"),
        ("openbao:../sys/key", "usage"),
        ("openbao:transit/../key", "usage"),
        ("openbao:transit/%2e%2e/key", "usage"),
        ("openbao:transit/key?version=0", "usage"),
        ("openbao:transit/key?version=1&version=2", "usage"),
        ("openbao:transit/key?token=secret", "usage"),
    ],
)
def test_a_uri_that_names_no_key(uri, code, monkeypatch):
    monkeypatch.setenv("BAO_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("BAO_TOKEN", TOKEN)
    with pytest.raises(UsageError) as refused:
        open_signer(uri)
    assert refused.value.code == code
    assert "secret" not in everything(refused.value)


def test_a_pin_in_a_uri_is_refused_and_not_repeated():
    with pytest.raises(UsageError) as refused:
        open_signer("pkcs11:token=a;object=b?module-path=/lib.so&pin-value=4711-0815")
    assert "4711" not in everything(refused.value)
    assert "pin-source" in refused.value.hint


def test_a_key_on_another_curve_is_a_wrong_call(tmp_path):
    private = ec.generate_private_key(ec.SECP384R1())
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key.pem").touch(mode=0o600)
    (tmp_path / "key.pem").write_bytes(private.private_bytes(*encoding))
    with pytest.raises(UsageError) as refused:
        open_signer(str(tmp_path / "key.pem"))
    assert "ecdsa-p256" in refused.value.hint


def test_the_text_of_a_key_is_refused_and_not_repeated(tmp_path):
    """As in a CI whose variable holds the key and not its file: what it prints is kept."""
    kms.create(tmp_path / "key.pem", Algorithm.ED25519)
    pem = (tmp_path / "key.pem").read_text(encoding="ascii")
    for text in (pem, "file:" + pem):
        with pytest.raises(UsageError) as refused:
            open_signer(text)
        assert pem.splitlines()[1] not in everything(refused.value)


def test_a_scheme_of_ours_cannot_be_taken_over(monkeypatch, tmp_path):
    """An installed package adds a scheme; it cannot replace one, and two cannot share one."""
    kms.create(tmp_path / "key.pem", Algorithm.ED25519)
    group = table.ENTRY_POINTS
    mine = EntryPoint(name="kms.theirs", value="chopmark.adapters.kms.file:open_file", group=group)
    for installed, names in (([mine], {"kms.theirs"}), ([mine, mine], set())):
        monkeypatch.setattr(
            "importlib.metadata.entry_points",
            lambda group, name, known=installed: tuple(e for e in known if e.name == name),
        )
        if names:
            with pytest.raises(UndecidedError) as opened:  # it got as far as looking for a file of that name
                open_signer("theirs:key.pem")
            assert opened.value.code == "key-missing"
        else:
            with pytest.raises(UsageError):
                open_signer("theirs:key.pem")
        assert open_signer(str(tmp_path / "key.pem")).public.algorithm is Algorithm.ED25519


# Key files


def test_an_encrypted_key_opens_with_its_passphrase_only(tmp_path, monkeypatch):
    path = tmp_path / "key.pem"
    made = kms.create(path, Algorithm.ML_DSA_65, passphrase=b"correct horse")
    assert open_signer(str(path), passphrase=lambda: b"correct horse").public == made.public
    for wrong in (b"correct horsf", b"CORRECT HORSE", b"x" * 500):
        with pytest.raises(UndecidedError) as locked:
            open_signer(str(path), passphrase=lambda wrong=wrong: wrong)
        assert locked.value.code == "key-locked"
        assert wrong.decode() not in everything(locked.value)
    with pytest.raises(UndecidedError) as nobody:
        open_signer(str(path))
    assert nobody.value.code == "key-locked"
    with pytest.raises(UsageError):
        open_signer(str(path), passphrase=lambda: b"")
    word = tmp_path / "word"
    word.write_bytes(b"correct horse\n")
    word.chmod(0o600)
    monkeypatch.setenv(kms.PASSPHRASE_FILE, str(word))
    assert open_signer(str(path)).public == made.public


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_secret_that_others_can_read_is_not_used(tmp_path, mode, monkeypatch):
    """The passphrase, the PIN and the token: each in a file of its own."""
    secret = tmp_path / "secret"
    secret.write_text("4711-0815")
    secret.chmod(mode)
    kms.create(tmp_path / "key.pem", Algorithm.ED25519, passphrase=b"4711-0815")
    monkeypatch.setenv("BAO_ADDR", "http://127.0.0.1:1")
    monkeypatch.delenv("BAO_TOKEN", raising=False)
    token = Token()
    token.add(Algorithm.ED25519)
    for uri in (
        f"file:{tmp_path}/key.pem?passphrase-file={secret}",
        f"openbao:transit/key?token-file={secret}",
        token.uri(pin_file=secret),
    ):
        with pytest.raises(UsageError) as refused:
            open_signer(uri)
        assert refused.value.code == "secret-open"
        assert "4711" not in everything(refused.value)


def openssl_key(tmp_path, *how):
    key = kms.generate(Algorithm.ED25519).private
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    command = ["openssl", "pkcs8", "-topk8", "-passout", "pass:x", *how]
    path = tmp_path / "key.pem"
    path.write_bytes(subprocess.run(command, input=pem, capture_output=True, check=True).stdout)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("how", [["-iter", "5000"], ["-scrypt"], ["-v2", "aes-128-cbc"]], ids=" ".join)
def test_keys_that_openssl_encrypted_open(tmp_path, how):
    path = openssl_key(tmp_path, *how)
    assert open_signer(str(path), passphrase=lambda: b"x").public.algorithm is Algorithm.ED25519


def der(tag, *parts):
    body = b"".join(parts)
    size = len(body)
    long = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([0x80 | len(long)]) + long) + body


def integer(number):
    return der(2, number.to_bytes(number.bit_length() // 8 + 1))


def costly(oid, *costs):
    """An encrypted key file whose derivation has these costs."""
    derivation = der(0x30, bytes.fromhex(oid), der(0x30, der(4, b"salt" * 4), *map(integer, costs)))
    cipher = der(0x30, bytes.fromhex("060960864801650304012a"), der(4, b"i" * 16))
    scheme = der(0x30, bytes.fromhex("06092a864886f70d01050d"), der(0x30, derivation, cipher))
    pem = base64.b64encode(der(0x30, scheme, der(4, b"d" * 64))).decode()
    return f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{pem}\n-----END ENCRYPTED PRIVATE KEY-----\n"


PBKDF2, SCRYPT = "06092a864886f70d01050c", "06092b06010401da47040b"


@pytest.mark.parametrize(
    ("derivation", "code"),
    [
        ((PBKDF2, 2**31), "key-too-costly"),
        ((PBKDF2, 2**200), "key-too-costly"),
        ((PBKDF2, 0), "key-too-costly"),
        ((SCRYPT, 2**30, 8, 1), "key-too-costly"),
        ((SCRYPT, 2**14, 2**20, 1), "key-too-costly"),
        ((SCRYPT, 2**14, 8, 2**20), "key-too-costly"),
        ((SCRYPT, 2, 1, 2**21), "key-too-costly"),
        ((SCRYPT, 0, 8, 1), "key-too-costly"),
        ((SCRYPT, 2**14), "usage"),
        (("06092b06010401da470499", 1), "usage"),
        # What is allowed gets as far as the passphrase.
        ((PBKDF2, 600_000), "key-locked"),
        ((SCRYPT, 2**17, 8, 1), "key-locked"),
    ],
)
def test_a_key_file_that_costs_a_fortune_is_not_opened(tmp_path, derivation, code):
    path = tmp_path / "key.pem"
    path.write_text(costly(*derivation))
    path.chmod(0o600)
    start = time.monotonic()
    with pytest.raises((UsageError, UndecidedError)) as refused:
        open_signer(str(path), passphrase=lambda: b"x")
    assert refused.value.code == code
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "how",
    [["-v1", "PBE-SHA1-3DES"], ["-v1", "PBE-MD5-DES", "-provider", "legacy", "-provider", "default"]],
    ids=["3des", "md5"],
)
def test_old_encryption_of_keys_is_refused(tmp_path, how):
    path = openssl_key(tmp_path, *how)
    with pytest.raises(UsageError) as refused:
        open_signer(str(path), passphrase=lambda: b"x")
    assert "PBES2" in refused.value.message


# Owners' folders


def test_a_folder_of_keys_opens_those_that_are_elsewhere(tmp_path):
    """One half of a hybrid in a file, the other on a token."""
    token = Token()
    public = token.add(Algorithm.ECDSA_P256)
    made = kms.create(tmp_path / "ml-dsa-65.pem", Algorithm.ML_DSA_65)
    (tmp_path / "classical.uri").write_text(token.uri() + "\n# the token in the safe\n")
    assert [signer.public for signer in kms.load_all(tmp_path)] == [public, made.public]


@pytest.mark.parametrize(
    "text", ["", "\n", "# only a remark", "key.pem\nkey2.pem\n", "key\x1b[31m.pem\n", "x" * 5000, "\n# late\nkey.pem\n"]
)
def test_a_uri_file_holds_one_uri(tmp_path, text):
    path = tmp_path / "k.uri"
    path.write_text(text)
    with pytest.raises((UsageError, UndecidedError)) as refused:
        kms.load_all(tmp_path)
    assert refused.value.code in {"usage", "key-missing"}


def test_a_uri_file_that_others_may_change_is_not_followed(tmp_path):
    """It names a library, which is loaded into the process that holds the other keys."""
    path = tmp_path / "k.uri"
    path.write_text("pkcs11:token=a;object=b?module-path=/tmp/evil.so\n")
    path.chmod(0o646)
    with pytest.raises(UsageError) as refused:
        kms.load_all(tmp_path)
    assert refused.value.code == "secret-open"


# Tokens


def test_a_wrong_pin_is_offered_once(tmp_path):
    token = Token()
    token.add(Algorithm.ED25519)
    pin = tmp_path / "pin"
    pin.write_text("0000-wrong")
    pin.chmod(0o600)
    with pytest.raises(UndecidedError) as locked:
        open_signer(token.uri(pin_file=pin))
    assert locked.value.code == "key-locked"
    assert "0000-wrong" not in everything(locked.value)
    held = tokens._tokens[token.module, token.label, None]
    asked = []
    held._pin = lambda: asked.append(1) or b"0000-wrong"
    for _ in range(5):
        with pytest.raises(UndecidedError) as again:
            held.use(lambda session: session)
        assert again.value.code == "key-locked"
    assert not asked
    assert open_signer(token.uri()).sign(MESSAGE)


def test_a_token_without_anybody_to_ask(tmp_path):
    token = Token()
    token.add(Algorithm.ED25519)
    uri = token.uri().partition("&pin-source")[0]
    with pytest.raises(UndecidedError) as locked:
        open_signer(uri)
    assert locked.value.code == "key-locked"
    assert open_signer(uri, passphrase=PIN.encode).sign(MESSAGE)


@pytest.mark.parametrize("algorithm", [Algorithm.ED25519, Algorithm.ECDSA_P256])
def test_a_token_that_is_taken_out_and_put_back(algorithm):
    token = Token()
    token.add(algorithm)
    signer = open_signer(token.uri())
    signer.sign(MESSAGE)
    with token.unplugged():
        for _ in range(2):
            with pytest.raises(UndecidedError) as gone:
                signer.sign(MESSAGE)
            assert gone.value.code == "key-missing"
    assert signer.public.verify(signer.sign(MESSAGE), MESSAGE)


def test_two_keys_of_one_label():
    token = Token()
    one = token.add(Algorithm.ED25519, id_="01")
    two = token.add(Algorithm.ED25519, id_="02")
    with pytest.raises(UsageError) as many:
        open_signer(token.uri())
    assert "id=" in many.value.hint
    assert open_signer(token.uri(more=";id=%01")).public == one
    assert open_signer(token.uri(more=";id=%02")).public == two


def test_a_key_that_is_not_on_the_token():
    token = Token()
    token.add(Algorithm.ED25519)
    with pytest.raises(UndecidedError) as missing:
        open_signer(token.uri(label="other"))
    assert missing.value.code == "key-missing"


def test_a_token_whose_public_half_is_another_keys():
    """The private key was replaced; the public object beside it stayed."""
    import pkcs11

    token = Token()
    token.add(Algorithm.ECDSA_P256, label="signer", id_="01")
    token.add(Algorithm.ECDSA_P256, label="spare", id_="02")
    held = pkcs11.lib(token.module).get_token(token_label=token.label)
    with held.open(user_pin=PIN, rw=True) as session:
        wanted = {pkcs11.Attribute.LABEL: "signer", pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}
        next(iter(list(session.get_objects(wanted)))).destroy()
        wanted[pkcs11.Attribute.LABEL] = "spare"
        (spare,) = list(session.get_objects(wanted))
        spare[pkcs11.Attribute.LABEL] = "signer"
    signer = open_signer(token.uri())
    for _ in range(2):
        with pytest.raises(VerificationError) as mistaken:
            signer.sign(MESSAGE)
        assert mistaken.value.code == "key-mismatch"


def test_a_module_that_is_none(tmp_path):
    (tmp_path / "lib.so").write_bytes(b"\x7fELF")
    with pytest.raises(UsageError) as refused:
        open_signer(f"pkcs11:token=a;object=b?module-path={tmp_path}/lib.so")
    assert "PKCS#11 module" in refused.value.message


def test_a_child_of_a_fork_signs(tmp_path):
    """Workers of a server inherit a module that is their parent's."""
    token = Token()
    token.add(Algorithm.ED25519)
    script = (
        "import os, sys\n"
        "from chopmark.adapters.kms import open_signer\n"
        "signer = open_signer(sys.argv[1])\n"
        "signer.sign(b'x')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    fine = signer.public.verify(signer.sign(b'y'), b'y') and signer._token.opened == 2\n"
        "    os._exit(0 if fine else 1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "assert status == 0, status\n"
        "assert signer.public.verify(signer.sign(b'z'), b'z')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, token.uri()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
