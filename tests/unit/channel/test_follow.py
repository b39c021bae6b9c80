# SPDX-License-Identifier: Apache-2.0
"""Following a channel where nothing is wrong, or nothing that is an attack. The attacks: tests/attacks/test_channel_steps.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tuf.api.metadata import Metadata

from chopmark.adapters.kms.file import generate
from chopmark.channel import MissingError
from chopmark.errors import UndecidedError
from chopmark.keys import Algorithm
from chopmark.trust import sign_metadata
from simulators import NOW, SimChannel, SimLog, SimTrust, follower, refuses


@pytest.fixture
def channel():
    """A channel on which release 1 was published."""
    channel = SimChannel()
    channel.publish(channel.approve())
    return channel


@pytest.fixture
def device(channel):
    """A device that has seen it."""
    device = follower(channel)
    assert device.refresh(NOW).version == "1"
    return device


def test_the_second_of_two_ledgers_counts_too():
    first, second = SimLog(origin="old.acme/m"), SimLog()
    first.witnesses = second.witnesses
    trust = SimTrust(log=second, change=lambda policy: replace(policy, logs=(first.keys, second.keys)))
    channel = SimChannel(trust)
    channel.publish(channel.approve())
    assert follower(channel).refresh(NOW)


def test_a_status_of_the_same_second_is_not_older(channel, device):
    channel.issue(at=NOW)
    channel.publish(channel.approve(version="2", counter=2))
    assert device.refresh(NOW).version == "2"


def test_a_channel_that_cannot_be_reached_is_undecided_and_not_refused(channel, device):
    channel.down = True
    with pytest.raises(UndecidedError) as undecided:
        device.refresh(NOW)
    assert undecided.value.code == "unreachable"


def test_a_named_file_that_is_withheld_is_refused_and_an_unreachable_channel_is_undecided(channel, device):
    proof = channel.store.files.pop(channel.proof_path)
    with refuses("log-unproven", step=7):
        device.refresh(NOW)
    channel.store.files[channel.proof_path] = proof
    del channel.store.files["metadata/timestamp.json"]
    with pytest.raises(MissingError):
        device.refresh(NOW)


def test_a_signature_that_is_added_by_a_stranger_changes_nothing(channel, device):
    metadata = Metadata.from_bytes(channel.store.files["metadata/timestamp.json"])
    sign_metadata(metadata, [generate(Algorithm.ED25519)])
    channel.lies["metadata/timestamp.json"] = metadata.to_bytes()
    assert device.refresh(NOW).version == "1"
