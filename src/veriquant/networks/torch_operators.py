"""The operators that a saved PyTorch program may consist of: functions of tensors and numbers, and nothing else.

TorchScript and `torch.export` files are programs. Some of ATen's operators read and write files (``aten::from_file``,
``aten::save``), set the memory behind a tensor (``set_``) or run on devices; none of these is here. What a program may
compute is decided by this list, before anything of it runs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

_TENSORS = """
abs acos adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d add addcdiv addcmul addmm
alias all amax amin any arange argmax argmin as_strided asin atan avg_pool1d avg_pool2d baddbmm batch_norm bmm
broadcast_to broadcast_tensors cat celu channel_shuffle chunk clamp clamp_max clamp_min clip clone concat
constant_pad_nd contiguous conv1d conv2d convolution _convolution cos cosine_similarity cumsum detach div dot dropout
einsum elu embedding empty empty_like eq erf exp expand expand_as expm1 feature_dropout fill flatten flip floor
floor_divide fmod frobenius_norm full full_like gather ge gelu getitem glu group_norm gt hardshrink hardsigmoid
hardswish hardtanh index index_select instance_norm layer_norm le leaky_relu lerp lift_fresh_copy linalg_norm
linalg_vector_norm linear log log1p log2 log_sigmoid log_softmax logical_and logical_not logical_or logical_xor
logsumexp lt masked_fill matmul max max_pool1d max_pool2d max_pool2d_with_indices maximum mean min minimum mish mm
movedim mul mv narrow native_batch_norm native_group_norm native_layer_norm ne neg new_full new_ones new_zeros norm
numel ones ones_like pad permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal reflection_pad1d
reflection_pad2d relu relu6 remainder repeat repeat_interleave replication_pad2d reshape reshape_as rms_norm roll
round rsqrt rsub scalar_tensor scaled_dot_product_attention select selu sigmoid sign silu sin slice softmax softplus
softshrink softsign split split_with_sizes sqrt square squeeze stack std std_mean sub sum swapaxes swapdims t tan tanh
tensor tensor_split threshold to transpose tril triu true_divide type_as unbind unflatten unsafe_chunk unsafe_split
unsafe_split_with_sizes unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_nearest2d var var_mean view view_as
where zeros zeros_like _adaptive_avg_pool2d _assert_tensor_metadata _native_batch_norm_legit_no_training _prelu_kernel
_scaled_dot_product_flash_attention_for_cpu _softmax _to_copy _unsafe_view sym_size
"""
_NUMBERS = """
__and__ __contains__ __derive_index __getitem__ __is__ __isnot__ __not__ __or__ __range_length append Bool bool ceil
device dim Float FloatImplicit floor floordiv format Int IntImplicit is_floating_point item len list ScalarImplicit
size str sym_numel warn
"""
_INSTRUCTIONS = """
Constant GetAttr If ListConstruct ListUnpack Loop NumToTensor RaiseException TupleConstruct TupleIndex TupleUnpack
Uninitialized data device dtype is_cuda layout max min unchecked_cast unchecked_unwrap_optional
"""
_ARITHMETIC = "add sub mul floordiv truediv mod neg pow eq ne lt le gt ge getitem and_ or_ not_"

TENSOR_OPERATORS = frozenset(_TENSORS.split())
#: What TorchScript computes beside tensors: sizes, indices, conditions and the words of its assertions.
SCRIPT_OPERATORS = TENSOR_OPERATORS | frozenset(_NUMBERS.split())
#: TorchScript's own instructions; ``RaiseException`` stands behind assertions.
SCRIPT_INSTRUCTIONS = frozenset(_INSTRUCTIONS.split())
#: Arithmetic on sizes.
PYTHON_OPERATORS = frozenset(_ARITHMETIC.split())


def script_kind_allowed(kind: str) -> bool:
    """Return whether a node of TorchScript's graph, such as ``aten::relu_`` or ``prim::If``, may run."""
    space, _, name = kind.partition("::")
    if space == "aten":
        return name in SCRIPT_OPERATORS or name.removesuffix("_") in TENSOR_OPERATORS
    return space == "prim" and name in SCRIPT_INSTRUCTIONS


def exported_function(target: str) -> Callable[..., Any] | None:
    """Return what computes a node of an exported program, ``torch.ops.aten.relu.default``; None: it is not allowed."""
    if target.startswith("_operator."):
        name = target.removeprefix("_operator.")
        return getattr(operator, name) if name in PYTHON_OPERATORS else None
    steps = target.split(".")
    if len(steps) != 5 or steps[:3] != ["torch", "ops", "aten"]:
        return None
    name = steps[3] if steps[3] in TENSOR_OPERATORS else steps[3].removesuffix("_")
    if name not in TENSOR_OPERATORS:
        return None
    return _decomposed().get(name) or _own_function(name)


def _own_function(name: str) -> Callable[..., Any] | None:
    """Return PyTorch's own function of a name: its Python bindings record sizes when traced, ``torch.ops`` does not."""
    import torch

    for place in (torch._C._VariableFunctions, torch._C._nn, _linalg(), torch.Tensor):
        if function := getattr(place, name, None):
            return function  # type: ignore[no-any-return]
    return None


def _linalg() -> Any:
    import torch

    return torch._C._linalg  # type: ignore[attr-defined]


def _decomposed() -> dict[str, Callable[..., Any]]:
    """Return functions for operators into which `torch.export` takes networks apart, in terms of usual ones."""
    import torch
    from torch.nn import functional as F

    def batch_norm(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float) -> Any:
        return (F.batch_norm(x, mean, variance, weight, bias, False, momentum, eps),)

    def attention(query: Any, key: Any, value: Any, dropout: float = 0.0, causal: bool = False, **more: Any) -> Any:
        mask, scale = more.get("attn_mask"), more.get("scale")
        return (F.scaled_dot_product_attention(query, key, value, mask, 0.0, causal, scale=scale),)

    def slice_(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
        return x[(*[slice(None)] * (dim % x.ndim), slice(start, end, step))]

    def to(x: Any, *arguments: Any, **more: Any) -> Any:
        kinds = [a for a in (*arguments, more.get("dtype")) if isinstance(a, torch.dtype)]
        return x.to(kinds[0]) if kinds else x

    def split(x: Any, size: Any, dim: int = 0) -> Any:
        return torch.split(x, size, dim)

    def made(function: Callable[..., Any]) -> Callable[..., Any]:
        def make(*arguments: Any, dtype: Any = None, **_: Any) -> Any:
            return function(*arguments, dtype=dtype)

        return make

    return {
        "_native_batch_norm_legit_no_training": batch_norm,
        "native_layer_norm": lambda x, shape, weight, bias, eps: (F.layer_norm(x, shape, weight, bias, eps),),
        "native_group_norm": lambda x, weight, bias, n, c, hw, group, eps: (F.group_norm(x, group, weight, bias, eps),),
        "_scaled_dot_product_flash_attention_for_cpu": attention,
        "scaled_dot_product_attention": F.scaled_dot_product_attention,
        "max_pool2d_with_indices": lambda x, *window: (F.max_pool2d(x, *window),),
        "_adaptive_avg_pool2d": F.adaptive_avg_pool2d,
        "_softmax": lambda x, dim, half: x.softmax(dim),
        "_prelu_kernel": lambda x, weight: torch.where(x > 0, x, weight * x),
        "_to_copy": to,
        "to": to,
        "clone": lambda x, **_: x.clone(),
        "contiguous": lambda x, **_: x.contiguous(),
        "lift_fresh_copy": lambda x: x,
        "alias": lambda x: x,
        "detach": lambda x: x,
        "dropout": lambda x, share, training: x,
        "_assert_tensor_metadata": lambda *_, **__: None,
        "sym_size": lambda x, dim: x.shape[dim],
        "view": lambda x, shape: x.reshape(shape),
        "_unsafe_view": lambda x, shape: x.reshape(shape),
        "slice": slice_,
        "split": split,
        "split_with_sizes": split,
        "index": lambda x, places: x[tuple(slice(None) if place is None else place for place in places)],
        **{name: made(getattr(torch, name)) for name in ("arange", "full", "ones", "zeros", "empty", "scalar_tensor")},
    }
