# SPDX-License-Identifier: Apache-2.0
"""The operators that may stand in a deployed model; every other one is refused.

These are the operators of the ONNX standard (domain ``ai.onnx``) that compute with numbers. Left out on purpose: random
ones (an answer that differs each time cannot be self-tested), those that decode images or match patterns (parsers inside
the model), loops (how long they run cannot be read off the file), sequences and optionals, training, and all of other
domains: what they do is defined by whoever wrote the library. A workspace that needs one adds it by name.
"""

from __future__ import annotations

from collections.abc import Mapping

STANDARD_DOMAIN = ""
"""How ONNX spells ``ai.onnx``; both spellings mean it."""

OPSET_VERSIONS = range(7, 29)

_GROUPS = """
    Abs Add Ceil Clip CumSum CumProd Div Einsum Erf Exp Floor Gemm Log MatMul Max Mean Min Mod Mul Neg Pow Reciprocal Round
    Sign Sqrt Sub Sum Trilu Det DFT STFT BlackmanWindow HammingWindow HannWindow MelWeightMatrix
    Acos Acosh Asin Asinh Atan Atanh Cos Cosh Sin Sinh Tan Tanh
    And Or Xor Not Equal Greater GreaterOrEqual Less LessOrEqual Where IsInf IsNaN
    BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
    Celu Elu Gelu HardSigmoid HardSwish Hardmax LeakyRelu LogSoftmax Mish PRelu Relu Selu Shrink Sigmoid Softmax Softplus
    Softsign Swish ThresholdedRelu
    AveragePool BatchNormalization Conv ConvTranspose DeformConv Dropout GlobalAveragePool GlobalLpPool GlobalMaxPool
    GroupNormalization InstanceNormalization LayerNormalization LpNormalization LpPool LRN MaxPool MaxRoiPool MaxUnpool
    MeanVarianceNormalization RMSNormalization RoiAlign
    Attention RotaryEmbedding GRU LSTM RNN
    ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare TopK Unique NonMaxSuppression NonZero
    AffineGrid Cast CastLike CenterCropPad Col2Im Compress Concat Constant ConstantOfShape DepthToSpace Expand EyeLike
    Flatten Gather GatherElements GatherND GridSample Identity OneHot Pad Range Reshape Resize ReverseSequence
    ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze TensorScatter Tile Transpose Unsqueeze
    If
    QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger
"""

DEFAULT_OPERATORS: Mapping[str, frozenset[str]] = {STANDARD_DOMAIN: frozenset(_GROUPS.split())}
"""Domain -> names of the operators allowed from it."""


def domain_of(text: str) -> str:
    """Return the one spelling of a domain."""
    return STANDARD_DOMAIN if text == "ai.onnx" else text


def operator_name(domain: str, op_type: str) -> str:
    """Return ``Relu`` for a standard operator, ``domain::Name`` for another."""
    return op_type if domain == STANDARD_DOMAIN else f"{domain}::{op_type}"
