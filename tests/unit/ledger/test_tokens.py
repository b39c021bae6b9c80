# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from chopmark.errors import DecodeError, UndecidedError, UsageError
from chopmark.ledger.tokens import (
    MAX_TOKENS,
    AppendToken,
    Rates,
    TokenFile,
    add_token,
    decode_tokens,
    encode_tokens,
    find_token,
    hash_of,
    is_token,
    make_token,
    read_tokens,
    revoke_token,
)

SECRET = bytes(range(32))


def token(name="ci", secret=SECRET, **changes):
    return AppendToken(
        **{"name": name, "sha256": hash_of(make_token(secret)), "created": "2026-11-24T12:00:00Z"} | changes
    )


def test_a_token_is_256_bits_behind_a_prefix():
    assert make_token(SECRET) == "chopmark-append-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert is_token(make_token(SECRET))
    assert not is_token(make_token(SECRET) + "\n")
    with pytest.raises(UsageError):
        make_token(SECRET[:16])


def test_whose_token_it_is():
    tokens = [token(), token("b", bytes(32))]
    assert find_token(tokens, f"Bearer {make_token(bytes(32))}") is tokens[1]
    assert find_token(tokens, f"bearer {make_token(SECRET)}") is tokens[0]
    for header in ("", "Bearer ", "Bearer ci", f"Bearer  {make_token(SECRET)}", f"Bearer {tokens[0].sha256.hex()}"):
        assert find_token(tokens, header) is None


def test_a_file_is_changed_under_a_lock_and_read_by_its_owner_alone(tmp_path):
    path = tmp_path / "t.json"
    file = TokenFile(path)
    assert read_tokens(path) == file.tokens() == ()
    add_token(path, token())
    add_token(path, token("b", bytes(32), per_minute=60))
    assert [t.name for t in file.tokens()] == ["ci", "b"]
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="of that name"):
        add_token(path, token())
    revoke_token(path, "ci")
    assert file.tokens() == (token("b", bytes(32), per_minute=60),)
    with pytest.raises(UsageError):
        revoke_token(path, "ci")
    path.chmod(0o640)
    with pytest.raises(UndecidedError):
        file.tokens()
    path.chmod(0o600)
    path.write_text("{")
    with pytest.raises(UndecidedError):
        file.tokens()
    path.unlink()
    assert file.tokens() == ()


@pytest.mark.parametrize(
    "tokens",
    [
        [token(), token("b")],
        [token(), token(secret=bytes(32))],
        [token("../x")],
        [token(per_minute=-1)],
        [token(per_minute=1_000_001)],
        [token(sha256=b"short")],
        [token(f"n{n}", n.to_bytes(32)) for n in range(MAX_TOKENS + 1)],
    ],
)
def test_files_that_are_refused(tokens):
    with pytest.raises(DecodeError):
        decode_tokens(encode_tokens(tokens))


def test_a_rate_is_a_minutes_worth_and_refills():
    now = [0.0]
    rates = Rates(lambda: now[0])
    slow, other = token(per_minute=3), token("b")
    assert [rates.wait_s(slow) for _ in range(4)] == [0, 0, 0, 20]
    assert rates.wait_s(other) == 0
    now[0] += 19
    assert rates.wait_s(slow) == pytest.approx(1)
    now[0] += 1
    assert rates.wait_s(slow) == 0
    now[0] += 3600
    assert [rates.wait_s(slow) > 0 for _ in range(4)] == [False, False, False, True]
