from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from networks_tiny import Node, tiny_onnx, write
from onnx import TensorProto, helper

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import ARCFACE, RAW, InputSpec
from veriquant.networks import load_network
from veriquant.networks.input_stamp import STAMP, read_stamp, stamp_input
from veriquant.networks.onnx_file import network_of_onnx

SMALL = InputSpec(size=(16, 16), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), color="BGR")


def refusal(path: Path | str, spec: InputSpec | None = None) -> str:
    with pytest.raises(VeriQuantError) as caught:
        load_network(str(path), spec)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ----------------------------------------------------------------------------------------------- what is found out


def test_a_plain_file_is_taken_byte_for_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.onnx", tiny_onnx())
    network = load_network(path)
    assert network.onnx == path.read_bytes()
    assert (network.name, network.source, network.path) == ("tiny", str(path), path)
    assert network.dim == 4
    assert network.module is None
    assert network.spec.model_dump(exclude={"origin"}) == {**ARCFACE.model_dump(exclude={"origin"}), "size": (16, 16)}
    assert "assumed" in network.spec.origin
    assert "ArcFace" in network.spec.origin


def test_160_pixels_speak_for_facenet(tmp_path: Path) -> None:
    spec = load_network(write(tmp_path / "a.onnx", tiny_onnx(shape=("n", 3, 160, 160)))).spec
    assert (spec.size, spec.std) == ((160, 160), (128.0, 128.0, 128.0))
    assert "FaceNet" in spec.origin


@pytest.mark.parametrize("constants_as_nodes", [False, True])
@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize(
    "first",
    [
        [("Sub", [127.5]), ("Mul", [1 / 128])],
        [("Sub", [127.5, 127.5, 127.5]), ("Div", [128.0])],
        [("Div", [255.0])],
        [("Div", [127.5]), ("Add", [-1.0])],
        [("Sub", [123.7, 116.3, 103.5]), ("Div", [58.4, 57.1, 57.4])],
    ],
)
def test_a_network_that_normalises_itself_gets_raw_pixels(
    tmp_path: Path, first: list[Node], nhwc: bool, constants_as_nodes: bool
) -> None:
    shape = ("n", 16, 16, 3) if nhwc else ("n", 3, 16, 16)
    model = tiny_onnx(shape, first, nhwc=nhwc, constants_as_nodes=constants_as_nodes)
    spec = load_network(write(tmp_path / "a.onnx", model)).spec
    assert (spec.mean, spec.std) == (RAW.mean, RAW.std)
    assert spec.layout == ("NHWC" if nhwc else "NCHW")
    assert "normalises itself" in spec.origin
    assert all(kind in spec.origin for kind, _ in first)


def test_batch_normalisation_of_pixels_gets_raw_pixels(tmp_path: Path) -> None:
    first: list[Node] = [("BatchNormalization", [1.0, 0.0, 127.0, 3600.0])]
    spec = load_network(write(tmp_path / "a.onnx", tiny_onnx(first=first))).spec
    assert (spec.mean, spec.std) == (RAW.mean, RAW.std)
    assert "BatchNormalization" in spec.origin


def test_batch_normalisation_of_normalised_input_says_nothing_of_pixels(tmp_path: Path) -> None:
    first: list[Node] = [("BatchNormalization", [1.0, 0.0, 0.02, 0.3])]
    spec = load_network(write(tmp_path / "a.onnx", tiny_onnx(first=first))).spec
    assert spec.mean == ARCFACE.mean
    assert "assumed" in spec.origin


@pytest.mark.parametrize(
    "first",
    [
        [("Sub", [0.485, 0.456, 0.406]), ("Div", [0.229, 0.224, 0.225])],
        [("Mul", [2.0]), ("Sub", [1.0])],
        [("Sub", [0.5]), ("Div", [0.5])],
    ],
)
def test_a_network_that_normalises_zero_to_one_gets_zero_to_one(tmp_path: Path, first: list[Node]) -> None:
    spec = load_network(write(tmp_path / "a.onnx", tiny_onnx(first=first))).spec
    assert (spec.mean, spec.std) == ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    assert "0..1" in spec.origin


def test_arithmetic_after_the_first_convolution_says_nothing(tmp_path: Path) -> None:
    model = tiny_onnx()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(127.5), "late"))
    model.graph.node[-1].input[0] = "less"
    model.graph.node.insert(2, helper.make_node("Sub", ["pooled", "late"], ["less"]))
    assert "assumed" in load_network(write(tmp_path / "a.onnx", model)).spec.origin


def test_an_open_size_is_taken_as_112_and_said_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", tiny_onnx(shape=("n", 3, "h", "w")))
    spec = load_network(path).spec
    assert spec.size == (112, 112)
    assert "leaves the size open" in spec.origin
    assert load_network(path, SMALL).spec.size == (16, 16)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_batch_of_fixed_length_runs(tmp_path: Path, batch: int) -> None:
    assert load_network(write(tmp_path / "a.onnx", tiny_onnx(shape=(batch, 3, 16, 16)))).dim == 4


def test_the_stamp_wins_over_first_nodes_and_the_user_over_the_stamp(tmp_path: Path) -> None:
    model = tiny_onnx(first=[("Sub", [127.5]), ("Mul", [1 / 128])])
    stamp_input(model, ARCFACE)
    stamp_input(model, SMALL)
    assert len(model.metadata_props) == 1
    path = write(tmp_path / "a.onnx", model)
    spec = load_network(path).spec
    assert spec.model_dump(exclude={"origin"}) == SMALL.model_dump(exclude={"origin"})
    assert "metadata" in spec.origin

    given = load_network(path, InputSpec(size=(16, 16)))
    assert given.spec.mean == ARCFACE.mean
    assert given.spec.origin == "given by the user"


def test_a_stamp_copied_on_keeps_its_origin_readable() -> None:
    model = tiny_onnx()
    stamp_input(model, ARCFACE)
    once = read_stamp(model, "a")
    assert once is not None
    stamp_input(model, once)
    assert read_stamp(model, "a") == once


def test_the_digest_is_of_weights_and_input_and_not_of_words(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", tiny_onnx())
    first = load_network(path, SMALL)
    assert first.digest == load_network(path, SMALL.model_copy(update={"origin": "other words"})).digest
    assert first.digest != load_network(path, SMALL.model_copy(update={"color": "RGB"})).digest
    other = write(tmp_path / "b.onnx", tiny_onnx(dim=5))
    assert first.digest != load_network(other, SMALL).digest


def test_weights_in_a_file_beside_are_taken_in(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "a.onnx"
    onnx.save_model(tiny_onnx(), path, save_as_external_data=True, location="a.data", size_threshold=0)
    assert (folder / "a.data").is_file()
    network = load_network(path)
    plain = load_network(write(tmp_path / "plain.onnx", tiny_onnx()))
    image = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    a, b = (onnxruntime.InferenceSession(n.onnx).run(None, {"image": image})[0] for n in (network, plain))
    assert np.array_equal(a, b)

    (folder / "a.data").write_bytes(b"\0" * 8)
    assert "a.data cannot be read" in refusal(path)
    (folder / "a.data").unlink()
    assert "weights lie in a.data, which is not there" in refusal(path)


def test_a_serialised_model_becomes_a_network() -> None:
    network = network_of_onnx(tiny_onnx().SerializeToString(), SMALL, name="q", source="quantized")
    assert (network.name, network.source, network.path, network.dim) == ("q", "quantized", None, 4)


# ------------------------------------------------------------------------------------------------ what is refused


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such ONNX file" in refusal(tmp_path / "none.onnx")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_file_cut_short(tmp_path: Path, share: float) -> None:
    whole = tiny_onnx().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert str(path) in refusal(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>Not found</html>", "web page"),
        (b"neither this nor that, by no means a network", "not a whole ONNX file"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "not an ONNX network"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    message = refusal(path)
    assert told in message
    assert str(path) in message


def test_two_inputs_are_named(tmp_path: Path) -> None:
    model = tiny_onnx()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    assert "2 inputs ('image', 'mask')" in refusal(write(tmp_path / "a.onnx", model))


def test_an_input_of_text(tmp_path: Path) -> None:
    model = tiny_onnx()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    assert "expected the numbers of an image" in refusal(write(tmp_path / "a.onnx", model))


@pytest.mark.parametrize("shape", [("n", 80), ("n", 3, 2, 16, 16), ("n", 16, 16, 4), ("n", 2, 16, 16)])
def test_an_input_that_is_no_image(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    assert "expected" in refusal(write(tmp_path / "a.onnx", tiny_onnx(shape=shape)))


def test_an_output_that_is_no_embedding(tmp_path: Path) -> None:
    model = tiny_onnx(outputs=2)
    del model.graph.output[0]
    message = refusal(write(tmp_path / "a.onnx", model))
    assert "'maps' has shape (1, 4, 7, 7)" in message
    assert "(n, d)" in message


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    model = tiny_onnx()
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.full((4, 3, 3, 3), np.nan, np.float32), "kernel")
    )
    assert "NaN" in refusal(write(tmp_path / "a.onnx", model))


def test_a_network_that_does_not_run(tmp_path: Path) -> None:
    model = tiny_onnx()
    model.graph.node[0].op_type = "NoSuchOperator"
    message = refusal(write(tmp_path / "a.onnx", model))
    assert "does not run" in message
    assert "NoSuchOperator" in message


@pytest.mark.parametrize(
    "spec", [InputSpec(size=(32, 32)), InputSpec(size=(16, 16), layout="NHWC"), InputSpec(size=(16, 112))]
)
def test_a_specification_that_does_not_fit(tmp_path: Path, spec: InputSpec) -> None:
    message = refusal(write(tmp_path / "a.onnx", tiny_onnx()), spec)
    assert "(?, 3, 16, 16)" in message
    assert "correct its size or layout" in message


def test_a_damaged_stamp(tmp_path: Path) -> None:
    model = tiny_onnx()
    model.metadata_props.add(key=STAMP, value='{"size": [16]}')
    message = refusal(write(tmp_path / "a.onnx", model))
    assert STAMP in message
    assert "size" in message
