# SPDX-License-Identifier: Apache-2.0
"""What a device pays for checking before it loads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnxruntime

from bench.hash import MEGABYTE, flat_digest
from bench.measure import Timing, in_turns
from bench.models import INPUTS, convolutions
from chopmark.adapters.memory.memfd import MemfdMemory
from chopmark.adapters.runtimes.onnxruntime import OnnxRuntime
from chopmark.artifacts import selftest
from chopmark.channel import RuntimeNeed
from chopmark.device import Device, Loaded, Verified, check, open_model
from unit.device.kit import MODEL, World, package


def load(folder: Path) -> Timing:
    """From a folder to a session: state, envelope, status, manifest, sealed copy, parser; against the parser alone."""
    model = convolutions()
    device = onnx_device(folder, model)
    path = folder / "model.onnx"
    path.write_bytes(model)

    def checked() -> None:
        with open_model(device, MODEL) as loaded:
            assert isinstance(loaded, Loaded), loaded

    def bare() -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # as ours
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    return in_turns(checked, bare, rounds=41)


def verify(folder: Path) -> Timing:
    """Everything that a load checks, over a package of 50 MB, no parser run; against the flat SHA-256 of its file."""
    world = World(folder)
    device = world.installed(world.release("1", files=package("1") | {"words.bin": os.urandom(50 * MEGABYTE)}))
    (path,) = device.folder.path.glob("slots/**/words.bin")

    def checked() -> None:
        verdict = check(device, MODEL)
        assert isinstance(verdict, Verified), verdict

    return in_turns(checked, lambda: flat_digest(path))


def sealed_copy_5mb(folder: Path) -> Timing:
    return _sealed_copy(folder / "model.bin", 5 * MEGABYTE, rounds=41)


def sealed_copy_50mb(folder: Path) -> Timing:
    return _sealed_copy(folder / "model.bin", 50 * MEGABYTE, rounds=15)


def _sealed_copy(path: Path, length: int, *, rounds: int) -> Timing:
    """Into sealed memory, hashed there, given back; against reading into memory and hashing."""
    path.write_bytes(os.urandom(length))
    memory = MemfdMemory()

    def sealed() -> None:
        with path.open("rb") as file:
            copy, _ = memory.copy("model.bin", file.fileno(), max_bytes=length)
            copy.close()

    return in_turns(sealed, lambda: hashlib.sha256(path.read_bytes()).digest(), rounds=rounds)


def onnx_device(folder: Path, model: bytes) -> Device:
    """Return a device that installed a release of *model* for ONNX Runtime."""
    runtime = OnnxRuntime()
    vectors = selftest.record(runtime.load(model), [[1] * INPUTS], tolerance=2000)
    files: Mapping[str, bytes] = {"model.onnx": model, "self-test.json": selftest.encode_vectors(vectors)}
    world = World(folder)
    world.publish("1", files=dict(files), runtime=RuntimeNeed(name=runtime.name, range=">=1", libraries={}))
    device = replace(world.enroll(), make_runtime=lambda: runtime)
    world.refresh(device)
    return device
