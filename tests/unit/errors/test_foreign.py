# SPDX-License-Identifier: Apache-2.0
"""The guard of the ports: what adapters raise becomes ours, what is ours stays as it is."""

from __future__ import annotations

import pytest

from chopmark.artifacts import BlobStore, Digest
from chopmark.channel.ports import ChannelStore, SecurityHost
from chopmark.device import Counter
from chopmark.errors import DecodeError, Refused, UndecidedError, VerificationError, foreign


@pytest.mark.parametrize("error", [ValueError("a secret"), OSError(5, "a secret"), StopIteration(), AssertionError()])
def test_what_is_foreign_is_named_and_not_quoted(error):
    with pytest.raises(UndecidedError) as caught, foreign(UndecidedError, "it broke", code="broken", hint="mend it"):
        raise error
    assert (caught.value.message, caught.value.code) == (f"it broke ({type(error).__name__})", "broken")
    assert (caught.value.hint, caught.value.__cause__) == ("mend it", error)


def test_it_is_quoted_where_the_port_says_so():
    with pytest.raises(VerificationError) as caught, foreign(VerificationError, "no", code="c", quote=True):
        raise ValueError("x" * 300)
    assert caught.value.message == f"no (ValueError: {'x' * 200})"


@pytest.mark.parametrize("error", [DecodeError("mine"), Refused("log-fork"), KeyboardInterrupt(), SystemExit(1)])
def test_ours_and_what_ends_the_program_pass(error):
    with pytest.raises(type(error)) as caught, foreign(UndecidedError, "it broke", code="broken"):
        raise error
    assert caught.value is error


def broken(*_):
    raise RuntimeError


class Broken(BlobStore, ChannelStore, Counter, SecurityHost):
    _put = _get = _put_new = _replace = _swap = _value = _advance = _submit = broken
    kind = "broken"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda it: BlobStore.put(it, b""), "not-written"),
        (lambda it: BlobStore.get(it, Digest.of(b"")), "not-read"),
        (lambda it: ChannelStore.get(it, "p"), "not-read"),
        (lambda it: it.put_new("p", b""), "not-written"),
        (lambda it: it.replace("p", b""), "not-written"),
        (lambda it: it.swap("p", None, b""), "not-written"),
        (lambda it: it.value(), "counter-unreadable"),
        (lambda it: it.advance(1), "counter-unwritten"),
        (lambda it: it.submit(b""), "unreachable"),
    ],
)
def test_ports_raise_only_ours(call, code):
    with pytest.raises(UndecidedError) as caught:
        call(Broken())
    assert caught.value.code == code
