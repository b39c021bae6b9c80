# SPDX-License-Identifier: Apache-2.0
"""A Rekor v2 log in memory, behind the ports of the real one. It tells the truth until a test bends its answers.

    rekor = SimRekor(signer, origin="rekor.example")
    submit(record, rekor, rekor.files, key=rekor.key, policy=NO_WITNESS)

``bend`` gets the JSON object of each answer and changes it; ``says`` replaces an answer altogether.
"""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from chopmark.ledger import (
    Checkpoint,
    SignatureLine,
    SignedNote,
    bundle_path,
    edge_of,
    inclusion_path,
    integrate,
    leaf_hash,
    root_of,
    tile_path,
)
from chopmark.ledger.ports import LogFiles, RekorAnswer, RekorClient
from chopmark.ledger.rekor import HashedRekord, LogEntry, rekor_key


class SimRekor(RekorClient):
    """
    Attributes:
        entries: what was logged.
        lines: further lines under each checkpoint: cosignatures, or what somebody slipped in.
        asked: how often it was asked.
    """

    def __init__(self, signer, *, origin="rekor.example", entries=(), bend=None, says=None):
        self.signer, self.key = signer, rekor_key(origin, signer.public)
        self.entries = list(entries)
        self.bend, self.says, self.lines, self.asked = bend, says, (), 0

    @property
    def files(self):
        return SimRekorFiles(self)

    def note(self, size=None):
        leaves = [leaf_hash(entry) for entry in self.entries[:size]]
        text = Checkpoint(origin=self.key.name, size=len(leaves), root=root_of(leaves)).encode()
        # Made by hand, so that what reads it is not also what wrote it.
        own = SignatureLine(name=self.key.name, key_id=self.key.key_id, signature=self.signer.sign(text.encode()))
        return SignedNote(text=text, signatures=(own, *self.lines)).encode()

    def entry(self, index):
        leaves = [leaf_hash(entry) for entry in self.entries]
        path = inclusion_path(index, len(leaves), lambda h, i: root_of(leaves[i << h : (i + 1) << h]))
        return LogEntry(
            index=index,
            log_id=self.key.key_hash,
            path=path,
            checkpoint_note=self.note(),
            body=self.entries[index],
        )

    def _create_entry(self, request):
        self.asked += 1
        if self.says is not None:
            return self.says
        asked = json.loads(request)["hashedRekordRequestV002"]
        signature = asked["signature"]
        leaf = HashedRekord(
            digest=b64decode(asked["digest"]),
            signature=b64decode(signature["content"]),
            verifier=b64decode(signature["verifier"]["publicKey"]["rawBytes"]),
            key_details=signature["verifier"]["keyDetails"],
        ).encode()
        if leaf in self.entries:
            return RekorAnswer(status=409, body=b'{"code":6, "message":"exists"}', at=str(self.entries.index(leaf)))
        self.entries.append(leaf)
        # As its gateway writes it: members that are empty are there.
        answer = {**json.loads(self.entry(len(self.entries) - 1).encode()), "inclusionPromise": None}
        if self.bend is not None:
            self.bend(answer)
        return RekorAnswer(status=201, body=json.dumps(answer).encode())


class SimRekorFiles(LogFiles):
    def __init__(self, rekor):
        self.rekor = rekor

    def _find(self, path, max_bytes):
        if path == "checkpoint":
            return self.rekor.note()
        built = integrate(edge_of(0, [], []), self.rekor.entries)
        found = {tile_path(tile.level, tile.index, len(tile.hashes)): tile.encode() for tile in built.tiles}
        found |= {bundle_path(bundle.index, len(bundle.entries)): bundle.encode() for bundle in built.bundles}
        return found.get(path)


@contextmanager
def serving(rekor):
    """Serve *rekor* on loopback as the real one is served: entries are posted, files lie beside them; give its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told = rekor.create_entry(body) if self.path == "/api/v2/log/entries" else RekorAnswer(status=404, body=b"")
            self.tell(told.status, told.body, {"X-Log-Index": told.at} if told.at else {})

        def do_GET(self):
            found = rekor.files.find(self.path.removeprefix("/api/v2/"), max_bytes=10**6)
            self.tell(200 if found is not None else 404, found or b"", {})

        def tell(self, status, body, headers):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
