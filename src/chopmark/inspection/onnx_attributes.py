# SPDX-License-Identifier: Apache-2.0
"""The attributes of standard operators: one that is not here has no meaning, and no place in a file that is deployed.

A line names operators, then the field of ``AttributeProto`` that holds the value, then the attributes so held; of all versions
since operator set 7. An operator without a line has no attributes.
"""

from __future__ import annotations

from collections.abc import Mapping

_TABLE = """
AffineGrid: i align_corners
ArgMax ArgMin: i axis keepdims select_last_index
Attention: f scale softcap, i is_causal kv_num_heads left_window_size q_num_heads qk_matmul_output_mode
    right_window_size softmax_precision
AveragePool: i ceil_mode count_include_pad, ints dilations kernel_shape pads strides, s auto_pad
BatchNormalization: f epsilon momentum, i spatial training_mode
BitShift: s direction
BlackmanWindow HammingWindow HannWindow: i output_datatype periodic
Cast: i saturate to, s round_mode
CastLike: i saturate, s round_mode
Celu Elu LeakyRelu Swish ThresholdedRelu: f alpha
CenterCropPad MeanVarianceNormalization Squeeze Unsqueeze: ints axes
Clip: f max min
Col2Im: ints dilations pads strides
Compress Concat Flatten Gather GatherElements Hardmax LogSoftmax OneHot Softmax: i axis
Constant: f value_float, floats value_floats, i value_int, ints value_ints, s value_string, sparse_tensor
    sparse_value, strings value_strings, t value
ConstantOfShape: t value
Conv ConvInteger QLinearConv: i group, ints dilations kernel_shape pads strides, s auto_pad
ConvTranspose: i group, ints dilations kernel_shape output_padding output_shape pads strides, s auto_pad
CumProd CumSum: i exclusive reverse
DFT: i axis inverse onesided
DeformConv: i group offset_group, ints dilations kernel_shape pads strides
DepthToSpace SpaceToDepth: i blocksize, s mode
DequantizeLinear: i axis block_size output_dtype
Dropout: f ratio, i seed
Einsum: s equation
EyeLike: i dtype k
GRU: f clip, floats activation_alpha activation_beta, i hidden_size layout linear_before_reset, s direction, strings
    activations
GatherND: i batch_dims
Gelu: s approximate
Gemm: f alpha beta, i transA transB
GlobalLpPool: i p
GridSample: i align_corners, s mode padding_mode
GroupNormalization: f epsilon, i num_groups stash_type
HardSigmoid: f alpha beta
If: g else_branch then_branch
InstanceNormalization: f epsilon
IsInf: i detect_negative detect_positive
LRN: f alpha beta bias, i size
LSTM: f clip, floats activation_alpha activation_beta, i hidden_size input_forget layout, s direction, strings
    activations
LayerNormalization RMSNormalization: f epsilon, i axis stash_type
Loop: g body
LpNormalization: i axis p
LpPool: i ceil_mode p, ints dilations kernel_shape pads strides, s auto_pad
MaxPool: i ceil_mode storage_order, ints dilations kernel_shape pads strides, s auto_pad
MaxRoiPool: f spatial_scale, ints pooled_shape
MaxUnpool: ints kernel_shape pads strides
MelWeightMatrix: i output_datatype
Mod: i fmod
NonMaxSuppression: i center_point_box
Pad: f value, ints pads, s mode
QuantizeLinear: i axis block_size output_dtype precision saturate
RNN: f clip, floats activation_alpha activation_beta, i hidden_size layout, s direction, strings activations
Range: i stash_type
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare: i
    keepdims noop_with_empty_axes, ints axes
Reshape: i allowzero
Resize: f cubic_coeff_a extrapolation_value, i antialias exclude_outside, ints axes, s coordinate_transformation_mode
    keep_aspect_ratio_policy mode nearest_mode
ReverseSequence: i batch_axis time_axis
RoiAlign: f spatial_scale, i output_height output_width sampling_ratio, s coordinate_transformation_mode mode
RotaryEmbedding: i interleaved num_heads rotary_embedding_dim
STFT: i onesided
Scan: g body, i num_scan_inputs, ints directions scan_input_axes scan_input_directions scan_output_axes
    scan_output_directions
ScatterElements: i axis, s reduction
ScatterND: s reduction
Selu: f alpha gamma
Shape: i end start
Shrink: f bias lambd
Slice: ints axes ends starts
Split: i axis num_outputs, ints split
TensorScatter: i axis, s mode
TopK: i axis k largest sorted
Transpose: ints perm
Trilu: i upper
Unique: i axis sorted
"""


def _read(table: str) -> dict[str, frozenset[tuple[str, str]]]:
    found: dict[str, frozenset[tuple[str, str]]] = {}
    for line in table.strip().replace("\n    ", " ").splitlines():
        operators, _, groups = line.partition(": ")
        held = [(name, kind) for kind, *names in map(str.split, groups.split(", ")) for name in names]
        found.update(dict.fromkeys(operators.split(), frozenset(held)))
    return found


ATTRIBUTES: Mapping[str, frozenset[tuple[str, str]]] = _read(_TABLE)
"""Operator -> (attribute, field that holds its value)."""
