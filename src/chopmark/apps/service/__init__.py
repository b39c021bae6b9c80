# SPDX-License-Identifier: Apache-2.0
"""The service that devices talk to; witness, security host and log server are other configurations of it.

    service    POST /v1/devices, POST /v1/reports, GET /v1/challenges/<device>, GET /v1/devices, GET /v1/refusals,
               GET /v1/status, GET /channel/..., GET /ledger/...
    witness    POST /add-checkpoint, GET /<origin hash>/checkpoint
    security   GET /status.json, POST /statements
    ledger     GET /checkpoint, GET /tile/..., POST /append

Reading is open to whoever reaches the address, so it listens on this machine alone unless told otherwise; what is
written is signed, or carries a token. The ledger is served without its entries, unless told otherwise.
"""
