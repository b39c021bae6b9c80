# SPDX-License-Identifier: Apache-2.0
"""Threat: a model of allowed operators that hangs the runtime, eats its memory, means two things, or carries something along.

Every byte of these files is understood; what refuses them is how their parts fit together. Nothing here is ever run.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from chopmark.inspection import DEFAULT_OPERATORS, Inspection, Limits, inspect_bytes
from chopmark.inspection.onnx_tensors import _MISFITS, _RANGES
from unit.inspection.models import branches, function, linear, table, weights

ELF = b"\x7fELF\x02\x01\x01" + bytes(57)
WITH_LOOPS = {"": DEFAULT_OPERATORS[""] | {"Loop", "Scan"}}


def codes(inspection: Inspection) -> set[str]:
    return {finding.code for finding in inspection.findings}


def inspect(model: onnx.ModelProto, **options: object) -> Inspection:
    return inspect_bytes(model.SerializeToString(), **options)


def node(op: str, inputs: str = "x", outputs: str = "y", domain: str = "", **attributes: object) -> onnx.NodeProto:
    """``node("Pad", "x p")``; ``-`` is an input left out."""
    return helper.make_node(op, [n.strip("-") for n in inputs.split()], outputs.split(), domain=domain, **attributes)


def constant(name: str, values: object, dtype: type = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


def model(
    nodes: Sequence[onnx.NodeProto], *stored: onnx.TensorProto, opset: int = 17, **more: object
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", [table("x")], [table("y")], stored)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("bank", 1)] if more else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def loop(bound: str, trips: Sequence[onnx.TensorProto], *inside: onnx.NodeProto) -> onnx.ModelProto:
    """``Loop`` over Identity, or over the nodes inside."""
    return model([node("Loop", f"{bound} t x", body=body(*inside))], constant("t", True, np.bool_), *trips)


def body(*inside: onnx.NodeProto, suffix: str = "") -> onnx.GraphProto:
    i, c, v, co, vo = (f"{name}{suffix}" for name in ("i", "c", "v", "co", "vo"))
    values = [
        helper.make_tensor_value_info(i, TensorProto.INT64, []),
        helper.make_tensor_value_info(c, TensorProto.BOOL, []),
        table(v),
    ]
    outputs = [helper.make_tensor_value_info(co, TensorProto.BOOL, []), table(vo)]
    nodes = [node("Identity", c, co), *(inside or [node("Identity", v, vo)])]
    return helper.make_graph(nodes, f"body{suffix}", values, outputs)


def inside_a_branch(one: onnx.NodeProto, *stored: onnx.TensorProto) -> onnx.ModelProto:
    """``If`` on what the model is fed: quiet in every test that does not know what to feed."""
    then = helper.make_graph([one], "then", [], [helper.make_tensor_value_info(one.output[0], 1, None)])
    other = helper.make_graph([node("Identity", "x", "b")], "else", [], [table("b")])
    nodes = [
        node("ReduceSum", "x", "sum", keepdims=0),
        node("Greater", "sum limit", "many"),
        node("If", "many", "y", then_branch=then, else_branch=other),
    ]
    return model(nodes, constant("limit", 1000.0, np.float32), *stored)


def calling(body_nodes: Sequence[onnx.NodeProto], *stored: onnx.TensorProto, inputs: str = "x s") -> onnx.ModelProto:
    """A local function that is given a constant."""
    imports = [helper.make_opsetid("", 17)]
    local = helper.make_function("bank", "f", inputs.split(), ["y"], body_nodes, imports)
    return model([node("f", inputs, domain="bank")], *stored, functions=[local])


HUGE = constant("s", [2**20, 2**20, 4])
SHAPE = node("ConstantOfShape", "s")


def by_attribute() -> onnx.ModelProto:
    """The shape is an attribute of the call of a function."""
    shape = node("Constant", "", "k")
    shape.attribute.add(name="value_ints", type=onnx.AttributeProto.INTS, ref_attr_name="shape")
    imports = [helper.make_opsetid("", 17)]
    local = helper.make_function("bank", "f", ["x"], ["y"], [shape, node("Expand", "x k")], imports, ["shape"])
    return model([node("f", domain="bank", shape=[2**20, 2**20])], functions=[local])


def doubling() -> onnx.ModelProto:
    """Each node makes twice of what the one before it made."""
    names = ["x", *(f"v{n}" for n in range(39)), "y"]
    return model([node("Concat", f"{a} {a}", b, axis=0) for a, b in pairwise(names)])


@dataclass(frozen=True)
class Greedy:
    name: str
    model: onnx.ModelProto
    code: str


LOOPS = [
    Greedy("without a bound", loop("-", []), "loop"),
    Greedy("2^62 times", loop("n", [constant("n", 2**62)]), "loop"),
    Greedy("as often as it is fed", model([node("Size", "x", "n"), node("Loop", "n - x", body=body())]), "loop"),
    Greedy("not a number of times", loop("n", [constant("n", np.nan, np.float32)]), "loop"),
    Greedy(
        "10^4 times 10^4 times",
        loop("n", [constant("n", 10_000)], node("Loop", "n - v", "vo", body=body(suffix="2"))),
        "loop",
    ),
    Greedy(
        "in a branch", inside_a_branch(node("Loop", "- t x", "a", body=body()), constant("t", True, np.bool_)), "loop"
    ),
    Greedy("in a function", calling([node("Loop", "s - x", body=body())], constant("s", 2**62)), "loop"),
]

MEMORY = [
    Greedy("ConstantOfShape", model([SHAPE], constant("s", [2**40])), "too-much-memory"),
    Greedy("ConstantOfShape in a branch", inside_a_branch(node("ConstantOfShape", "s", "a"), HUGE), "too-much-memory"),
    Greedy("ConstantOfShape in a function", calling([SHAPE], HUGE, inputs="s"), "too-much-memory"),
    Greedy("shape in an attribute of a call", by_attribute(), "too-much-memory"),
    Greedy(
        "shape of a Constant",
        model([node("Constant", "", "s", value_ints=[2**40]), SHAPE]),
        "too-much-memory",
    ),
    Greedy(
        "shape by arithmetic",
        model(
            [node("Mul", "a a", "b"), node("Unsqueeze", "b z", "s"), SHAPE], constant("a", 2**20), constant("z", [0])
        ),
        "too-much-memory",
    ),
    Greedy("Expand", model([node("Expand", "x s")], HUGE), "too-much-memory"),
    Greedy("Tile", model([node("Tile", "x s")], constant("s", [2**20, 2**20])), "too-much-memory"),
    Greedy(
        "Tile of Tile of Tile",
        model([node("Tile", "x s", "a"), node("Tile", "a s", "b"), node("Tile", "b s")], constant("s", [2**7, 2**7])),
        "too-much-memory",
    ),
    Greedy(
        "Range",
        model([node("Range", "a b c", "r"), node("Cast", "r", to=1)], *map(constant, "abc", (0, 2**50, 1))),
        "too-much-memory",
    ),
    Greedy(
        "Resize by scales",
        model([node("Resize", "x - s", mode="nearest")], constant("s", [2.0**20, 2.0**20], np.float32)),
        "too-much-memory",
    ),
    Greedy(
        "Resize to sizes",
        model([node("Resize", "x - - s", mode="nearest")], constant("s", [2**20, 2**20])),
        "too-much-memory",
    ),
    Greedy("Pad", model([node("Pad", "x s")], constant("s", [0, 2**40, 0, 0])), "too-much-memory"),
    Greedy("OneHot", model([node("OneHot", "x d v")], constant("d", 2**40), constant("v", [0, 1])), "too-much-memory"),
    Greedy(
        "padding of a pool",
        model([node("MaxPool", kernel_shape=[1, 1], pads=[2**20] * 4)]),
        "too-much-memory",
    ),
    Greedy(
        "output of a transposed convolution",
        model([node("ConvTranspose", "x k", output_shape=[2**20, 2**20])], weights("k", (1, 1, 1, 1))),
        "too-much-memory",
    ),
    Greedy(
        "dilation of a transposed convolution",
        model([node("ConvTranspose", "x k", kernel_shape=[2, 2], dilations=[2**20] * 2)], weights("k", (1, 1, 2, 2))),
        "too-much-memory",
    ),
    Greedy(
        "everything times everything",
        model([node("Einsum", "x x x x x x", equation="ab,cd,ef,gh,ij,kl->abcdefghijkl")]),
        "too-much-memory",
    ),
    Greedy("forty Concats", doubling(), "too-much-memory"),
    Greedy(
        "many that are large",
        model(
            [
                *(node("ConstantOfShape", "s", f"v{n}") for n in range(50)),
                node("Sum", " ".join(["x", *(f"v{n}" for n in range(50))])),
            ],
            constant("s", [2**27]),
        ),
        "too-much-memory",
    ),
]


@pytest.mark.parametrize("greedy", LOOPS, ids=lambda greedy: greedy.name)
def test_a_loop_that_may_never_end_is_refused_even_where_loops_are_allowed(greedy: Greedy) -> None:
    assert codes(inspect(greedy.model, allowed=WITH_LOOPS)) == {greedy.code}
    assert codes(inspect(greedy.model)) == {greedy.code, "operator-denied"}


def test_a_loop_with_a_bound_passes_where_loops_are_allowed() -> None:
    bounded = loop("n", [constant("n", 100)], node("Loop", "n - v", "vo", body=body(suffix="2")))
    assert inspect(bounded, allowed=WITH_LOOPS).passed
    assert codes(inspect(bounded)) == {"operator-denied"}


@pytest.mark.parametrize("greedy", MEMORY, ids=lambda greedy: greedy.name)
def test_a_model_that_asks_for_terabytes_is_refused(greedy: Greedy) -> None:
    assert codes(inspect(greedy.model)) == {greedy.code}


def test_shapes_of_a_usual_size_pass() -> None:
    shapes = model(
        [
            node("ConstantOfShape", "s", "a"),
            node("Tile", "a t", "b"),
            node("Pad", "b p", "c"),
            node("Resize", "c - f", "d", mode="nearest"),
            node("Add", "x d"),
        ],
        constant("s", [1, 256]),
        constant("t", [4, 4]),
        constant("p", [1, 1, 1, 1]),
        constant("f", [2.0, 2.0], np.float32),
    )
    assert inspect(shapes).passed
    assert codes(inspect(shapes, limits=Limits(max_output_elements=1000))) == {"too-much-memory"}


# What means two things, or nothing.


def changed(change: object, start: onnx.ModelProto | None = None) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(start or linear())
    change(copy)
    return copy


def two_alphas(one: onnx.ModelProto) -> None:
    one.graph.node[0].attribute.extend([helper.make_attribute("alpha", 1.0), helper.make_attribute("alpha", 9.0)])


def in_domain(domain: str) -> onnx.ModelProto:
    body_nodes = [node("Neg")]
    opsets = [("", 17), (domain, 1)]
    return linear([node("Gelu", domain=domain)], opsets=opsets, functions=[function(domain, "Gelu", body_nodes)])


def with_function(body_nodes: Sequence[onnx.NodeProto], **attributes: object) -> onnx.ModelProto:
    call = node("f", domain="bank", **attributes)
    return linear([call], opsets=[("", 17), ("bank", 1)], functions=[function("bank", "f", body_nodes)])


def chain(length: int) -> onnx.ModelProto:
    """Functions that call each other, each one deeper than the one before."""
    calls = [node(f"f{n + 1}", domain="bank") if n + 1 < length else node("Neg") for n in range(length)]
    bodies = [function("bank", f"f{n}", [call]) for n, call in enumerate(calls)]
    return linear([node("f0", domain="bank")], opsets=[("", 17), ("bank", 1)], functions=bodies)


MALFORMED = {
    "two nodes make one name": (model([node("Relu"), node("Neg")]), "duplicate-name"),
    "a node makes an initializer": (
        model([node("Neg", "x", "w"), node("Add", "x w")], weights()),
        "duplicate-name",
    ),
    "a branch makes a name of the outside": (branches(weights("x")), "duplicate-name"),
    "an input twice": (changed(lambda m: m.graph.input.append(table("x"))), "duplicate-name"),
    "an output twice": (changed(lambda m: m.graph.output.append(table("y"))), "duplicate-name"),
    "an attribute twice": (changed(two_alphas, linear([node("Elu")])), "duplicate-name"),
    "an attribute of no meaning": (linear([node("Relu", custom="run me")]), "attribute"),
    "an attribute of another type": (linear([node("Elu", alpha="9.0")]), "attribute"),
    "an attribute that the function does not have": (with_function([node("Neg")], more="run me"), "attribute"),
    "no output": (changed(lambda m: m.graph.ClearField("output")), "no-output"),
    "an input without a name": (changed(lambda m: setattr(m.graph.input.add(), "name", "")), "no-name"),
    "nothing to feed": (changed(lambda m: setattr(m.graph.initializer[0], "name", "x")), "no-input"),
    "a name that nobody made": (linear([node("Add", "x ghost")]), "undefined-name"),
    "an output that nobody made": (linear([node("Neg", "x", "z")]), "undefined-name"),
    "a circle": (linear([node("Add", "x b", "a"), node("Neg", "a", "b"), node("Neg", "b")]), "undefined-name"),
    "the wrong order": (linear([node("Neg", "a"), node("Neg", "x", "a")]), "undefined-name"),
    "a function that sees the graph": (with_function([node("Add", "x w")]), "undefined-name"),
    "a function without a body": (with_function([]), "empty-function"),
    "functions 500 deep": (chain(500), "too-many-nodes"),
    "dimensions that overflow": (
        linear(tensors=[TensorProto(name="q", data_type=1, dims=[0, 2**62, 2**62])]),
        "tensor",
    ),
    "a domain in capitals": (in_domain("Com.Microsoft"), "function-shadows"),
    "a domain in wide letters": (in_domain("com.micro\uff53oft"), "function-shadows"),
    "a domain in another alphabet": (in_domain("\u0441om.microsoft"), "domain-denied"),
    "a domain with a space": (in_domain("bank "), "domain-denied"),
    "settings in capitals": (
        changed(lambda m: m.metadata_props.add(key=" ORT_Config", value="{}")),
        "runtime-settings",
    ),
    "a setting of the session": (
        changed(lambda m: m.metadata_props.add(key="session.load_model_format", value="ORT")),
        "runtime-settings",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_graph_that_readers_understand_differently_is_refused(name: str) -> None:
    hostile, code = MALFORMED[name]
    assert code in codes(inspect(hostile)), inspect(hostile).findings


def test_calls_and_branches_too_deep_together_are_refused() -> None:
    """Each function is allowed, and each branch; what is nested is both."""
    assert inspect(chain(30)).passed
    assert codes(inspect(chain(30), limits=Limits(max_depth=20))) == {"too-many-nodes"}


def test_the_same_large_branch_called_often_takes_no_time() -> None:
    """The initializers of a function's branch are no nodes, and would be looked at once for each call."""
    stored = [constant(f"k{n}", n) for n in range(2_000)]
    then = helper.make_graph([node("Sum", " ".join(one.name for one in stored), "a")], "t", [], [table("a")], stored)
    other = helper.make_graph([node("Identity", "x", "b")], "e", [], [table("b")])
    body_nodes = [node("Cast", "x", "c", to=9), node("If", "c", "y", then_branch=then, else_branch=other)]
    names = ["x", *(f"v{n}" for n in range(5_000)), "y"]
    calls = [node("f", a, b, domain="bank") for a, b in pairwise(names)]
    local = function("bank", "f", body_nodes)
    started = time.monotonic()
    assert codes(inspect(model(calls, functions=[local]))) == {"too-many-nodes"}
    assert time.monotonic() - started < 10


# What is carried along.


def training() -> onnx.ModelProto:
    one = linear()
    one.training_info.add().initialization.CopyFrom(linear().graph)
    return one


def tensor(data_type: int, dims: Sequence[int], **data: object) -> onnx.ModelProto:
    return linear(tensors=[TensorProto(name="q", data_type=data_type, dims=dims, **data)])


HIDDEN = {
    "an initializer that nobody reads": (
        changed(lambda m: m.graph.initializer.append(constant("elf", list(ELF), np.uint8))),
        "unused",
    ),
    "a sparse one that nobody reads": (
        changed(
            lambda m: m.graph.sparse_initializer.append(
                helper.make_sparse_tensor(weights("s", (2,)), constant("", [0, 5]), [4, 4])
            )
        ),
        "unused",
    ),
    "an initializer that only an unread node reads": (
        model([node("Identity", "elf", "z"), node("Relu")], constant("elf", list(ELF), np.uint8)),
        "unused",
    ),
    "a constant that nobody reads": (
        model([node("Constant", "", "z", value=constant("elf", list(ELF), np.uint8)), node("Relu")]),
        "unused",
    ),
    "an initializer of a branch that nobody reads": (
        changed(
            lambda m: m.graph.node[1].attribute[0].g.initializer.append(constant("elf", list(ELF), np.uint8)),
            branches(weights("k")),
        ),
        "unused",
    ),
    "a function that nobody calls": (
        linear(opsets=[("", 17), ("bank", 1)], functions=[function("bank", "f", [node("Neg")])]),
        "unused",
    ),
    "what it was trained with": (training(), "training"),
    "bool that is an ELF": (tensor(9, [4], raw_data=ELF[:4]), "tensor"),
    "bool beyond 1": (tensor(9, [2], int32_data=[1, 2]), "tensor"),
    "float16 beyond 16 bits": (tensor(10, [2], int32_data=[2**31 - 1, -(2**31)]), "tensor"),
    "uint8 beyond 8 bits": (tensor(2, [2], int32_data=[255, 256]), "tensor"),
    "int8 beyond 8 bits": (tensor(3, [2], int32_data=[-128, 128]), "tensor"),
    "uint32 beyond 32 bits": (tensor(12, [2], uint64_data=[1, 2**32]), "tensor"),
    "float6 beyond 6 bits": (tensor(27, [2], int32_data=[1, 64]), "tensor"),
    "half a byte beyond int4": (tensor(22, [1], raw_data=b"\xf3"), "tensor"),
    "half a number beyond int4": (tensor(22, [3], int32_data=[0x21, 0xF3]), "tensor"),
    "bits beyond int2": (tensor(26, [5], raw_data=b"\xff\x04"), "tensor"),
    "text that is none": (tensor(8, [1], string_data=[b"\x80\x04N."]), "not-utf8"),
    "text with a zero": (tensor(8, [1], string_data=[b"a\0b"]), "not-utf8"),
    "text of 5,000 bytes": (tensor(8, [1], string_data=[b"a" * 5_000]), "too-long"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_carried_along_is_found(name: str) -> None:
    hostile, code = HIDDEN[name]
    assert codes(inspect(hostile)) == {code}


def test_numbers_in_several_runs_are_refused() -> None:
    """Packed numbers, and a single one before or after: their order is the reader's choice."""

    def graph(numbers: bytes) -> bytes:
        tensor = b"\x08\x02\x10\x07B\x01q" + numbers
        return b":" + bytes([len(tensor) + 2]) + b"*" + bytes([len(tensor)]) + tensor

    packed, single = b":\x01\x01", b"8\x02"
    assert "duplicate-field" not in codes(inspect_bytes(graph(single + single)))
    for several in (packed + single, single + packed, packed + packed):
        assert "duplicate-field" in codes(inspect_bytes(graph(several)))


@pytest.mark.parametrize("kind", sorted(_MISFITS))
def test_packed_numbers_misfit_exactly_where_single_ones_do(kind: int) -> None:
    allowed = _RANGES[kind]
    edges = {allowed.start, allowed.stop - 1, allowed.start - 1, allowed.stop, 0, 1, 127, 128, 255, 256, 2**14, 2**21}
    edges |= {-1, -128, -129, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**35, 2**63 - 1, -(2**63)}
    for number in edges:
        data, value = bytearray(), number % 2**64
        while value > 0x7F:
            data.append(value & 0x7F | 0x80)
            value >>= 7
        data.append(value)
        for packed in (data, b"\x01" + data, data + b"\x00", data + data):
            assert bool(_MISFITS[kind].search(packed)) == (number not in allowed), (number, packed)


def test_hundred_megabytes_take_no_second() -> None:
    """Weights are not looked at one by one."""
    big = weights("w", (4, 4))
    big.dims[:] = [4, 6_250_000]
    big.raw_data = bytes(100_000_000)
    data = model([node("MatMul", "x w")], big).SerializeToString()
    started = time.monotonic()
    assert inspect_bytes(data).passed
    assert time.monotonic() - started < 5


def test_findings_of_a_hostile_name_cannot_write_to_a_terminal() -> None:
    hostile = linear([node("Add", "x \x1b[2J")])
    assert not any(re.search(r"[\x00-\x1f]", finding.message) for finding in inspect(hostile).findings)
