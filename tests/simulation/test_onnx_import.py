from __future__ import annotations

import copy
import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnx_operator_cases import CASES, network, normal, one, whole
from torch import Tensor, fx, nn

from veriquant.errors import VeriQuantError
from veriquant.networks import FAMILIES
from veriquant.networks.export import export_onnx
from veriquant.onnxgraph.graph import Graph
from veriquant.onnxgraph.rewrites import fold_batchnorm, fold_constants
from veriquant.simulation.onnx_import import import_onnx
from veriquant.simulation.operators import OPERATORS
from veriquant.simulation.weighted import Convolution, Product


def imported(model: onnx.ModelProto, *, folded: bool = False) -> fx.GraphModule:
    graph = Graph(copy.deepcopy(model))
    fold_constants(graph)
    if folded:
        fold_batchnorm(graph)
    return import_onnx(graph)


def images(shape: tuple[int, ...], batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, *shape)).astype(np.float32)


def assert_same(module: fx.GraphModule, model: onnx.ModelProto, x: np.ndarray, tolerance: float = 1e-5) -> None:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, {session.get_inputs()[0].name: x})
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    assert np.abs(found - expected).max() <= tolerance * max(1e-3, np.abs(expected).max())


# ------------------------------------------------------------------------------------------------------------ operators


def test_every_operator_has_cases_and_no_case_lacks_its_operator() -> None:
    assert set(CASES) == set(OPERATORS)


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_computes_what_onnx_runtime_computes(operator: str) -> None:
    for case in CASES[operator]:
        for output in range(case.outputs):
            model = case.model(operator, output)
            module = imported(model)
            for batch in (1, 3):
                assert_same(module, model, images(case.shape, batch))


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_is_of_its_kind(operator: str) -> None:
    for case in CASES[operator]:
        module = imported(case.model(operator))
        nodes = [node for node in module.graph.nodes if node.meta.get("operation") == "it"]
        named = [node for node in nodes if node.meta.get("tensor") == "y0"]
        assert {node.meta["operator"] for node in nodes} == {operator}
        assert len(named) == 1
        values = any(given in ("x", "other", "size", "turned") for given in case.inputs if isinstance(given, str))
        expected = case.kind or (OPERATORS.get(operator).kind if values else "silent")
        # The first is a constant's where the operator has one, and the last may be one of several outputs.
        assert expected in {node.meta.get("kind") for node in nodes}
        assert named[0].meta.get("kind", expected) == expected


def test_the_outputs_of_a_recurrent_layer_are_no_operations_of_their_own() -> None:
    nodes = [n for n in imported(CASES["LSTM"][0].model("LSTM", 1)).graph.nodes if n.meta.get("operation") == "it"]
    assert [(n.meta.get("kind"), n.meta.get("tensor")) for n in nodes] == [
        ("computing", None),
        (None, "y0"),
        (None, "y1"),
        (None, "y2"),
    ]


# ------------------------------------------------------------------------------------------------------------- networks

SMALL = {
    "mobilefacenet": {"embedding": 32, "width": 0.125, "size": 48},
    "mobilefacenet-foamliu": {"embedding": 32, "size": 48},
}


def small(name: str) -> tuple[onnx.ModelProto, int]:
    """Return a network of a family, with statistics of batch-norms that are no ones and zeros, and its side."""
    family = FAMILIES.get(name)
    arguments = SMALL.get(name, {"size": 32} if "size" in family.defaults else {})
    side = int(arguments.get("size", 80))
    torch.manual_seed(1)
    module = family.build(**(family.defaults | arguments))
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif key.endswith("running_mean"):
                tensor.normal_(0, 0.1)
    spec = family.spec.model_copy(update={"size": (side, side)})
    return onnx.load_from_string(export_onnx(module, spec)), side


#: More of the same operators: a hundred million parameters take minutes.
HUGE = ("transface-b", "transface-l")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in HUGE else name for name in FAMILIES]
)
def test_a_network_of_every_family_gives_the_embeddings_of_onnx_runtime(name: str) -> None:
    model, side = small(name)
    found = imported(model)
    for batch in (1, 3):
        assert_same(found, model, images((3, side, side), batch), 1e-4)


@pytest.mark.parametrize("name", ["mobilefacenet", "iresnet18"])
def test_so_does_one_whose_batch_norms_are_folded(name: str) -> None:
    model, side = small(name)
    found = imported(model, folded=True)
    assert "BatchNormalization" not in {node.meta.get("operator") for node in found.graph.nodes}
    assert_same(found, model, images((3, side, side), 3), 1e-4)


@pytest.mark.real
@pytest.mark.parametrize("path", ["mobilefacenet-y1/mobilefacenet-y1.onnx", "mobileface-v2/mobileface-v2.onnx"])
def test_a_real_network_gives_the_embeddings_of_onnx_runtime(real: Path, path: str) -> None:
    model = onnx.load(real / "networks" / path)
    for folded in (False, True):
        found = imported(model, folded=folded)
        for batch in (1, 3):
            assert_same(found, model, images((3, 112, 112), batch), 2e-5)


class Block(nn.Module):
    """A vision transformer of one block on 16 patches, with a token for the class."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.place = nn.Parameter(torch.randn(1, 17, 16))
        self.before, self.between = nn.LayerNorm(16), nn.LayerNorm(16)
        self.mixed, self.projected = nn.Linear(16, 48), nn.Linear(16, 16)
        self.wide, self.narrow = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        n, count, width = x.shape[0], x.shape[1] + 1, x.shape[2]
        x = torch.cat([self.token.expand(n, -1, -1), x], 1) + self.place
        q, k, v = self.mixed(self.before(x)).reshape(n, count, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) * (width // 4) ** -0.5).softmax(-1)
        x = x + self.projected((attention @ v).transpose(1, 2).reshape(n, count, width))
        x = x + self.narrow(nn.functional.gelu(self.wide(self.between(x))))
        return nn.functional.normalize(x[:, 0])


def exported(module: nn.Module, *, opset: int, side: int = 16) -> onnx.ModelProto:
    target = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(2, 3, side, side),),
            target,  # type: ignore[arg-type]
            input_names=["x"],
            output_names=["end"],
            dynamic_axes={"x": {0: "n"}, "end": {0: "n"}},
            opset_version=opset,
            dynamo=False,
        )
    return onnx.load_from_string(target.getvalue())


# Opset 16 has no LayerNormalization: its parts are exported.
@pytest.mark.parametrize("opset", [16, 17, 18, 20])
def test_a_transformer_gives_the_embeddings_of_onnx_runtime_for_any_batch(opset: int) -> None:
    torch.manual_seed(0)
    model = exported(Block(), opset=opset)
    kinds = {node.op_type for node in model.graph.node}
    assert {"Shape", "Reshape", "Softmax", "MatMul", "Concat", "Expand"} <= kinds
    found = imported(model)
    for batch in (1, 3):
        assert_same(found, model, images((3, 16, 16), batch), 1e-4)
    assert {n.meta["kind"] for n in found.graph.nodes if n.meta.get("operator") == "MatMul"} == {"weighted", "joining"}
    assert {n.meta["kind"] for n in found.graph.nodes if n.meta.get("operator") == "Shape"} == {"silent"}


def test_a_fixed_batch_of_the_file_binds_only_the_file() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Reshape", ["c", "shape"], ["end"], "reshape"),
    ]
    constants = {"w": normal(5, 4, 6, 8), "shape": whole(1, 5)}
    fixed = network(nodes, constants, batch=1)
    free = network(nodes, constants | {"shape": whole(-1, 5)})
    for batch in (1, 3):
        assert_same(imported(fixed), free, images((4, 6, 8), batch))


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_other_floating_types_are_computed_in_float32(kind: type) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["xx"], "into", to=helper.np_dtype_to_tensor_dtype(np.dtype(kind))),
        helper.make_node("MatMul", ["xx", "w"], ["m"], "product"),
        helper.make_node("Add", ["m", "b"], ["s"], "sum"),
        helper.make_node("Cast", ["s"], ["end"], "out", to=TensorProto.FLOAT),
    ]
    constants = {"w": normal(8, 5).astype(kind), "b": normal(5).astype(kind)}
    model = network(nodes, constants)
    module = imported(model)
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32}
    assert_same(module, model, images((4, 6, 8), 2), 1e-5 if kind is np.float64 else 1e-2)


def test_constants_may_be_written_in_every_form() -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], "a", value_float=2.0),
        helper.make_node("Constant", [], ["b"], "b", value_floats=[1.0] * 8),
        helper.make_node("Constant", [], ["c"], "c", value_ints=[0, -1]),
        helper.make_node("Constant", [], ["d"], "d", value_int=1),
        helper.make_node("Mul", ["x", "a"], ["xa"], "first"),
        helper.make_node("Add", ["xa", "b"], ["xb"], "second"),
        helper.make_node("Gather", ["xb", "d"], ["xd"], "third", axis=1),
        helper.make_node("Reshape", ["xd", "c"], ["end"], "fourth"),
    ]
    model = network(nodes, {})
    assert_same(imported(model), model, images((4, 6, 8), 3))


# ------------------------------------------------------------------------------------------------------ what it is like


def two_layers() -> onnx.ModelProto:
    """Return a network with odd names: a convolution, slopes, a product and a learned shift."""
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"], "/pre/Sub"),
        helper.make_node("Conv", ["centred", "w", "b"], ["maps"], "/conv.1/Conv"),
        helper.make_node("PRelu", ["maps", "slope"], ["bent"], "/conv.1/PRelu"),
        helper.make_node("Flatten", ["bent"], ["flat"], "7"),
        helper.make_node("MatMul", ["flat", "v"], ["product"], "forward"),
        helper.make_node("Add", ["product", "shift"], ["end"], "/conv_1/Conv"),
    ]
    constants = {
        "mean": normal(4, 1, 1),
        "w": normal(5, 4, 6, 8),
        "b": normal(5),
        "slope": normal(5, 1, 1),
        "v": normal(5, 3),
        "shift": normal(3),
    }
    return network(nodes, constants)


def test_nodes_tell_what_they_stand_for() -> None:
    module = imported(two_layers())
    placeholder, *nodes, output = module.graph.nodes
    assert placeholder.meta["tensor"] == "x"
    found = [
        tuple(n.meta[key] for key in ("operation", "operator", "kind", "tensor")) for n in nodes if n.op != "get_attr"
    ]
    assert found == [
        ("/pre/Sub", "Sub", "computing", "centred"),
        ("/conv.1/Conv", "Conv", "weighted", "maps"),
        ("/conv.1/PRelu", "PRelu", "activation", "bent"),
        ("7", "Flatten", "passing", "flat"),
        ("forward", "MatMul", "weighted", "product"),
        ("/conv_1/Conv", "Add", "computing", "end"),
    ]
    constants = [n.meta for n in nodes if n.op == "get_attr"]
    assert [meta["operation"] for meta in constants] == ["/pre/Sub", "/conv_1/Conv"]
    assert {meta["kind"] for meta in constants} == {"silent"}
    assert output.args[0] is nodes[-1]


def test_weights_are_named_after_their_operations_and_what_normalises_pixels_is_not_trained() -> None:
    module = imported(two_layers())
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    assert shapes == {
        "conv_1_Conv.weight": (5, 4, 6, 8),
        "conv_1_Conv.bias": (5,),
        "conv_1_PRelu.weight": (5,),
        "forward_1.weight": (3, 5),
        "shift": (3,),
    }
    assert [name for name, _ in module.named_buffers()] == ["mean"]
    assert isinstance(module.conv_1_Conv, Convolution)
    assert isinstance(module.forward_1, Product)


def test_every_parameter_is_reached_by_the_gradient() -> None:
    module = imported(two_layers())
    module(torch.from_numpy(images((4, 6, 8), 3))).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_graph_stays_as_it_is_and_shares_no_weights() -> None:
    graph = Graph(two_layers())
    before = graph.to_bytes()
    module = import_onnx(graph)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert graph.to_bytes() == before


def test_importing_draws_no_random_numbers() -> None:
    models = [CASES["LSTM"][0].model("LSTM"), two_layers()]
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    for model in models:
        imported(model)
    assert torch.rand(1) == expected


def test_what_leads_to_no_output_is_left_out() -> None:
    model = two_layers()
    model.graph.node.append(helper.make_node("Foo", ["maps"], ["nowhere"], "foo"))
    module = imported(model)
    assert "foo" not in {node.meta.get("operation") for node in module.graph.nodes}


def test_a_copy_computes_the_same_and_trains_apart() -> None:
    module = imported(two_layers())
    twin = copy.deepcopy(module)
    x = torch.from_numpy(images((4, 6, 8), 2))
    assert torch.equal(module(x), twin(x))
    with torch.no_grad():
        twin.shift.add_(1)
    assert torch.allclose(module(x) + 1, twin(x))


# --------------------------------------------------------------------------------------------------------------- errors


def refused(*nodes: onnx.NodeProto, opset: int = 17, **constants: np.ndarray) -> str:
    graph = Graph(network(list(nodes), constants, opset=opset))
    with pytest.raises(VeriQuantError) as caught:
        import_onnx(graph)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_unknown_operators_are_all_named_with_what_is_known() -> None:
    message = refused(
        helper.make_node("Foo", ["x"], ["a"], "/x/Foo"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Bar", ["b"], ["c"], "/x/Bar", domain="com.example"),
        helper.make_node("Foo", ["c"], ["end"], "/y/Foo"),
    )
    assert "'Foo' (node '/x/Foo')" in message
    assert "'com.example.Bar' (node '/x/Bar')" in message
    assert "replace them" in message
    assert "Conv, " in message


def test_a_known_name_of_another_domain_is_unknown() -> None:
    message = refused(helper.make_node("Conv", ["x", "w"], ["end"], "it", domain="com.example"), w=normal(4, 4, 1, 1))
    assert "'com.example.Conv' (node 'it')" in message


def test_a_quantized_network_is_refused() -> None:
    message = refused(
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"], "/in/Quantize"),
        helper.make_node("DequantizeLinear", ["q", "s"], ["end"], "/in/Dequantize"),
        s=one(0.1),
    )
    assert "quantized already" in message
    assert "'QuantizeLinear'" in message
    assert "give the full-precision file" in message


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "said"),
    [
        ("Conv", ("x", "y"), {}, "weight is computed"),
        ("Conv", ("x", normal(2, 4, 1, 1), "y"), {}, "bias is computed"),
        ("Conv", ("x", normal(2, 4, 1, 1, 1)), {}, "3 axes besides batch and channels"),
        ("Conv", ("x", normal(2, 4, 1, 1)), {"auto_pad": "ODD"}, "auto_pad is 'ODD'"),
        ("BatchNormalization", ("x", *[np.ones(4, np.float32)] * 4), {"training_mode": 1}, "training_mode is 1"),
        ("DepthToSpace", ("x",), {"blocksize": 2, "mode": "XYZ"}, "mode is 'XYZ'"),
        ("Gelu", ("x",), {"approximate": "erf"}, "approximate is 'erf'"),
        ("Pad", ("x", whole(*[0] * 8)), {"mode": "mirror"}, "mode is 'mirror'"),
        ("LRN", ("x",), {"size": 4}, "size is 4"),
        ("Resize", ("x", "", one(1).repeat(4)), {"mode": "cubic"}, "mode 'cubic'"),
        ("Resize", ("x", "", np.array([1, 2, 2, 2], np.float32)), {"nearest_mode": "floor"}, "nearest_mode 'floor'"),
        ("Dropout", ("x", one(0.5), np.array(True)), {}, "as in training"),
        ("Cast", ("x",), {"to": TensorProto.COMPLEX64}, "COMPLEX64"),
        ("GRU", ("x", normal(1, 3, 2), normal(1, 3, 1)), {"hidden_size": 1}, "linear_before_reset is 0"),
        ("LSTM", ("x", normal(1, 4, 2), normal(1, 4, 1)), {"direction": "reverse"}, "direction is 'reverse'"),
        ("Split", ("x", "y"), {}, "sizes of its parts are computed"),
    ],
)
def test_what_cannot_be_simulated_is_named(
    operator: str, inputs: tuple[str | np.ndarray, ...], attributes: dict[str, object], said: str
) -> None:
    names = [given if isinstance(given, str) else f"c{i}" for i, given in enumerate(inputs)]
    message = refused(
        helper.make_node("Neg", ["x"], ["y"], "negative"),
        helper.make_node(operator, names, ["end"], "/the/node", **attributes),
        **{f"c{i}": given for i, given in enumerate(inputs) if not isinstance(given, str)},
    )
    assert "/the/node" in message
    assert operator in message
    assert said in message


def test_padding_that_depends_on_an_unknown_size_is_refused() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["end"], "it", auto_pad="SAME_UPPER", strides=[2, 2])]
    graph = Graph(network(nodes, {"w": normal(2, 4, 3, 3)}, shape=(4, "h", "w")))
    with pytest.raises(VeriQuantError, match="depends on the input's size"):
        import_onnx(graph)


def test_an_output_that_no_input_reaches_is_refused() -> None:
    message = refused(helper.make_node("Constant", [], ["end"], "it", value_float=1.0))
    assert "does not depend on its input" in message
