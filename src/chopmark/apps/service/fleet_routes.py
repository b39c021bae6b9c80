# SPDX-License-Identifier: Apache-2.0
"""The API that devices and people use: HTTP on one side, :class:`chopmark.fleet.Fleet` on the other."""

from __future__ import annotations

from typing import Final

from anyio import to_thread
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from chopmark.apps.service.web import AnyRequest, in_thread, json_response, raw_response
from chopmark.artifacts import Digest
from chopmark.clock import format_time
from chopmark.fleet import Device, Fleet, Refusal, summarise
from chopmark.telemetry import MAX_ENROLMENT_BYTES, MAX_REPORT_BYTES, decode_enrolment, encode_enrolled

ENVELOPE_TYPE: Final = "application/vnd.dsse.envelope.v1+json"
_MAX_LISTED: Final = 1000


def fleet_routes(fleet: Fleet) -> list[HTTPRouteHandler]:
    """Return the routes of *fleet*."""

    def enroll(body: bytes) -> bytes:
        return encode_enrolled(fleet.enroll(decode_enrolment(body)))

    @post("/v1/devices", request_max_body_size=MAX_ENROLMENT_BYTES)
    async def enroll_device(request: AnyRequest) -> Response[bytes]:
        return raw_response(await in_thread(enroll, request), media_type="application/json", status=201)

    @post("/v1/reports", request_max_body_size=MAX_REPORT_BYTES)
    async def take_report(request: AnyRequest) -> Response[bytes]:
        return raw_response(await in_thread(fleet.report, request), media_type=ENVELOPE_TYPE)

    @get("/v1/challenges/{device:str}")
    async def challenge(request: AnyRequest) -> Response[bytes]:
        device = str(request.path_params["device"])
        return json_response({"device": device, "nonce": await to_thread.run_sync(fleet.challenge, device)})

    @get("/v1/devices")
    async def devices() -> Response[bytes]:
        found = await to_thread.run_sync(fleet.store.devices)
        return json_response({"devices": [device_json(device) for device in found]})

    @get("/v1/refusals")
    async def refusals() -> Response[bytes]:
        found = await to_thread.run_sync(lambda: fleet.store.refusals(limit=_MAX_LISTED))
        return json_response({"refusals": [refusal_json(refusal) for refusal in found]})

    @get("/v1/status")
    async def status() -> Response[bytes]:
        summary = await to_thread.run_sync(summarise, fleet.store)
        return json_response(
            {
                "devices": summary.devices,
                "conditions": {str(c): n for c, n in summary.conditions.items()},
                "running": {m: {str(d): n for d, n in counts.items()} for m, counts in summary.running.items()},
                "refusals": summary.refusals,
                "newest": summary.newest.id if summary.newest else None,
                "undelivered": summary.undelivered,
            }
        )

    return [enroll_device, take_report, challenge, devices, refusals, status]


def device_json(device: Device) -> dict[str, object]:
    """Return what people see of a device."""
    return {
        "device": device.id,
        "name": device.name,
        "condition": str(device.condition),
        "held": device.held,
        "tier": device.tier,
        "keyid": device.key.keyid,
        "enrolled": format_time(device.enrolled),
        "seen": format_time(device.seen) if device.seen else None,
        "reports": device.seq,
        "running": {model: str(release) for model, release in device.running.items()},
        "refusals": sorted(f"R{s.refusal}" for s in device.standings.values() if s.refusal is not None),
    }


def refusal_json(refusal: Refusal) -> dict[str, object]:
    """Return all that is known about a refusal."""
    return {
        "id": refusal.id,
        "device": refusal.device,
        "code": refusal.code,
        "step": refusal.step,
        "topic": refusal.topic,
        "model": refusal.model,
        "slot": refusal.slot,
        "release": _optional(refusal.release),
        "running": _optional(refusal.running),
        "message": refusal.message,
        "facts": dict(refusal.facts),
        "hint": refusal.hint,
        "report": str(refusal.report),
        "first": format_time(refusal.first),
        "last": format_time(refusal.last),
        "count": refusal.count,
        "alerted": refusal.alerted,
    }


def _optional(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)
