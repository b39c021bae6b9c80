# SPDX-License-Identifier: Apache-2.0
"""Make the model a third of its size: weights and the matrix products in 8 bits.

Static: the ranges come from the training images, so an image's answer never depends on what else is in its batch.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from digits import Images, load
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class TrainingImages(CalibrationDataReader):  # type: ignore[misc]
    """One batch: all of them."""

    def __init__(self, images: Images) -> None:
        self._batches = iter([{"pixels": images}])

    def get_next(self) -> dict[str, Images] | None:
        return next(self._batches, None)


def quantize(model: Path, out: Path, images: Images) -> None:
    """Write the 8-bit model; only operators of the ONNX standard are used.

    Unsigned times unsigned, because signed weights saturate differently on processors without VNNI.
    """
    logging.disable(logging.WARNING)  # it recommends a clean-up that a graph of six nodes does not need
    quantize_static(
        model,
        out,
        TrainingImages(images),
        quant_format=QuantFormat.QOperator,
        op_types_to_quantize=["MatMul"],
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QUInt8,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("model-fp32.onnx"))
    parser.add_argument("--data", type=Path, nargs="+", default=sorted(Path("data").glob("branch-*.csv")))
    parser.add_argument("--out", type=Path, default=Path("model.onnx"))
    given = parser.parse_args()
    quantize(given.model, given.out, load(given.data)[0])
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
