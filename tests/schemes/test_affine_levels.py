from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from veriquant.errors import VeriQuantError
from veriquant.schemes import AffineQuantizer
from veriquant.schemes.uniform_grid import WIDTHS

RANGES = [(-1.0, 1.0), (-0.3, 2.0), (-7.0, 0.02), (0.0, 6.0), (-1e-3, 0.0), (0.4, 5.0), (-5.0, -0.4), (-1e4, 3e4)]


def over(low: float, high: float, bits: int, *, symmetric: bool = False) -> AffineQuantizer:
    return AffineQuantizer.over(torch.tensor(low), torch.tensor(high), bits, symmetric=symmetric)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("low", "high"), RANGES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_zero_is_a_level(bits: int, low: float, high: float, symmetric: bool) -> None:
    quantizer = over(low, high, bits, symmetric=symmetric)
    assert float(quantizer(torch.tensor(0.0))) == 0.0
    assert 0 <= int(quantizer.zero_point) < 2**bits
    assert int(quantizer.codes(torch.tensor(0.0)).values) == int(quantizer.zero_point)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_both_ends_of_an_asymmetric_range_fall_on_the_outermost_codes(bits: int, low: float, high: float) -> None:
    quantizer = over(low, high, bits)
    ends = torch.tensor([min(low, 0.0), max(high, 0.0)])
    codes = quantizer.codes(ends).values
    assert abs(int(codes[0])) <= 1
    assert abs(int(codes[1]) - (2**bits - 1)) <= 1
    assert ((quantizer(ends) - ends).abs() <= 0.501 * quantizer.scale).all()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_both_ends_of_a_symmetric_range_are_levels(bits: int, low: float, high: float) -> None:
    alpha = max(abs(low), abs(high))
    quantizer = over(low, high, bits, symmetric=True)
    ends = torch.tensor([-alpha, alpha])
    assert quantizer.codes(ends).values.tolist() == [1, 2**bits - 1]
    assert quantizer(ends).tolist() == pytest.approx([-alpha, alpha], rel=1e-6)
    beyond = quantizer.codes(torch.tensor([-10 * alpha, 10 * alpha])).values
    assert beyond.tolist() == [0, 2**bits - 1]


@pytest.mark.parametrize("bits", [1, 17])
def test_a_width_that_uniform_levels_cannot_have_is_refused(bits: int) -> None:
    with pytest.raises(VeriQuantError, match=f"{bits} bits"):
        over(-1.0, 1.0, bits)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_values_are_those_of_onnx_runtime_bit_for_bit(bits: int, axis: int | None) -> None:
    generator = torch.Generator().manual_seed(bits)
    channels = () if axis is None else (6,)
    low, high = -torch.rand(channels, generator=generator), 2 * torch.rand(channels, generator=generator)
    quantizer = AffineQuantizer.over(low, high, bits, axis=axis)
    values = torch.randn(6, 6, 3000, generator=generator)
    # Halves between codes, the neighbours of halves, and what lies outside.
    halves = (torch.arange(3000) % 2**bits - 2 ** (bits - 1) + 0.5).expand(6, 6, -1)
    scale = quantizer.scale if axis is None else quantizer.scale.reshape(*channels, *[1] * (2 - axis))
    ties = halves * scale
    for inputs in (values, ties, torch.nextafter(ties, torch.zeros(())), 1e6 * values):
        codes, decoded = by_onnx_runtime(quantizer, inputs.contiguous())
        assert np.array_equal(quantizer.codes(inputs).values.numpy(), codes.astype(np.int32))
        assert np.array_equal(quantizer(inputs).numpy(), decoded)


def by_onnx_runtime(quantizer: AffineQuantizer, values: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    kind, dtype = {8: (TensorProto.UINT8, np.uint8), 16: (TensorProto.UINT16, np.uint16)}[quantizer.bits]
    constants = [
        numpy_helper.from_array(quantizer.scale.numpy(), "scale"),
        numpy_helper.from_array(quantizer.zero_point.numpy().astype(dtype), "zero"),
    ]
    axis = {} if quantizer.axis is None else {"axis": quantizer.axis}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], **axis),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"], **axis),
    ]
    graph = helper.make_graph(
        nodes,
        "levels",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, values.shape)],
        [
            helper.make_tensor_value_info("codes", kind, values.shape),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, values.shape),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    codes, decoded = session.run(["codes", "y"], {"x": values.numpy()})
    return codes, decoded
