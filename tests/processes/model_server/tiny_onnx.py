"""An exported encoder as small as one can be: the vector of a token is its row of a table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]


def table_encoder(table: Floats, *, is_pooled: bool) -> bytes:
    """Return the ONNX model: pooled by its mean, or a vector a token, times the mask beside the ids."""
    hidden = table.shape[1]
    constants = {"table": table, "token_axis": np.array([1], np.int64), "last": np.array([2], np.int64)}
    tokens = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])]
    nodes: list[NodeProto] = [helper.make_node("Gather", ["table", "input_ids"], ["rows"])]
    if is_pooled:
        nodes.append(helper.make_node("ReduceMean", ["rows", "token_axis"], ["pooled"], keepdims=0))
        output = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [1, hidden])
    else:
        tokens.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, [1, "tokens"]))
        nodes.append(helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Unsqueeze", ["mask", "last"], ["column"]))
        nodes.append(helper.make_node("Mul", ["rows", "column"], ["last_hidden_state"]))
        output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [1, "tokens", hidden])
    graph = helper.make_graph(
        nodes,
        "encoder",
        tokens,
        [output],
        [numpy_helper.from_array(each, name) for name, each in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
