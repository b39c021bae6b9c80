# SPDX-License-Identifier: Apache-2.0
"""The port Signer: what it signs, its public half verifies; or an error of ours."""

from __future__ import annotations

import importlib.util
import re
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asymmetric_utils

from chopmark.adapters.kms import SCHEMES, open_signer
from chopmark.adapters.kms import file as kms
from chopmark.errors import UndecidedError, UsageError
from chopmark.keys import Algorithm, PublicKey, Signer, read_public_key
from simulators.clouds import azure, google
from simulators.tokens import Token
from simulators.vault import bao

MESSAGE = b"the message itself, not a hash of it"
CLASSICAL = (Algorithm.ED25519, Algorithm.ECDSA_P256)
CLOUD_PYTHON = Path(__file__).resolve().parents[2] / ".venv-clouds" / "bin" / "python"


def in_memory(algorithm, folder):
    return kms.generate(algorithm)


def just_created(algorithm, folder):
    return kms.create(folder / "key.pem", algorithm)


def loaded(algorithm, folder):
    kms.create(folder / "key.pem", algorithm)
    return kms.load(folder / "key.pem")


# One for each scheme: makes a key where the scheme keeps them, and returns its URI. A scheme without a row fails.


@pytest.fixture(scope="module")
def places():
    """Servers and tokens that the tests of this module share."""
    with ExitStack() as stack:
        yield cache(lambda make: stack.enter_context(make()))


def place_file(algorithm, folder, places, patch, stack):
    kms.create(folder / "key.pem", algorithm, passphrase=b"secret")
    (folder / "word").write_text("secret\n")
    (folder / "word").chmod(0o600)
    return f"file:{folder}/key.pem?passphrase-file={folder}/word"


def place_pkcs11(algorithm, folder, places, patch, stack):
    token = places(a_token)
    token.add(algorithm, label=folder.name)
    return token.uri(label=folder.name)


def place_transit(algorithm, folder, places, patch, stack):
    server = places(bao)
    server.environment(patch)
    return f"openbao:transit/{server.make(algorithm)}?version=1"


def place_aws(algorithm, folder, places, patch, stack):
    pytest.importorskip("boto3", reason="the SDK of AWS is in an environment of its own: make clouds")
    import boto3
    from moto.server import ThreadedMotoServer

    @contextmanager
    def moto():
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        yield server.get_host_and_port()
        server.stop()

    if not hasattr(place_aws, "server"):
        place_aws.server = moto
    host, port = places(place_aws.server)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        patch.setenv(name, value)
    from moto.kms import utils

    # moto hashes what it is told is a digest; AWS does not.
    prehashed = ec.ECDSA(asymmetric_utils.Prehashed(hashes.SHA256()))
    patch.setattr(utils.ECDSAPrivateKey, "sign", lambda self, message, _: self.private_key.sign(message, prehashed))
    made = boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")
    return "awskms:" + made["KeyMetadata"]["KeyId"]


def place_google(algorithm, folder, places, patch, stack):
    return stack.enter_context(google(patch))


def place_azure(algorithm, folder, places, patch, stack):
    return stack.enter_context(azure(patch))


@contextmanager
def a_token():
    yield Token()


PLACES = {
    "file": place_file,
    "pkcs11": place_pkcs11,
    "openbao": place_transit,
    "hashivault": lambda *a: place_transit(*a).replace("openbao:", "hashivault:"),
    "awskms": place_aws,
    "gcpkms": place_google,
    "azurekms": place_azure,
}


def test_every_scheme_is_tried():
    assert set(PLACES) == set(SCHEMES)


@pytest.fixture(
    params=[in_memory, just_created, loaded, *SCHEMES], ids=lambda it: it if isinstance(it, str) else it.__name__
)
def make(request, tmp_path, places, monkeypatch):
    def placed(algorithm):
        if not isinstance(request.param, str):
            return request.param(algorithm, tmp_path)
        if algorithm not in SCHEMES[request.param].algorithms.split(", "):
            pytest.skip(f"{request.param}: signs with {SCHEMES[request.param].algorithms}")
        return open_signer(PLACES[request.param](algorithm, tmp_path, places, monkeypatch, stack))

    with ExitStack() as stack:
        yield placed


@pytest.mark.slow
def test_the_clouds_in_their_own_environment():
    """The same tests where the SDKs of the clouds are."""
    if not CLOUD_PYTHON.exists():
        pytest.skip("the SDKs of the clouds are in an environment of their own: make clouds")
    command = [
        CLOUD_PYTHON,
        "-m",
        "pytest",
        "--noconftest",
        "-o",
        "filterwarnings=",
        "-k",
        "awskms or gcpkms or azurekms or cloud_row",
        "-rs",
    ]
    done = subprocess.run(
        [*command, __file__], capture_output=True, text=True, check=False, cwd=CLOUD_PYTHON.parents[2]
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout[-3000:]
    assert int(passed[1]) >= 10, done.stdout[-3000:]


def test_a_cloud_row_without_its_sdk_names_the_package():
    """Or, where the SDKs are, a cloud without credentials is undecided. Neither asks a server."""
    for extra, module, uri in (
        ("aws", "boto3", "awskms:alias/x"),
        ("gcp", "google.cloud.kms", "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"),
        ("azure", "azure.identity", "azurekms://x.vault.azure.net/keys/k/" + "0" * 32),
    ):
        if importable(module):
            continue
        with pytest.raises(UsageError) as missing:
            open_signer(uri)
        assert (missing.value.code, missing.value.hint) == ("extra-missing", f"pip install 'chopmark[{extra}]'")


def importable(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(
    "uri",
    [
        "awskms:",
        "awskms:a b",
        "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k",
        "gcpkms:k",
        "azurekms://x.vault.azure.net/keys/k",
        "azurekms://x.vault.azure.net/secrets/k/" + "0" * 32,
    ],
)
def test_a_cloud_row_names_a_version_of_a_key(uri):
    with pytest.raises(UsageError):
        open_signer(uri)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_its_public_half_verifies(make, algorithm):
    signer = make(algorithm)
    assert signer.public.algorithm is algorithm
    for message in (MESSAGE, b"", b"\0" * 100_000):
        signature = signer.sign(message)
        assert signer.public.verify(signature, message)
        assert not signer.public.verify(signature, message + b"!")
        assert not signer.public.verify(signature[:-1] + bytes([signature[-1] ^ 1]), message)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_public_half_travels(make, algorithm):
    signer = make(algorithm)
    signature = signer.sign(MESSAGE)
    for copy in (PublicKey.from_spki(signer.public.spki), read_public_key(signer.public.pem.encode())):
        assert copy == signer.public
        assert copy.keyid == signer.public.keyid
        assert copy.verify(signature, MESSAGE)


def test_one_signer_serves_many_threads(make):
    signer = make(Algorithm.ECDSA_P256)
    messages = [f"message {number}".encode() for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        signatures = list(pool.map(signer.sign, messages))
    assert all(signer.public.verify(s, m) for s, m in zip(signatures, messages, strict=True))


class Broken(Signer):
    """A key store that fails as its vendor's library does."""

    def __init__(self, error):
        self.error = error

    @property
    def public(self):
        return kms.generate(Algorithm.ED25519).public

    def _sign(self, message):
        raise self.error


def test_foreign_errors_become_ours():
    with pytest.raises(UndecidedError) as undecided:
        Broken(ConnectionError("throttled by region-1")).sign(MESSAGE)
    assert undecided.value.code == "key-unavailable"
    assert "region-1" not in undecided.value.message
    mine = UndecidedError("locked", code="key-locked")
    with pytest.raises(UndecidedError) as same:
        Broken(mine).sign(MESSAGE)
    assert same.value is mine


# The file


def test_a_key_file_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "owner-a" / "ed25519.pem"
    signer = kms.create(path, Algorithm.ED25519)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kms.load(path).public == signer.public
    assert [file.name for file in path.parent.iterdir()] == ["ed25519.pem"]
    for mode in (0o640, 0o604, 0o644, 0o660, 0o601):
        path.chmod(mode)
        with pytest.raises(UsageError):
            kms.load(path)


def test_a_key_is_never_overwritten(tmp_path):
    path = tmp_path / "key.pem"
    signer = kms.create(path, Algorithm.ML_DSA_65)
    with pytest.raises(UsageError):
        kms.create(path, Algorithm.ML_DSA_65)
    assert kms.load(path).public == signer.public


def test_a_missing_key_is_undecided(tmp_path):
    with pytest.raises(UndecidedError) as missing:
        kms.load(tmp_path / "key.pem")
    assert missing.value.code == "key-missing"


def test_a_link_to_a_key_is_not_followed(tmp_path):
    kms.create(tmp_path / "key.pem", Algorithm.ED25519)
    (tmp_path / "link.pem").symlink_to(tmp_path / "key.pem")
    with pytest.raises(UsageError):
        kms.load(tmp_path / "link.pem")


def private_pem(key, encryption=None):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption or serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"\xff" * 100,
        private_pem(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["empty", "not-a-key", "binary", "rsa"],
)
def test_what_is_no_key_of_ours_is_refused(tmp_path, data):
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(UsageError):
        kms.load(path)


def test_another_curve_is_refused(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(ec.generate_private_key(ec.SECP384R1())))
    path.chmod(0o600)
    with pytest.raises(UsageError):
        kms.load(path)
