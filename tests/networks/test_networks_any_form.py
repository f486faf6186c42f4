"""Files of every form that people have: their ends, their batches, their types; each becomes a plain network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_sketch import DIM, SIDE, Net, plain, run_alone

from veriquant.deploy.runtimes import open_embedder
from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks import Network
from veriquant.networks.onnx_file import load_onnx, network_of_onnx
from veriquant.networks.plain_ends import PLAIN, is_plain
from veriquant.networks.trial import pictures


def load(model: onnx.ModelProto, spec: InputSpec | None = None, output: str | None = None) -> Network:
    return network_of_onnx(model.SerializeToString(), spec, name="net", source="net.onnx", output=output)


def refusal(model: onnx.ModelProto, output: str | None = None) -> str:
    with pytest.raises(VeriQuantError) as caught:
        load(model, output=output)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def info(name: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def grey() -> onnx.ModelProto:
    net = Net()
    net.head(net.body(cin=1))
    return net.model(shape=("n", 1, SIDE, SIDE))


def grey_nhwc() -> onnx.ModelProto:
    net = Net()
    net.head(net.body(net.op("Transpose", "image", perm=[0, 3, 1, 2]), cin=1))
    return net.model(shape=("n", SIDE, SIDE, 1))


def halves() -> onnx.ModelProto:
    net = Net(dtype=np.float16)
    net.head(net.body())
    return net.model(kind=TensorProto.FLOAT16)


def half_output() -> onnx.ModelProto:
    net = Net()
    net.op("Cast", net.head(net.body(), out="e"), to=TensorProto.FLOAT16, out="embedding")
    return net.model(out_kind=TensorProto.FLOAT16)


def doubles() -> onnx.ModelProto:
    net = Net()
    x = net.op("Cast", net.op("Add", "image", net.number(0.5, np.float64)), to=TensorProto.FLOAT)
    net.op("Cast", net.head(net.body(x), out="e"), to=TensorProto.DOUBLE, out="embedding")
    return net.model(kind=TensorProto.DOUBLE)


def bytes_cast(kind: int = TensorProto.UINT8) -> onnx.ModelProto:
    net = Net()
    x = net.op("Mul", net.op("Cast", "image", to=TensorProto.FLOAT), net.number(1 / 128))
    net.head(net.body(x))
    return net.model(kind=kind, out_kind=TensorProto.FLOAT)


def bytes_nhwc() -> onnx.ModelProto:
    net = Net()
    x = net.op("Cast", net.op("Transpose", "image", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    net.head(net.body(net.op("Mul", x, net.number(1 / 255))))
    return net.model(shape=("n", SIDE, SIDE, 3), kind=TensorProto.UINT8, out_kind=TensorProto.FLOAT)


def bytes_computed() -> onnx.ModelProto:
    """Whole numbers that are computed with before they are cast: they must stay whole."""
    net = Net()
    x = net.op("Div", "image", net.number(100, np.uint8))
    net.head(net.body(net.op("Cast", x, to=TensorProto.FLOAT)))
    return net.model(kind=TensorProto.UINT8, out_kind=TensorProto.FLOAT)


def four_axes() -> onnx.ModelProto:
    net = Net()
    net.op("GlobalAveragePool", net.body(), out="embedding")
    return net.model(out_shape=("n", DIM, 1, 1))


def one_row_between() -> onnx.ModelProto:
    net = Net()
    net.op("Unsqueeze", net.head(net.body(), out="e"), net.whole(1), out="embedding")
    return net.model(out_shape=("n", 1, DIM))


def without_axis_of_images() -> onnx.ModelProto:
    net = Net()
    x = net.op("Unsqueeze", "image", net.whole(0))
    net.op("Squeeze", net.head(net.body(x), out="e"), net.whole(0), out="embedding")
    return net.model(shape=(3, SIDE, SIDE), out_shape=(DIM,))


def bytes_without_axis() -> onnx.ModelProto:
    net = Net()
    x = net.op("Transpose", net.op("Cast", "image", to=TensorProto.FLOAT), perm=[2, 0, 1])
    x = net.op("Unsqueeze", x, net.whole(0))
    net.op("Squeeze", net.head(net.body(net.op("Mul", x, net.number(1 / 255))), out="e"), net.whole(0), out="embedding")
    return net.model(shape=(SIDE, SIDE, 3), kind=TensorProto.UINT8, out_kind=TensorProto.FLOAT, out_shape=(DIM,))


#: What the file takes: (numpy type, layout, batched).
FORMS: dict[str, tuple[Callable[[], onnx.ModelProto], type, str]] = {
    "grey": (grey, np.float32, "NCHW"),
    "grey, NHWC": (grey_nhwc, np.float32, "NHWC"),
    "float16": (halves, np.float16, "NCHW"),
    "float16 output": (half_output, np.float32, "NCHW"),
    "float64": (doubles, np.float64, "NCHW"),
    "uint8": (bytes_cast, np.uint8, "NCHW"),
    "int8": (lambda: bytes_cast(TensorProto.INT8), np.int8, "NCHW"),
    "int32": (lambda: bytes_cast(TensorProto.INT32), np.int32, "NCHW"),
    "uint8, NHWC": (bytes_nhwc, np.uint8, "NHWC"),
    "uint8, computed with": (bytes_computed, np.uint8, "NCHW"),
    "(n, d, 1, 1)": (four_axes, np.float32, "NCHW"),
    "(n, 1, d)": (one_row_between, np.float32, "NCHW"),
    "no axis of images": (without_axis_of_images, np.float32, "NCHW"),
    "uint8, no axis of images": (bytes_without_axis, np.uint8, "NHWC"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_any_ends_becomes_a_plain_network_and_goes_back(form: str) -> None:
    build, dtype, layout = FORMS[form]
    model = build()
    network = load(model)
    assert network.spec.layout == layout
    assert network.dim == DIM
    assert is_plain(onnx.load_from_string(network.onnx))
    images = pictures(network.spec, 5)
    expected = run_alone(model, images.astype(dtype))
    found = open_embedder(network.onnx, network.spec)(images)
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)
    # What a recipe writes takes the file's place: fed as the file is, of the same shape, and read again as it was.
    back = network.ends.restored(network.onnx)
    np.testing.assert_allclose(run_alone(back, images.astype(dtype)), expected, rtol=2e-2, atol=2e-3)
    ends = [
        [e.type.tensor_type for e in (m.graph.input[0], m.graph.output[0])]
        for m in (model, onnx.load_from_string(back))
    ]
    assert [e.elem_type for e in ends[0]] == [e.elem_type for e in ends[1]]
    assert [len(e.shape.dim) for e in ends[0]][:1] == [len(e.shape.dim) for e in ends[1]][:1]
    again = open_embedder(back, network.spec)(images)
    np.testing.assert_allclose(again, found, rtol=1e-5, atol=1e-6)
    if form in ("(n, d, 1, 1)", "(n, 1, d)"):
        assert len(ends[1][1].shape.dim) == len(ends[0][1].shape.dim)


def test_a_plain_file_has_plain_ends_and_no_notes() -> None:
    model = plain()
    network = load(model)
    assert network.onnx == model.SerializeToString()
    assert network.ends == PLAIN
    assert network.notes == ()


def test_grey_networks_are_shown_grey_images() -> None:
    assert load(grey()).spec.color == "GREY"
    side = 128
    net = Net()
    net.op("Flatten", net.op("GlobalAveragePool", net.conv("image", 1, DIM, s=4)), out="embedding")
    spec = load(net.model(shape=("n", 1, side, side))).spec
    assert (spec.color, spec.mean, spec.std) == ("GREY", (0.0,), (255.0,))
    assert "LightCNN" in spec.origin
    message = refusal_of_spec(grey(), InputSpec(size=(SIDE, SIDE)))
    assert "color" in message


def refusal_of_spec(model: onnx.ModelProto, spec: InputSpec) -> str:
    with pytest.raises(VeriQuantError) as caught:
        load(model, spec)
    return str(caught.value)


def test_whole_numbers_cannot_be_standardised_to_fractions() -> None:
    message = refusal_of_spec(bytes_cast(), InputSpec(size=(SIDE, SIDE)))
    assert "uint8" in message
    assert "std 1" in message


# ------------------------------------------------------------------------------------------------ several outputs


def several(*outputs: str) -> onnx.ModelProto:
    """feature (n, 16), long (n, 64), logits (n, 40), norm (n, 1), unit (n, 16) and maps (n, 16, 4, 4)."""
    net = Net()
    maps = net.body()
    net.op("Identity", maps, out="maps")
    net.head(maps, out="feature")
    net.gemm("feature", DIM, 64, "long")
    net.gemm("feature", DIM, 40, "logits")
    net.op("ReduceL2", "feature", axes=[1], keepdims=1, out="norm")
    net.op("Div", "feature", "norm", out="unit")
    net.op("Shape", "feature", out="shape")
    shapes = {"feature": DIM, "unit": DIM, "norm": 1, "long": 64, "logits": 40}
    infos = {name: info(name, ["n", length]) for name, length in shapes.items()}
    infos |= {"maps": info("maps", ["n", 16, 4, 4]), "shape": info("shape", [2], TensorProto.INT64)}
    model = net.model(out=outputs[0])
    del model.graph.output[:]
    model.graph.output.extend(infos[name] for name in outputs)
    return model


@pytest.mark.parametrize(
    ("outputs", "taken"),
    [
        (("feature", "norm"), "feature"),
        (("norm", "feature"), "feature"),
        (("maps", "shape", "feature"), "feature"),
        (("unit", "feature"), "unit"),
        (("norm", "unit", "feature"), "unit"),
        (("feature", "long"), "long"),
        (("norm", "long", "unit", "feature"), "long"),
    ],
)
def test_the_output_that_is_the_embedding_is_found(outputs: tuple[str, ...], taken: str) -> None:
    model = several(*outputs)
    network = load(model)
    images = pictures(network.spec, 3)
    np.testing.assert_allclose(
        open_embedder(network.onnx, network.spec)(images), run_alone(model, images, taken), rtol=1e-4, atol=1e-5
    )
    assert repr(taken) in network.notes[0]
    assert all(repr(name) in network.notes[0] for name in outputs)


def test_where_it_cannot_be_told_the_user_says_which() -> None:
    message = refusal(several("long", "logits"))
    assert "'long' (n, 64)" in message
    assert "--output long" in message
    assert load(several("long", "logits"), output="logits").dim == 40
    assert load(several("feature", "norm"), output="feature").dim == DIM
    assert "no output 'nothing'" in refusal(several("feature", "norm"), output="nothing")
    assert "'maps' has shape" in refusal(several("feature", "maps"), output="maps")
    assert "none of its 2 outputs" in refusal(several("maps", "norm"))


# -------------------------------------------------------------------------------------------------------- batches


def attention(batch: int | str = "n", inside: int = 1) -> onnx.ModelProto:
    """A transformer's block with its sizes as numbers: `inside` images in every Reshape."""
    net = Net()
    x = net.op("Conv", "image", net.normal(8, 3, 8, 8, scale=0.07), kernel_shape=[8, 8], strides=[8, 8])
    x = net.op("Transpose", net.op("Reshape", x, net.whole(0, 8, 16)), perm=[0, 2, 1])
    q = net.op("MatMul", x, net.normal(8, 24, scale=0.35))
    q = net.op("Transpose", net.op("Reshape", q, net.whole(inside, 16, 3, 2, 4)), perm=[2, 0, 3, 1, 4])
    q, k, v = (net.op("Gather", q, net.number(i, np.int64), axis=0) for i in range(3))
    a = net.op("Softmax", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    y = net.op("Transpose", net.op("MatMul", a, v), perm=[0, 2, 1, 3])
    x = net.op("Add", x, net.op("Reshape", y, net.whole(inside, 16, 8)))
    net.gemm(net.op("Flatten", x), 128, DIM, "embedding")
    return net.model(shape=(batch, 3, SIDE, SIDE), out_shape=(batch, DIM))


def in_one_row() -> onnx.ModelProto:
    net = Net()
    net.op("Reshape", net.op("GlobalAveragePool", net.body()), net.whole(1, -1), out="embedding")
    return net.model()


def row_of_all(count: int) -> onnx.ModelProto:
    net = Net()
    net.op("Reshape", net.op("GlobalAveragePool", net.body()), net.whole(1, -1), out="embedding")
    return net.model(shape=(count, 3, SIDE, SIDE), out_shape=(1, count * DIM))


def squeezed() -> onnx.ModelProto:
    net = Net()
    net.op("Squeeze", net.op("GlobalAveragePool", net.body()), out="embedding")
    return net.model(out_shape=None)


def first_alone() -> onnx.ModelProto:
    """Every image of a batch gets the embedding of the first: rows there are, but not their own."""
    net = Net()
    x = net.op("Slice", net.body(), net.whole(0), net.whole(1), net.whole(0))
    e = net.head(x, out="e")
    shape = net.op("Slice", net.op("Shape", "image"), net.whole(0), net.whole(1))
    net.op("Expand", e, net.op("Concat", shape, net.whole(DIM), axis=0), out="embedding")
    return net.model()


BATCHES: dict[str, tuple[Callable[[], onnx.ModelProto], int | None]] = {
    "open": (plain, None),
    "one image inside": (attention, 1),
    "all in one row": (in_one_row, None),
    "squeezed": (squeezed, None),
    "the first for all": (first_alone, 1),
    "fixed at 1": (lambda: attention(1, 1), 1),
    "fixed at 3": (lambda: attention(3, 3), 3),
    "fixed at 3, in one row": (lambda: row_of_all(3), 3),
}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("form", BATCHES)
def test_n_images_give_their_own_n_rows_in_every_runtime(form: str, runtime: str) -> None:
    build, taken = BATCHES[form]
    model = build()
    network = load(model)
    images = pictures(network.spec, 7)
    expected = run_alone(model, images)
    embedder = open_embedder(network.onnx, network.spec, runtime=runtime)
    assert embedder.max_batch == taken
    for count in (1, 2, 7):
        np.testing.assert_allclose(embedder(images[:count]), expected[:count], rtol=1e-3, atol=1e-4)
    if form in ("one image inside", "the first for all"):
        assert "image by image" in network.notes[0]


def test_a_file_whose_images_meddle_with_each_other_is_refused() -> None:
    net = Net()
    x = net.body()
    net.head(net.op("Sub", x, net.op("ReduceMean", x, axes=[0])))
    assert "depends on the others" in refusal(net.model(shape=(4, 3, SIDE, SIDE)))
    assert load(net.model()).notes != ()  # with an open axis, image by image


def test_an_embedder_never_gives_other_than_n_rows() -> None:
    """A file that never went through `load_network` is not believed."""
    network = load(plain())
    with pytest.raises(VeriQuantError, match="does not keep images apart"):
        open_embedder(in_one_row().SerializeToString(), network.spec)(pictures(network.spec, 3))


# ------------------------------------------------------------------------------------- files beside, old exporters


def test_weights_of_constant_nodes_in_a_file_beside_are_taken_in(tmp_path: Path) -> None:
    net = Net(weight_nodes=True)
    net.head(net.body())
    model = net.model()
    path = tmp_path / "net.onnx"
    images = pictures(load(model).spec, 3)
    expected = run_alone(model, images)
    onnx.save_model(model, path, save_as_external_data=True, location="net.data", size_threshold=0,
                    convert_attribute=True)  # fmt: skip
    network = load_onnx(path)
    np.testing.assert_allclose(open_embedder(network.onnx, network.spec)(images), expected, rtol=1e-5, atol=1e-6)
    (tmp_path / "net.data").unlink()
    with pytest.raises(VeriQuantError, match=r"net\.data, which is not there"):
        load_onnx(path)


@pytest.mark.parametrize("place", ["../outside.data", "/outside.data", "link/outside.data"])
@pytest.mark.parametrize("constant", [False, True])
def test_no_weights_are_read_outside_the_folder_of_the_file(tmp_path: Path, place: str, constant: bool) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside.data").write_bytes(b"\0" * 4096)
    (inside / "link").symlink_to(tmp_path)
    net = Net(weight_nodes=constant)
    net.head(net.body())
    model = net.model()
    path = inside / "net.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="net.data", size_threshold=0,
                    convert_attribute=constant)  # fmt: skip
    model = onnx.load(path, load_external_data=False)
    told = str(tmp_path / "outside.data") if place.startswith("/") else place
    tensors = [
        node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"
    ] or model.graph.initializer
    for entry in tensors[0].external_data:
        entry.value = told if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(VeriQuantError, match="outside its own folder"):
        load_onnx(path)


@pytest.mark.parametrize("spatial", [0, 1])
@pytest.mark.parametrize("flat", [False, True])
def test_what_mxnet_wrote_is_read_as_it_was_meant(spatial: int, flat: bool) -> None:
    def build(spatial: int, flat: bool) -> onnx.ModelProto:
        net = Net()
        act = lambda n, y, c: n.prelu(y, c, (c,) if flat else (c, 1, 1))  # noqa: E731
        x = net.bn(net.body(act=act), 16, spatial=spatial)
        net.head(net.bn(net.op("Identity", x), 16, spatial=spatial))
        return net.model(opset=8, ir=3, initializers_as_inputs=True, shape=(1, 3, SIDE, SIDE), out_shape=(1, DIM))

    network = load(build(spatial, flat))
    meant = build(1, False)
    images = pictures(network.spec, 2)
    found = open_embedder(network.onnx, network.spec)(images)
    np.testing.assert_allclose(found, run_alone(meant, images), rtol=1e-4, atol=1e-5)
    told = " ".join(network.notes)
    assert ("spatial" in told) == (spatial == 0)
    assert ("slopes" in told) == flat


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("nodes", [False, True])
def test_slopes_along_the_width_stay_there(runtime: str, nodes: bool) -> None:
    """As many channels as the map is wide: ONNX stretches a row along the width, whatever a runtime thinks."""
    net = Net(weight_nodes=nodes)
    x = net.prelu(net.conv("image", 3, 16, s=2), 16, (16,))
    net.op("Flatten", net.op("GlobalAveragePool", net.conv(x, 16, DIM)), out="embedding")
    model = net.model()
    network = load(model)
    images = pictures(network.spec, 3)
    found = open_embedder(network.onnx, network.spec, runtime=runtime)(images)
    np.testing.assert_allclose(found, run_alone(model, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [("n", "t", 80), ("n", 200, 80), (1, 3, 80)])
def test_sound_is_refused_in_one_line(shape: tuple[int | str, ...]) -> None:
    net = Net()
    net.op("ReduceMean", net.op("MatMul", "image", net.normal(80, DIM)), axes=[1], keepdims=0, out="embedding")
    assert "sound" in refusal(net.model(shape=shape))
