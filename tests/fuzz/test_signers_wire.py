# SPDX-License-Identifier: Apache-2.0
"""What opens keys reads: URIs, encrypted key files, public keys of tokens, answers of servers. Success or an error of ours."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chopmark.adapters.http import transit
from chopmark.adapters.kms import file as kms
from chopmark.adapters.kms import open_signer, pkcs8
from chopmark.errors import ChopmarkError
from chopmark.keys import Algorithm

pytest.importorskip("pkcs11")
from pkcs11 import KeyType

from chopmark.adapters.kms import pkcs11 as tokens

ENCRYPTED = pkcs8.encrypt(b"\x30\x00" * 30, b"secret")
BODY = base64.b64decode(b"".join(ENCRYPTED.split(b"-----")[2].split()))
EC_PARAMETERS = [bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06032b6570")]
POINTS = [kms.generate(algorithm).public.raw for algorithm in (Algorithm.ECDSA_P256, Algorithm.ED25519)]

uris = st.one_of(
    st.text(),
    st.builds(
        lambda scheme, rest: scheme + rest,
        st.sampled_from(
            ["pkcs11:", "openbao:", "file:", "awskms:", "gcpkms:", "azurekms:", "pkcs11:token=a;object=b?"]
        ),
        st.text(alphabet="abtokenidbjc=;&?%/:.-0123456789\x00\n€", max_size=60),
    ),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["data", "type", "keys", "1", "public_key", "latest_version", "derived", "signature"]),
            inner,
        )
    ),
    max_leaves=20,
)


def ours(call, *args, **named):
    try:
        return call(*args, **named)
    except ChopmarkError:
        return None


@given(uris)
def test_uris(uri):
    ours(tokens.parse_uri, "pkcs11:" + uri)
    ours(transit.parse_uri, uri)
    if not uri.startswith(("openbao:", "pkcs11:")):
        assert ours(open_signer, uri) is None


@given(st.binary(max_size=300))
def test_key_files_of_any_bytes(data):
    ours(pkcs8.check_cost, data)
    ours(pkcs8.check_cost, b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + data)


@given(st.integers(0, len(BODY) - 1), st.binary(min_size=1, max_size=4))
def test_key_files_with_changed_bytes(at, new):
    data = base64.b64encode(BODY[:at] + new + BODY[at + len(new) :])
    ours(
        pkcs8.check_cost, b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + data + b"\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )


def test_the_key_file_that_is_changed_is_one():
    assert pkcs8.check_cost(ENCRYPTED) is None


@given(
    st.sampled_from([KeyType.EC, KeyType.EC_EDWARDS, KeyType.RSA]),
    st.sampled_from(EC_PARAMETERS) | st.binary(max_size=20),
    st.sampled_from(POINTS) | st.binary(max_size=80),
)
def test_public_keys_of_tokens(kind, parameters, point):
    found = ours(tokens._read_public, kind, parameters, point)
    if found is not None:
        assert found.raw == point or found.raw == point[2:]


@given(json_values | st.binary(max_size=200), st.none() | st.integers(1, 9))
def test_answers_of_servers(value, version):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    ours(transit.read_key, data, version=version)
    ours(transit.read_signature, data, version=version or 1)


@given(st.text(max_size=40))
def test_signatures_of_servers(text):
    ours(transit.read_signature, json.dumps({"data": {"signature": text}}).encode(), version=1)
