"""Tight packing of codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from veriquant.deploy.pack import bits as packing
from veriquant.deploy.pack.bits import pack_bits, packed_bytes, unpack_bits


@given(st.integers(1, 16).flatmap(lambda b: st.tuples(st.just(b), st.lists(st.integers(0, 2**b - 1), max_size=70))))
def test_what_is_unpacked_is_what_was_packed_and_takes_just_its_bits(case: tuple[int, list[int]]) -> None:
    bits, codes = case
    packed = pack_bits(np.array(codes, np.int32), bits)
    assert packed.dtype == np.uint8
    assert len(packed) == packed_bytes(len(codes), bits) == -(-len(codes) * bits // 8)
    # The layout by its definition: the stream of bits is one long number, the first code in its lowest bits.
    number = sum(code << i * bits for i, code in enumerate(codes))
    assert packed.tobytes() == number.to_bytes(len(packed), "little")
    assert unpack_bits(packed, bits, len(codes)).tolist() == codes


@pytest.mark.parametrize("bits", [1, 3, 7, 12])
def test_packing_by_chunks_changes_nothing(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, 1001)
    whole = pack_bits(codes, bits)
    monkeypatch.setattr(packing, "_CHUNK", 64)
    assert pack_bits(codes, bits).tobytes() == whole.tobytes()
    np.testing.assert_array_equal(unpack_bits(whole, bits, codes.size), codes)


@pytest.mark.parametrize(("bits", "kind"), [(2, TensorProto.UINT2), (4, TensorProto.UINT4)])
def test_onnx_lays_its_small_types_out_alike(bits: int, kind: int) -> None:
    codes = np.random.default_rng(0).integers(0, 1 << bits, 13)
    tensor = helper.make_tensor("codes", kind, (13,), pack_bits(codes, bits).tobytes(), raw=True)
    np.testing.assert_array_equal(numpy_helper.to_array(tensor).astype(np.int64), codes)


@pytest.mark.parametrize("codes", [[-1, 0], [0, 8]])
def test_codes_that_do_not_fit_are_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError, match="do not fit into 3 bits"):
        pack_bits(np.array(codes), 3)


@pytest.mark.parametrize("bits", [0, 17])
def test_there_are_1_to_16_bits(bits: int) -> None:
    with pytest.raises(ValueError, match="1 to 16"):
        pack_bits(np.zeros(1, np.int32), bits)


def test_a_row_of_another_length_or_with_dirty_padding_is_refused() -> None:
    packed = pack_bits(np.array([1, 2, 3]), 3)
    with pytest.raises(ValueError, match="take 2 bytes"):
        unpack_bits(packed[:1], 3, 3)
    packed[-1] |= 128
    with pytest.raises(ValueError, match="padding"):
        unpack_bits(packed, 3, 3)
