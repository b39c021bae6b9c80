# SPDX-License-Identifier: Apache-2.0
"""A trusted root names logs, ours among others."""

from __future__ import annotations

import json

import pytest

from attacks.test_rekor import LEAVES
from chopmark.adapters.kms.file import generate
from chopmark.errors import Refused
from chopmark.keys import Algorithm
from chopmark.ledger import log_key
from chopmark.ledger.rekor import TrustedRoot, host_of, rekor_key, trusted_root
from simulators.rekor import SimRekor
from simulators.sigstore import SimSigstore

ED, P256 = generate(Algorithm.ED25519), generate(Algorithm.ECDSA_P256)


def rekor(origin="rekor.example", signer=ED):
    return SimRekor(signer, origin=origin, entries=LEAVES)


@pytest.mark.parametrize("signer", [ED, P256])
def test_an_entry_of_a_named_log_is_proven(signer):
    log = rekor(signer=signer)
    root = TrustedRoot.decode(trusted_root(log.key))
    assert root.verify(log.entry(3), log.entries[3]).index == 3
    with pytest.raises(Refused) as refused:
        root.verify(log.entry(3), log.entries[2])
    assert refused.value.code == "log-unproven"


def test_an_entry_of_another_log_is_not():
    other = TrustedRoot.decode(trusted_root(log_key("rekor.example", generate(Algorithm.ED25519).public)))
    assert not other.knows(rekor().entry(0))
    with pytest.raises(Refused, match="does not name"):
        other.verify(rekor().entry(0), rekor().entries[0])


def test_a_log_whose_name_has_a_path_is_found():
    log = rekor("log.acme/models")
    root = TrustedRoot.decode(trusted_root(log.key))
    assert root.verify(log.entry(0), log.entries[0]).checkpoint.origin == "log.acme/models"
    assert [host_of(name) for name in ("log.acme", "log.acme/models", "log.acme:80", "Log")] == [
        True,
        False,
        False,
        False,
    ]


def test_what_another_root_names_is_kept(tmp_path):
    sim = SimSigstore(tmp_path)
    first = trusted_root(rekor_key("one.example", P256.public), into=sim.trusted_root())
    both = json.loads(trusted_root(log_key("two.example", ED.public), into=first))
    assert [log["baseUrl"] for log in both["tlogs"]] == ["https://two.example", "https://one.example"]
    before = json.loads(sim.trusted_root())
    assert all(both[name] == before[name] for name in ("certificateAuthorities", "ctlogs", "timestampAuthorities"))
    again = json.loads(trusted_root(log_key("two.example", ED.public), into=json.dumps(both).encode()))
    assert again == both  # a log stands there once


def test_logs_with_keys_of_other_kinds_are_passed_over():
    root = json.loads(trusted_root(rekor().key))
    root["tlogs"][0]["publicKey"]["keyDetails"] = "PKIX_RSA_PKCS1V15_2048_SHA256"
    assert TrustedRoot.decode(json.dumps(root).encode()).logs == ()
