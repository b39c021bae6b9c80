# SPDX-License-Identifier: Apache-2.0
"""Tools that are not ours read what we sign: python-tuf's client follows a channel, model_signing verifies a package.

They check less than a device does (no owners, no ledger, no status age), and must never stumble over what we add.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError, RepositoryError, UnsignedMetadataError
from tuf.ngclient import Updater
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from chopmark.adapters.blobs.folder import FolderChannel
from chopmark.adapters.kms.file import generate
from chopmark.artifacts import scan
from chopmark.channel import approved, envelope_target, manifest_target, package_target
from chopmark.channel.publish import publish_root
from chopmark.errors import VerificationError
from chopmark.keys import Algorithm
from chopmark.statements import OMS_FILE, build_oms, verify_oms
from simulators import SimChannel, SimTrust

FILES = {
    "model.onnx": b"weights " * 1000,
    "self-test.json": b"{}",
    "tokenizer/deep/er/vocabulary.txt": b"a\nb\n",
    "notes ü.txt": b"",
}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def serving(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class StockClient:
    """python-tuf's own client, as its documentation shows it."""

    def __init__(self, folder, url, root):
        self.fetcher = Urllib3Fetcher()
        (folder / "metadata").mkdir(parents=True)
        (folder / "targets").mkdir()
        self.make = lambda: Updater(
            metadata_dir=str(folder / "metadata"),
            metadata_base_url=f"{url}/metadata/",
            target_dir=str(folder / "targets"),
            target_base_url=f"{url}/targets/",
            fetcher=self.fetcher,
            bootstrap=root,
        )

    def get(self, target):
        """Refresh with a new session and download *target*; None where there is no such target."""
        updater = self.make()
        updater.refresh()
        info = updater.get_targetinfo(target)
        return None if info is None else Path(updater.download_target(info)).read_bytes()

    def close(self):
        for pool in self.fetcher._proxy_env._pool_managers.values():
            pool.clear()


@pytest.fixture
def channel(tmp_path):
    """A channel in a folder, signed now: stock clients read the clock themselves."""
    channel = SimChannel(SimTrust(now=datetime.now(UTC).replace(microsecond=0)))
    channel.store = FolderChannel(tmp_path / "channel")
    publish_root(channel.store, channel.trust.root, channel.trust.trust)
    return channel


@pytest.fixture
def client(channel, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "channel").mkdir(exist_ok=True)
    with serving(tmp_path / "channel") as url:
        client = StockClient(tmp_path / "client", url, channel.trust.first)
        yield client
        client.close()


def test_a_stock_tuf_client_follows_the_channel_and_downloads_the_package(channel, client):
    release = channel.approve(files=FILES)
    channel.publish(release)
    envelope = client.get(envelope_target("production", release.digest))
    assert approved(envelope, channel.trust.policy, channel="production") == release
    assert (
        client.get(manifest_target("production", release.manifest))
        == channel.shipments[release.digest].manifest.encode()
    )
    for name, data in FILES.items():
        assert client.get(package_target("production", release.manifest, name)) == data
    assert client.get("production/envelopes/none.json") is None


def test_the_client_of_the_guide_follows_the_channel(channel, tmp_path, monkeypatch, capsys):
    guide = Path(__file__).parents[2] / "docs" / "guides" / "stock-tools.md"
    code = next(b for b in re.findall(r"```text\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL) if "tuf" in b)
    release = channel.approve(files=FILES)
    channel.publish(release)
    (tmp_path / "root.json").write_bytes(channel.trust.first)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path / "channel") as url:
        for target in (envelope_target("production", release.digest), "production/envelopes/none.json"):
            monkeypatch.setattr("sys.argv", ["client.py", url, "root.json", target])
            exec(compile(code, "client.py", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own document
    path, missing = capsys.readouterr().out.splitlines()
    assert approved(Path(path).read_bytes(), channel.trust.policy, channel="production") == release
    assert missing == "no such target: production/envelopes/none.json"


def test_a_stock_tuf_client_goes_on_through_rotations_statuses_and_a_rollback(channel, client):
    first = channel.approve(files=FILES)
    channel.publish(first)
    second = channel.approve(version="2", counter=2, fallbacks=(first.digest,), files={"model.onnx": b"two"})
    channel.revoke(second.digest)
    channel.publish(second)
    assert client.get(package_target("production", second.manifest, "model.onnx")) == b"two"
    root, trust = channel.trust.build_root(version=2, policy=channel.trust.renew_policy())
    for path, data in (("metadata/2.trust.json", trust), ("metadata/2.root.json", root)):
        assert channel.store.put_new(path, data)
    channel.publish(first)
    assert client.get(package_target("production", first.manifest, "model.onnx")) == FILES["model.onnx"]
    updater = client.make()
    updater.refresh()
    assert updater._trusted_set.root.version == 2


def test_a_stock_tuf_client_refuses_a_tampered_file(channel, client, tmp_path):
    release = channel.approve(files=FILES)
    channel.publish(release)
    (model,) = (tmp_path / "channel").rglob("*.model.onnx")
    model.write_bytes(b"weightz " * 1000)
    with pytest.raises((DownloadError, RepositoryError)):
        client.get(package_target("production", release.manifest, "model.onnx"))


def test_a_stock_tuf_client_refuses_an_operator_that_signs_with_another_key(channel, client):
    channel.publish(channel.approve(files=FILES))
    forged = channel_resigned(channel, generate(Algorithm.ED25519))
    channel.store.replace("metadata/timestamp.json", forged)
    with pytest.raises(UnsignedMetadataError):
        client.get("production/envelopes/none.json")


def test_a_stock_tuf_client_counts_both_halves_of_the_status_delegation(channel, client):
    """The delegation's key threshold is two of two keys: half a hybrid is refused by stock clients too."""
    channel.publish(channel.approve(files=FILES))
    updater = client.make()
    updater.refresh()
    updater._load_targets("status", "targets")
    channel.issue(signers=channel.trust.signers["status-host"][:1])
    channel.publish(channel.approve(version="2", counter=2, files=FILES))
    updater = client.make()
    updater.refresh()
    with pytest.raises(UnsignedMetadataError):
        updater._load_targets("status", "targets")


def channel_resigned(channel, signer):
    from tuf.api.metadata import Metadata

    from chopmark.trust import sign_metadata

    metadata = Metadata.from_bytes(channel.store.get("metadata/timestamp.json"))
    metadata.signatures.clear()
    sign_metadata(metadata, [signer])
    return metadata.to_bytes()


# OpenSSF Model Signing


@pytest.fixture
def package(tmp_path):
    """A package with its OMS bundle beside the files, and the packager's public key in a file."""
    key = generate(Algorithm.ECDSA_P256)
    folder = tmp_path / "package"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    bundle = build_oms(scan(folder), key, name="digits")
    (tmp_path / "packager.pem").write_text(key.public.pem, encoding="ascii")
    (tmp_path / OMS_FILE).write_bytes(bundle)
    return folder, key, bundle


def model_signing(folder, *, signature):
    """Run ``model_signing verify key`` and return whether it verified."""
    command = Path(sys.executable).parent / "model_signing"
    arguments = ["--signature", signature, "--public_key", signature.parent / "packager.pem", folder]
    done = subprocess.run([command, "verify", "key", *arguments], capture_output=True, check=False, timeout=60)
    return done.returncode == 0


def test_stock_model_signing_accepts_our_bundle(package, tmp_path):
    folder, _, _ = package
    assert model_signing(folder, signature=tmp_path / OMS_FILE)


def test_stock_model_signing_refuses_a_tampered_file(package, tmp_path):
    folder, _, _ = package
    (folder / "model.onnx").write_bytes(b"weightz " * 1000)
    assert not model_signing(folder, signature=tmp_path / OMS_FILE)


def test_we_read_the_bundles_that_stock_model_signing_writes(package, tmp_path):
    import model_signing.signing
    from cryptography.hazmat.primitives import serialization

    folder, key, _ = package
    private = tmp_path / "private.pem"
    private.write_bytes(
        key.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    written = tmp_path / "stock.sig"
    model_signing.signing.Config().use_elliptic_key_signer(private_key=private).sign(folder, written)
    assert verify_oms(written.read_bytes(), scan(folder), key.public)
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(VerificationError):
        verify_oms(written.read_bytes(), scan(folder), key.public)
