# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from chopmark.adapters.counters.software import NoCounter
from chopmark.artifacts import Digest
from chopmark.device import Enrolment, enroll
from chopmark.errors import Refused, UndecidedError, UsageError, VerificationError
from unit.device.kit import CHANNEL, MODEL, World, make_signer


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def wish(world: World, **changes: object) -> Enrolment:
    first: dict[str, object] = {
        "name": "phone",
        "root": world.trust.first,
        "pin": world.trust.pin,
        "channel": CHANNEL,
        "models": (MODEL,),
        "channel_url": "http://channel.example",
        "fleet_url": "",
        "token": "",
        "runtime": "tiny",
    }
    return Enrolment(**(first | changes))  # type: ignore[arg-type]


def test_the_service_gives_the_id_and_the_root_the_workspace(world):
    device = world.enroll()
    assert (device.config.device, device.config.workspace) == ("phone-1", "acme")
    assert device.folder.key.stat().st_mode & 0o777 == 0o600
    assert device.folder.secret.stat().st_mode & 0o777 == 0o600
    assert device.folder.path.stat().st_mode & 0o777 == 0o700
    assert device.store.read().chain.nonce == "c0"


def test_a_root_that_is_not_pinned_is_not_trusted_on_first_use(world, tmp_path):
    with pytest.raises(Refused) as caught:
        enroll(
            tmp_path / "d",
            wish(world, pin=Digest.of(b"another")),
            fleet=None,
            make_signer=make_signer,
            counter=NoCounter(),
        )
    assert caught.value.code == "root-untrusted"
    assert not (tmp_path / "d").exists()


def test_a_device_is_not_enrolled_twice(world):
    device = world.enroll()
    with pytest.raises(UsageError):
        enroll(device.folder.path, wish(world), fleet=None, make_signer=make_signer, counter=NoCounter())


def test_what_the_service_refuses_leaves_nothing_behind(world, tmp_path):
    class Strict(type(world.fleet)):  # type: ignore[misc]
        def _enroll(self, request):
            raise VerificationError("wrong token", code="token-refused")

    (tmp_path / "kept").mkdir()
    for path in (tmp_path / "new", tmp_path / "kept"):
        with pytest.raises(VerificationError):
            enroll(path, wish(world), fleet=Strict(world.trust), make_signer=make_signer, counter=NoCounter())
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "kept").iterdir()) == []


def test_an_interrupted_enrolment_goes_on_with_its_key(world, tmp_path):
    class Away(type(world.fleet)):  # type: ignore[misc]
        def _enroll(self, token, key, name):
            raise OSError

    path = tmp_path / "d"
    with pytest.raises(UndecidedError):
        enroll(path, wish(world), fleet=Away(world.trust), make_signer=make_signer, counter=NoCounter())
    key = (path / "key.pem").read_bytes()
    with pytest.raises(UsageError):
        world.open(path)
    enroll(path, wish(world), fleet=world.fleet, make_signer=make_signer, counter=NoCounter())
    assert (path / "key.pem").read_bytes() == key
    assert world.open(path).config.device == "phone-1"


@pytest.mark.parametrize("change", [{"models": ()}, {"channel": "status"}, {"name": "../x"}, {"poll_s": 0}])
def test_what_cannot_be_is_not_enrolled(world, tmp_path, change):
    with pytest.raises(UsageError):
        enroll(tmp_path / "d", wish(world, **change), fleet=None, make_signer=make_signer, counter=NoCounter())


def test_a_secret_that_others_may_read_is_refused(world):
    device = world.enroll()
    device.folder.secret.chmod(0o644)
    with pytest.raises(UsageError):
        world.open(device.folder.path)
