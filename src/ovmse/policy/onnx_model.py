"""A policy as an ONNX model: one step, the memory as explicit input and output, the axis of episodes free."""

from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.policy.act import Network, Policy

OPSET, IR_VERSION = 17, 8
"""Of 2022: old enough for what runs on machines in use."""


class Graph:
    """Nodes and constants, put together by the names of what they give."""

    def __init__(self, onnx: Any):
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of a new constant."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """The name of what a new node gives."""
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def build(policy: Policy) -> bytes:
    """The model's file. Inputs: observations [B, N, O] float32, available [B, N, A] bool, last_action [B, N] int64 (-1
    at an episode's start) and hidden [B, N, H] float32 (zeros there); outputs: action [B, N] int64, scores [B, N, A]
    and next_hidden. Raises `UserError` where onnx is not installed."""
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise UserError('--onnx needs the package onnx: pip install "ovmse[onnx]".') from error
    graph, sizes = Graph(onnx), policy.sizes
    order = np.concatenate([_numbers(policy, at) for at, _ in policy.networks])
    parts = [step(graph, network, sizes["actions"], _numbers(policy, at)) for at, network in policy.networks]
    back = graph.constant(np.argsort(order), np.int64)
    for name, those in zip(("next_hidden", "scores"), zip(*parts, strict=True), strict=True):
        graph.add("Gather", graph.add("Concat", *those, axis=1), back, axis=1, name=name)
    worst = graph.constant(np.float32(np.finfo(np.float32).min))
    legal = graph.add("Where", "available", "scores", worst)
    graph.add("ArgMax", legal, axis=2, keepdims=0, name="action")
    n, o, a, h = (sizes[name] for name in ("agents", "features", "actions", "hidden"))
    kinds = onnx.TensorProto
    given = {"observations": (kinds.FLOAT, o), "available": (kinds.BOOL, a), "last_action": (kinds.INT64, None)}
    given |= {"hidden": (kinds.FLOAT, h)}
    gives = {"action": (kinds.INT64, None), "scores": (kinds.FLOAT, a), "next_hidden": (kinds.FLOAT, h)}
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(k, kind, ["B", n, *([w] if w else [])]) for k, (kind, w) in those.items()]
        for those in (given, gives)
    )
    made = onnx.helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.constants)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION, producer_name="ovmse")
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _numbers(policy: Policy, at: Any) -> np.ndarray:
    return np.arange(policy.sizes["agents"])[at]


def step(graph: Graph, network: Network, n_actions: int, agents: np.ndarray) -> tuple[str, str]:
    """The nodes of `Network.step` for its agents: the names of the next hidden state and of the scores."""

    def of_agents(name: str) -> str:
        return graph.add("Gather", name, graph.constant(agents, np.int64), axis=1)

    def affine(x: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        product = graph.add("MatMul", x, graph.constant(weight))
        return product if bias is None else graph.add("Add", product, graph.constant(bias))

    def normal(x: str) -> str:
        if not network.normalise:
            return x
        units = [graph.constant(np.full(network.h, value)) for value in (1.0, 0.0)]
        return graph.add("LayerNormalization", x, *units, axis=-1, epsilon=1e-5)

    def thirds(x: str) -> list[str]:
        names = [f"{x}_{gate}" for gate in ("reset", "update", "new")]
        sizes = graph.constant([network.h] * 3, np.int64)
        graph.nodes.append(graph.onnx.helper.make_node("Split", [x, sizes], names, axis=-1))
        return names

    acted = graph.add("Gather", graph.constant(network.acted), of_agents("last_action"))
    seen = affine(of_agents("observations"), network.seen)
    fed = graph.add("Relu", normal(graph.add("Add", graph.add("Add", seen, acted), graph.constant(network.index))))
    hidden = of_agents("hidden")
    given, kept = thirds(affine(fed, network.w_x, network.b_x)), thirds(affine(hidden, network.w_h))
    reset, update = (graph.add("Sigmoid", graph.add("Add", given[i], kept[i])) for i in range(2))
    inner = graph.add("Mul", reset, graph.add("Add", kept[2], graph.constant(network.b_n)))
    new = graph.add("Tanh", graph.add("Add", given[2], inner))
    after = graph.add("Add", new, graph.add("Mul", update, graph.add("Sub", hidden, new)))
    scores = affine(normal(after), network.w_out[:, :n_actions], network.b_out[:n_actions])
    return after, scores
