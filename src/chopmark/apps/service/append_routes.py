# SPDX-License-Identifier: Apache-2.0
"""``POST /append``: one entry in, its proof out.

(1) whose token is it: 401; (2) is the body what it should be: 415; (3) is the token within its rate: 429; (4) does too
much wait already: 503; (5) read the body: 413; (6) where signatures are asked for, is it a statement that verifies: 400,
403; (7) log it, and answer once it is durable. Nothing of a body is read before (4), and everything that is held while a
client is answered is bounded by the number of connections and by :data:`chopmark.ledger.intake.WAITING`. A log that has
ended answers 410 at (7), and an entry that is in it as ever.

200: the proof is in a checkpoint that the log's policy is content with. 202: the entry is logged, and too few witnesses
could be asked; the proof is in the log's own checkpoint. The same entry sent again gets the same index, and by then
perhaps 200.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from chopmark.apps.service.admission import Admission
from chopmark.apps.service.web import JSON, AnyRequest, json_response, problem, raw_response
from chopmark.errors import ChopmarkError
from chopmark.ledger import MAX_ENTRY_BYTES, Checkpoint, TlogProof, decode_note
from chopmark.ledger.intake import Appended, Intake
from chopmark.ledger.tokens import Rates, TokenFile, find_token

APPEND: Final = "/append"
ENTRY_TYPE: Final = "application/octet-stream"
PROOF_TYPE: Final = "text/plain; charset=utf-8"
BUSY_S: Final = 1
PATIENCE_S: Final = 5.0
"""How long a client waits for witnesses before it is answered without them."""

Refusal = Response[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Appends:
    """Who may append, how fast, and where to.

    Attributes:
        admission: None where any bytes may be logged.
    """

    tokens: TokenFile
    rates: Rates
    intake: Intake
    admission: Admission | None = None
    patience_s: float = PATIENCE_S

    def close(self) -> None:
        """Finish what waits."""
        if self.admission is not None:
            self.admission.close()
        self.intake.close()


def append_routes(appends: Appends) -> list[HTTPRouteHandler]:
    """Return the route of *appends*."""

    @post(APPEND, request_max_body_size=MAX_ENTRY_BYTES)
    async def append(request: AnyRequest) -> Response[bytes]:
        if (refusal := _refusal(appends, request)) is not None:
            return refusal
        entry = await request.body()
        if not entry:
            return problem(400, "empty", "an entry has at least one byte")
        try:
            if appends.admission is not None:
                await asyncio.wrap_future(appends.admission.admit(entry))
            logged = await asyncio.wrap_future(appends.intake.append(entry))
        except ChopmarkError as error:
            if error.code == "log-busy":
                return _busy()
            if error.code == "log-frozen":
                return _ended()
            raise
        return await _answer(appends, request, logged)

    return [append]


def _refusal(appends: Appends, request: AnyRequest) -> Refusal | None:
    """Return why this request is not looked at further: steps 1 to 4."""
    token = find_token(appends.tokens.tokens(), _only(request, "authorization"))
    if token is None:
        headers = {"WWW-Authenticate": "Bearer"}
        return problem(401, "token-refused", "this token may not append", "ask the log's operator", headers=headers)
    if _only(request, "content-type").lower() != ENTRY_TYPE or "content-encoding" in request.headers:
        return problem(415, "media-type", f"an entry is sent as {ENTRY_TYPE}, as it is")
    wait_s = appends.rates.wait_s(token)
    if wait_s:
        headers = {"Retry-After": str(math.ceil(wait_s))}
        return problem(429, "too-fast", "this token is used faster than it may be", "slow down", headers=headers)
    return _busy() if appends.intake.full else None


async def _answer(appends: Appends, request: AnyRequest, logged: Appended) -> Response[bytes]:
    proof, status = logged.proof, 200
    if appends.intake.asks_witnesses:
        try:
            async with asyncio.timeout(appends.patience_s):
                proof = await asyncio.wrap_future(appends.intake.cosigned(logged.index))
        except (ChopmarkError, TimeoutError):
            status = 202  # the log goes on without them; whoever wants them asks again
    if not _wants_json(request):
        return raw_response(proof, media_type=PROOF_TYPE, status=status)
    note = decode_note(TlogProof.decode(proof).checkpoint_note)
    size = Checkpoint.decode(note.text).size
    return json_response({"index": logged.index, "size": size, "proof": proof.decode()}, status=status)


def _busy() -> Response[bytes]:
    message = "too many entries wait to be logged"
    return problem(503, "busy", message, "try again in a second", headers={"Retry-After": str(BUSY_S)})


def _ended() -> Refusal:
    # The error's own words may name a folder of this machine.
    hint = "append to the log that follows it; its operator says which"
    return problem(410, "log-frozen", "this log has ended, and takes no new entry", hint)


def _only(request: AnyRequest, name: str) -> str:
    """Return a header that comes once; one that comes twice could be read in two ways, and is read as none."""
    found = request.headers.getall(name, [])
    return found[0].strip() if len(found) == 1 else ""


def _wants_json(request: AnyRequest) -> bool:
    return JSON in [kind.partition(";")[0].strip().lower() for kind in request.headers.get("accept", "").split(",")]


def say_why(feed: Callable[[], object]) -> Callable[[], None]:
    """Return *feed* that says on stderr when too few witnesses cosign, and when enough do again."""
    silent = False

    def tell(text: str) -> None:
        print(f"witnesses: {text}", file=sys.stderr, flush=True)  # noqa: T201

    def fed() -> None:
        nonlocal silent
        try:
            feed()
        except ChopmarkError as error:
            if not silent:
                tell(f"{error.code}: {error.message}; entries are logged, and answered without them")
            silent = True
            raise
        if silent:
            tell("enough of them cosign again")
        silent = False

    return fed
