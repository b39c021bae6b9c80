# SPDX-License-Identifier: Apache-2.0
"""The conversation with a log's server in ``ledger-server.http``, word by word.

> POST /append ci application/octet-stream: hello    a request: method, path, whose token, type, headers, the body
< 200                                                its status, and headers that are looked at
…                                                    its body; … stands for anything
"""

from __future__ import annotations

import re
from pathlib import Path

from litestar.testing import TestClient

from chopmark.apps.service import wiring
from transcripts.test_transcripts import pattern
from unit.service.logkit import make_log

FILE = Path(__file__).parent / "ledger-server.http"


def test_conversation_with_a_log_server(tmp_path: Path) -> None:
    log = make_log(tmp_path / "l")
    log.give("slow", per_minute=2)
    text = "\n".join(line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("# "))
    with TestClient(wiring.log_server(log.place.folder, wiring.LogSettings())) as client:
        for turn in re.split(r"^> ", text, flags=re.MULTILINE)[1:]:
            asked, *rest = turn.split("\n")
            call, _, body = asked.partition(":")
            method, path, *words = call.split()
            headers = dict(word.split("=") for word in words[2:])
            if words:
                headers |= {"authorization": f"Bearer {log.tokens.get(words[0], words[0])}", "content-type": words[1]}
            got = client.request(method, path, content=body.strip() or None, headers=headers)
            status, *wanted = [line[2:] for line in rest if line.startswith("< ")]
            assert got.status_code == int(status), asked
            for name, value in (line.split(": ", 1) for line in wanted):
                assert re.fullmatch(pattern([value]), got.headers[name]), f"{asked}: {name}: {got.headers[name]}"
            lines = [line for line in rest if not line.startswith("< ")]
            said = got.content.decode("latin-1" if "tile" in path else "utf-8").strip("\n")
            assert re.fullmatch(pattern(lines), said, flags=re.DOTALL), f"{asked}\n{said}"
