# SPDX-License-Identifier: Apache-2.0
"""The command line of the service, the witness, the security host and the log server."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from litestar import Litestar

from chopmark.apps.service import wiring
from chopmark.apps.service.limits import CONNECTIONS, CONNECTIONS_PER_PEER, READ_SECONDS, Limits
from chopmark.apps.service.serve import Address, serve
from chopmark.channel.status import STATUS_INTERVAL
from chopmark.ledger.intake import WAITING
from chopmark.ledger.place import read_witness_place
from chopmark.release.workspace import Workspace, open_workspace

_PAGE = """\
Serve devices (service), cosign a ledger (witness), publish what is revoked (security), or serve a log (ledger).

It prints one line when it answers:   listening on http://127.0.0.1:8440
"""
_EXAMPLE = """\
Example:
  serve service --workspace acme --port 8440
  serve witness --workspace acme --name witness-1 --port 0 --port-file witness-1.port
  serve witness --folder w1 --port 8450
  serve security --workspace acme --port 8442
  serve ledger --workspace acme-log --port 8443
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the four until it is told to stop.

    Raises:
        ChopmarkError: it cannot be started, or cannot go on.
    """
    args = _parser().parse_args(argv)
    limits = Limits(
        read_s=args.read_timeout_s,
        per_peer=0 if args.behind_proxy else args.connections_per_peer,
        at_once=CONNECTIONS
        + (args.waiting if args.mode == "ledger" else 0),  # who is too many is told when to come again
    )
    serve(_build(args), _address(args), limits=limits)


def _build(args: argparse.Namespace) -> Litestar:
    if args.mode == "ledger":
        return wiring.log_server(args.workspace, _log_settings(args))
    if args.mode == "witness" and args.folder is not None:
        return wiring.own_witness(read_witness_place(args.folder))
    return _of_workspace(open_workspace(args.workspace), args)


def _of_workspace(workspace: Workspace, args: argparse.Namespace) -> Litestar:
    if args.mode == "witness":
        return wiring.witness(workspace, name=args.name, create=args.create)
    if args.mode == "security":
        return wiring.security(workspace, create=args.create, interval=timedelta(seconds=args.interval_s))
    paths = wiring.ServicePaths(token=args.token_file, alert=args.alert_file, ledger_folder=args.ledger_folder)
    return wiring.service(workspace, create=args.create, paths=paths, public_entries=args.public_entries)


def _log_settings(args: argparse.Namespace) -> wiring.LogSettings:
    return wiring.LogSettings(
        tokens=args.token_file,
        folder=args.ledger_folder,
        read_only=args.read_only,
        public_entries=args.public_entries,
        require_signature=args.require_signature,
        trust=args.trust,
        waiting=args.waiting,
    )


def _address(args: argparse.Namespace) -> Address:
    return Address(
        host=args.host,
        port=args.port,
        port_file=args.port_file,
        certificate=args.certificate,
        key=args.key,
        behind_proxy=args.behind_proxy,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serve", description=_PAGE, epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_subparsers(dest="mode", required=True, metavar="service|witness|security|ledger")
    service = modes.add_parser("service", help="enrolment, reports, channel and ledger")
    service.add_argument("--token-file", type=Path, help="the enrolment token, mode 0600 (default: in the workspace)")
    service.add_argument("--alert-file", type=Path, help="where the newest alert goes (default: alert.ocsf.json)")
    service.add_argument("--ledger-folder", type=Path, help="serve an exported ledger instead of the one here")
    service.add_argument(
        "--public-entries",
        action="store_true",
        help="let whoever reaches the service read every ledger entry; devices need none",
    )
    witness = modes.add_parser("witness", help="cosign that the ledger only grows")
    which = witness.add_mutually_exclusive_group(required=True)
    which.add_argument("--name", help="a witness of the workspace: its name, and the owner of its keys")
    which.add_argument("--folder", type=Path, help="a witness of its own: the folder with its witness.toml")
    security = modes.add_parser("security", help="sign the status again and again")
    hours = STATUS_INTERVAL.total_seconds()
    security.add_argument("--interval-s", type=int, default=int(hours), help="issue the status again after, seconds")
    ledger = modes.add_parser("ledger", help="a log: its files, and POST /append")
    _ledger_options(ledger)
    for mode in (service, witness, security, ledger):
        _common(mode)
    return parser


def _ledger_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token-file", type=Path, help="who may append, mode 0600 (default: beside the log)")
    parser.add_argument("--read-only", action="store_true", help="take no entries; needs none of the log's keys")
    parser.add_argument("--ledger-folder", type=Path, help="serve an exported log instead, for reading")
    parser.add_argument("--public-entries", action="store_true", help="let whoever reaches the server read every entry")
    parser.add_argument(
        "--require-signature",
        action="store_true",
        help="take only statements that a role of the workspace signed and may sign",
    )
    parser.add_argument("--trust", type=Path, help="the workspace of --require-signature (default: the log's own)")
    parser.add_argument(
        "--waiting",
        type=_positive(int),
        default=WAITING,
        help=f"entries that may wait to be logged; more are told to come again (default: {WAITING})",
    )


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workspace", type=Path, default=Path(), help="a folder in the workspace, or the log (default: here)"
    )
    parser.add_argument("--create", action="store_true", help="make what remembers the past, where there is none yet")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    parser.add_argument("--port-file", type=Path, help="write the port here once it answers")
    parser.add_argument("--certificate", type=Path, help="PEM; TLS 1.3 is then required of clients")
    parser.add_argument("--key", type=Path, help="PEM of the certificate's key")
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="plain HTTP although others can reach the address, and no limit of connections per peer",
    )
    parser.add_argument(
        "--read-timeout-s",
        type=_positive(float),
        default=READ_SECONDS,
        help=f"end a client whose head, or body, takes longer, seconds (default: {READ_SECONDS:g})",
    )
    parser.add_argument(
        "--connections-per-peer",
        type=_positive(int),
        default=CONNECTIONS_PER_PEER,
        help=f"at a time, from one IPv4 address or IPv6 /64 (default: {CONNECTIONS_PER_PEER})",
    )


def _positive(kind: type[float | int]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError(text)
        return value

    parse.__name__ = "positive number"
    return parse
