# SPDX-License-Identifier: Apache-2.0
"""What may not stand in an ONNX model, judged message by message while it is walked.

The rules hold wherever a message stands: in the graph, in the branches of ``If``, the bodies of ``Loop`` and ``Scan``, in
attributes, in local functions, in training information.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chopmark.inspection.model import MAX_FINDINGS, Finding, Limits
from chopmark.inspection.operators import OPSET_VERSIONS, STANDARD_DOMAIN, domain_of, operator_name
from chopmark.inspection.protobuf import Malformed

IR_VERSIONS = range(3, 15)
MAX_FUNCTIONS = 500

_MAIN = "graph"
_EXTERNAL = 1
_RUNTIME_KEYS = frozenset({"ort_config"})
"""Metadata that ONNX Runtime can be told to read its own settings from."""

_TAKEN_DOMAINS = ("ai.onnx", "com.microsoft", "com.ms", "org.pytorch")
"""Where runtimes have operators of their own: a harmless local function of the same name may not be what runs."""

_ATTRIBUTE_VALUES: Mapping[int, str] = {
    1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs",
    11: "sparse_tensor", 12: "sparse_tensors", 13: "tp", 14: "type_protos",
}  # fmt: skip
"""AttributeProto.AttributeType -> the one field that holds the value."""
_LISTS = frozenset({"floats", "ints", "strings", "tensors", "graphs", "sparse_tensors", "type_protos"})
_VALUES = frozenset(_ATTRIBUTE_VALUES.values())


@dataclass(frozen=True, slots=True)
class _Element:
    """How elements of one TensorProto.DataType lie in a file."""

    bits: int
    typed: str
    numerator: int = 1
    """Entries of the typed field per ``denominator`` elements."""
    denominator: int = 1


_STRING = 8
_INT64 = 7
_ELEMENTS: Mapping[int, _Element] = {
    1: _Element(32, "float_data"),
    **{code: _Element(8, "int32_data") for code in (2, 3, 9, 17, 18, 19, 20, 24)},
    **{code: _Element(16, "int32_data") for code in (4, 5, 10, 16)},
    6: _Element(32, "int32_data"),
    _INT64: _Element(64, "int64_data"),
    _STRING: _Element(0, "string_data"),
    11: _Element(64, "double_data"),
    12: _Element(32, "uint64_data"),
    13: _Element(64, "uint64_data"),
    14: _Element(64, "float_data", 2),
    15: _Element(128, "double_data", 2),
    **{code: _Element(4, "int32_data", 1, 2) for code in (21, 22, 23)},
    **{code: _Element(2, "int32_data", 1, 4) for code in (25, 26)},
    **{code: _Element(6, "int32_data") for code in (27, 28)},
}
_CONTAINERS = frozenset({element.typed for element in _ELEMENTS.values()} | {"raw_data"})


@dataclass(slots=True)
class Message:
    """One message as the walk met it: what the rules need, and no weights."""

    kind: str
    where: str
    counts: dict[str, int] = field(default_factory=dict)
    """Values of each field that is present; for packed numbers, how many numbers."""
    numbers: dict[str, list[int]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    children: dict[str, list[Message]] = field(default_factory=dict)
    raw_bytes: int = 0
    elements: int = 0
    """Of a tensor: the product of its dimensions."""

    def count(self, name: str, values: int = 1) -> None:
        """Note that a field is present, with so many values more."""
        self.counts[name] = self.counts.get(name, 0) + values

    def number(self, name: str, default: int = 0) -> int:
        """Return a singular number."""
        return self.numbers.get(name, [default])[0]

    def text(self, name: str) -> str:
        """Return a singular string."""
        return self.texts.get(name, [""])[0]


@dataclass(frozen=True, slots=True)
class _Call:
    caller: str
    function: tuple[str, str, str]
    where: str


class Rules:
    """The findings of one walk, and what was counted on the way."""

    def __init__(self, *, limits: Limits, allowed: Mapping[str, frozenset[str]]) -> None:
        self.limits = limits
        self.allowed = {domain_of(domain): names for domain, names in allowed.items()}
        self.findings: list[Finding] = []
        self.operators: Counter[str] = Counter()
        self.initializers = 0
        self.parameters = 0
        self._nodes: Counter[str] = Counter()
        self._calls: list[_Call] = []
        self._functions: dict[tuple[str, str, str], str] = {}
        self._imports: list[Message] = []
        self._judges: Mapping[str, Callable[[Message], None]] = {
            "Model": self._model,
            "Graph": self._graph,
            "Node": self._node,
            "Attribute": self._attribute,
            "Tensor": self._tensor,
            "SparseTensor": self._sparse,
            "TensorType": self._type,
            "MapType": self._type,
            "Function": self._function,
        }

    def judge(self, message: Message) -> None:
        """Apply the rules of its kind to a message that was walked to its end."""
        judge = self._judges.get(message.kind)
        if judge:
            judge(message)

    def find(self, code: str, where: str, message: str) -> None:
        """Note a reason to refuse.

        Raises:
            Malformed: there are so many that the rest is not worth reading.
        """
        if len(self.findings) >= MAX_FINDINGS:
            raise Malformed("too-many-findings", 0, f"more than {MAX_FINDINGS} findings; the rest was not read")
        self.findings.append(Finding(code, where or "model", message))

    # Messages, from the outside in.

    def _model(self, model: Message) -> None:
        if model.number("ir_version") not in IR_VERSIONS:
            self.find("version", "ir_version", f"IR version {model.number('ir_version')} is not one of 3 to 14")
        if "graph" not in model.counts:
            self.find("no-graph", "model", "there is no graph")
        self._metadata(model)
        for function in self._imports:
            self._opsets(function)
        self._opsets(model)
        for call in self._calls:
            if call.function not in self._functions:
                name = operator_name(*call.function[:2])
                self.find("domain-denied", call.where, f"{name[:80]!a} is of a domain that is not allowed")
        self._expansion()

    def _metadata(self, model: Message) -> None:
        keys = [entry.text("key") for entry in model.children.get("metadata_props", [])]
        self._unique("metadata_props", keys, "metadata key")
        for key in sorted(_RUNTIME_KEYS.intersection(keys)):
            self.find("runtime-settings", "metadata_props", f"{key} would configure the runtime")

    def _opsets(self, message: Message) -> None:
        own = {domain for domain, _, _ in self._functions}
        seen: list[str] = []
        for entry in message.children.get("opset_import", []):
            domain, version = domain_of(entry.text("domain")), entry.number("version")
            seen.append(domain)
            if domain not in self.allowed and domain not in own:
                self.find("domain-denied", entry.where, f"domain {domain[:80]!a} is not allowed")
            elif domain == STANDARD_DOMAIN and version not in OPSET_VERSIONS:
                self.find("version", entry.where, f"operator set {version} is not one of 7 to {OPSET_VERSIONS[-1]}")
        self._unique(message.where or "model", seen, "operator set of domain")
        standard = any(name in self.allowed.get(STANDARD_DOMAIN, ()) for name in self.operators)
        if message.kind == "Model" and standard and STANDARD_DOMAIN not in seen:
            self.find("version", "opset_import", "no version of the standard operators is named")

    def _expansion(self) -> None:
        """Count nodes with every local function put in the place of its call; a circle never ends."""
        callees: dict[str, list[str]] = {}
        for call in self._calls:
            if call.function in self._functions:
                callees.setdefault(call.caller, []).append(self._functions[call.function])
        sizes: dict[str, int] = {}

        def size(name: str, above: tuple[str, ...]) -> int:
            if name in above:
                return self.limits.max_nodes + 1
            if name not in sizes:
                sizes[name] = self._nodes[name] + sum(size(callee, (*above, name)) for callee in callees.get(name, []))
            return sizes[name]

        if len(self._functions) > MAX_FUNCTIONS:
            self.find("too-many-nodes", "functions", f"more than {MAX_FUNCTIONS} functions")
        elif any(size(name, ()) > self.limits.max_nodes for name in (_MAIN, *self._functions.values())):
            self.find(
                "too-many-nodes", _MAIN, f"functions expand in a circle, or beyond {self.limits.max_nodes:,} nodes"
            )

    def _graph(self, graph: Message) -> None:
        tensors = graph.children.get("initializer", [])
        names = [tensor.text("name") for tensor in tensors]
        self._unique(graph.where, names, "initializer")
        if "" in names:
            self.find("no-name", graph.where, "an initializer has no name")
        self.initializers += len(tensors) + graph.counts.get("sparse_initializer", 0)
        self.parameters += sum(tensor.elements for tensor in tensors)

    def _function(self, function: Message) -> None:
        key = (domain_of(function.text("domain")), function.text("name"), function.text("overload"))
        if key[0] in self.allowed or key[0].startswith(_TAKEN_DOMAINS):
            self.find("function-shadows", function.where, f"a function in the domain {key[0] or 'ai.onnx'!a}")
        if key in self._functions:
            self.find("duplicate-name", function.where, f"function {key[1][:80]!a} stands twice")
        self._functions[key] = function.where
        self._imports.append(function)

    def _node(self, node: Message) -> None:
        domain, op_type = domain_of(node.text("domain")), node.text("op_type")
        root = node.where.partition(".")[0]
        caller = root if root.startswith("functions[") else _MAIN
        self._nodes[caller] += 1
        self.operators[operator_name(domain, op_type)] += 1
        if op_type in self.allowed.get(domain, frozenset()):
            return
        if domain in self.allowed:
            name = operator_name(domain, op_type)
            self.find("operator-denied", node.where, f"operator {name[:80]!a} is not allowed")
        else:
            self._calls.append(_Call(caller, (domain, op_type, node.text("overload")), node.where))

    def _attribute(self, attribute: Message) -> None:
        kind, present = attribute.number("type"), _VALUES.intersection(attribute.counts)
        wanted = _ATTRIBUTE_VALUES.get(kind)
        if wanted is None:
            self.find("attribute", attribute.where, f"attribute type {kind}")
        elif attribute.text("ref_attr_name"):
            if present or not attribute.where.startswith("functions["):
                self.find("attribute", attribute.where, "refers to an attribute of a function, and must not")
        elif present - {wanted} or (wanted not in present and wanted not in _LISTS):
            self.find(
                "attribute", attribute.where, f"should hold {wanted}, holds {', '.join(sorted(present)) or 'nothing'}"
            )

    def _tensor(self, tensor: Message) -> None:
        where, dims = tensor.where, tensor.numbers.get("dims", [])
        if tensor.number("data_location") or "external_data" in tensor.counts:
            places = [e.text("value") for e in tensor.children.get("external_data", []) if e.text("key") == "location"]
            self.find("external-data", where, f"its data lie in another file: {', '.join(places)[:120]!a}")
            return
        element = _ELEMENTS.get(tensor.number("data_type"))
        if element is None:
            self.find("tensor", where, f"data type {tensor.number('data_type')}")
            return
        if len(dims) > self.limits.max_rank or any(size < 0 for size in dims):
            self.find("tensor", where, f"dimensions {dims[:8]}")
            return
        tensor.elements = math.prod(dims)
        if tensor.elements > self.limits.max_elements:
            self.find("tensor", where, f"{tensor.elements:,} elements")
            return
        self._tensor_data(tensor, element)

    def _tensor_data(self, tensor: Message, element: _Element) -> None:
        """Data of exactly the right size stand in exactly one place."""
        held = {name for name in _CONTAINERS if tensor.counts.get(name, 0)}
        if "raw_data" in held and not tensor.raw_bytes:
            held.discard("raw_data")
        if held - {element.typed, "raw_data"} or len(held) > 1:
            self.find("tensor", tensor.where, f"data in {', '.join(sorted(held))}")
        elif "raw_data" in held:
            wanted = -(-tensor.elements * element.bits // 8)
            if tensor.raw_bytes != wanted or tensor.number("data_type") == _STRING:
                self.find("tensor", tensor.where, f"{tensor.raw_bytes:,} bytes of data, {wanted:,} by its dimensions")
        else:
            wanted = -(-tensor.elements * element.numerator // element.denominator)
            stored = tensor.counts.get(element.typed, 0)
            if stored != wanted:
                self.find("tensor", tensor.where, f"{stored:,} numbers of data, {wanted:,} by its dimensions")

    def _sparse(self, sparse: Message) -> None:
        values, indices = sparse.children.get("values", []), sparse.children.get("indices", [])
        if not values or not indices:
            self.find("tensor", sparse.where, "a sparse tensor without values or indices")
            return
        count, rank = values[0].numbers.get("dims", []), sparse.counts.get("dims", 0)
        fits = indices[0].numbers.get("dims", []) in (count, [*count, rank])
        if len(count) != 1 or not fits or indices[0].number("data_type") != _INT64:
            self.find("tensor", sparse.where, "values and indices of a sparse tensor do not fit")
        if sparse.where.rpartition(".")[2].startswith("sparse_initializer"):
            self.parameters += values[0].elements

    def _type(self, message: Message) -> None:
        name = "key_type" if message.kind == "MapType" else "elem_type"
        if message.number(name) not in _ELEMENTS:
            self.find("tensor", message.where, f"element type {message.number(name)}")

    def _unique(self, where: str, names: list[str], what: str) -> None:
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            self.find("duplicate-name", where, f"{what} {twice[0][:80]!a} stands twice")
