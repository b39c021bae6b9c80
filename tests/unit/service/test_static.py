# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from litestar.testing import TestClient

from chopmark.apps.service.static import CHUNK_BYTES, folder_reader, mount
from chopmark.apps.service.web import application


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "channel"
    for name in ("metadata", "targets/production/packages"):
        (made / name).mkdir(parents=True)
    (made / "metadata/timestamp.json").write_bytes(b'{"t":1}')
    (made / "metadata/7.snapshot.json").write_bytes(b'{"s":7}')
    (made / "metadata/7.snapshot.tlog-proof").write_bytes(b"proof")
    (made / "metadata/.timestamp.json.ab12").write_bytes(b"half")
    (made / "targets/production/packages/model.onnx").write_bytes(b"w" * (3 * CHUNK_BYTES + 1))
    (made / "targets/production/packages/größe.txt").write_bytes(b"x")
    (made / "link.json").symlink_to(tmp_path / "secret")
    (made / "way-out").symlink_to(tmp_path)
    (tmp_path / "secret").write_bytes(b"secret")
    return made


@pytest.fixture
def client(folder):
    with TestClient(application([mount("/channel", folder_reader(folder))])) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "cache", "kind"),
    [
        ("metadata/timestamp.json", "no-cache", "application/json"),
        ("metadata/7.snapshot.json", "public, max-age=31536000, immutable", "application/json"),
        ("metadata/7.snapshot.tlog-proof", "no-cache", "text/plain; charset=utf-8"),
        ("targets/production/packages/größe.txt", "public, max-age=31536000, immutable", "application/octet-stream"),
    ],
)
def test_what_changes_is_revalidated_and_what_does_not_is_kept(client, folder, path, cache, kind):
    answer = client.get(f"/channel/{path}")
    assert (answer.status_code, answer.content) == (200, (folder / path).read_bytes())
    assert (answer.headers["cache-control"], answer.headers["content-type"]) == (cache, kind)
    assert answer.headers["x-content-type-options"] == "nosniff"
    head = client.head(f"/channel/{path}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))


def test_a_large_file_comes_in_pieces(client, folder):
    answer = client.get("/channel/targets/production/packages/model.onnx")
    assert answer.content == (folder / "targets/production/packages/model.onnx").read_bytes()
    assert "etag" not in answer.headers
    assert client.head("/channel/targets/production/packages/model.onnx").content == b""


def test_an_unchanged_file_is_not_sent_again(client):
    tag = client.get("/channel/metadata/timestamp.json").headers["etag"]
    answer = client.get("/channel/metadata/timestamp.json", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "metadata",
        "metadata/8.snapshot.json",
        "metadata/.timestamp.json.ab12",
        "link.json",
        "way-out/secret",
        "%2e%2e/secret",
        "..%2fsecret",
        "metadata/%2e%2e/%2e%2e/secret",
        "%2fetc%2fpasswd",
        "metadata/timestamp.json%00",
        "metadata%5ctimestamp.json",
        "%ff%fe",
        "x" * 300,
    ],
)
def test_everything_else_is_not_there(client, path):
    answer = client.get(f"/channel/{path}")
    assert answer.status_code == 404
    assert answer.json() == {"code": "not-found", "message": "there is nothing here", "hint": ""}


def test_nothing_can_be_written(client):
    assert client.put("/channel/metadata/timestamp.json", content=b"x").status_code == 405
    assert client.post("/channel/metadata/timestamp.json", content=b"x").json()["code"] == "method"
    assert client.get("/elsewhere").json()["code"] == "not-found"
