"""The network families a checkpoint can be of: how to build each, what its input is, where it comes from.

A family is one file with its module, and one entry here. Entries import that file only when a network is built, so that
listing families or loading an ONNX file does not import PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import TYPE_CHECKING

from veriquant.frontends.spec import ARCFACE, FACENET, IMAGENET, InputSpec
from veriquant.networks.facenet_tensorflow import from_tensorflow
from veriquant.networks.state_dict import COUNTER
from veriquant.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

Arguments = dict[str, int | float]
Shapes = Mapping[str, tuple[int, ...]]
"""Names of a checkpoint's tensors and their shapes."""


@dataclass(frozen=True)
class Family:
    """A network architecture that checkpoints are loaded into."""

    name: str
    build: Callable[..., nn.Module]
    """Builds the module from keyword arguments, those of `defaults` or some of them."""
    defaults: Arguments
    """The arguments that the source describes."""
    infer: Callable[[Shapes], Arguments]
    """The arguments that the tensors of a checkpoint tell of."""
    spec: InputSpec
    summary: str
    citation: str
    training_only: tuple[str, ...] = field(default=())
    """Prefixes of keys that belong to a training head; they are left aside, and the network's notes say so."""
    translate: Callable[[Mapping[str, Tensor]], dict[str, Tensor] | None] | None = None
    """Gives a checkpoint of another layout the names and axes of this one; None for what is not of that layout."""

    def parameters(self, **arguments: int | float) -> int:
        """Return the number of parameters that `arguments` over the defaults give, without allocating them."""
        import torch

        with torch.device("meta"):
            module = self.build(**(self.defaults | arguments))
        return sum(parameter.numel() for parameter in module.parameters())

    def names(self) -> list[str]:
        """Return the names of the network's tensors, counters left out; they depend on no argument."""
        import torch

        with torch.device("meta"):
            module = self.build(**self.defaults)
        return [name for name in module.state_dict() if not name.endswith(COUNTER)]


FAMILIES: Registry[Family] = Registry("network family")


def _axis(shapes: Shapes, key: str, axis: int) -> int | None:
    shape = shapes.get(key, ())
    return shape[axis] if len(shape) > axis else None


def _pooled(shapes: Shapes, kernel: str) -> Arguments:
    """Return the input size that the kernel of a global depth-wise convolution tells of."""
    side = _axis(shapes, kernel, 2)
    return {"size": 16 * side} if side else {}


def _embedding(shapes: Shapes, key: str) -> Arguments:
    length = _axis(shapes, key, 0)
    return {"embedding": length} if length else {}


def _mobilefacenet(**arguments: int | float) -> nn.Module:
    from veriquant.networks.mobilefacenet import MobileFaceNet

    return MobileFaceNet(**arguments)  # type: ignore[arg-type]


def _infer_mobilefacenet(shapes: Shapes) -> Arguments:
    channels = _axis(shapes, "conv_6_dw.conv.weight", 0)
    width: Arguments = {"width": channels / 512} if channels else {}
    return _embedding(shapes, "linear.weight") | _pooled(shapes, "conv_6_dw.conv.weight") | width


FAMILIES.add(
    "mobilefacenet",
    Family(
        name="mobilefacenet",
        build=_mobilefacenet,
        defaults={"embedding": 128, "size": 112, "width": 1.0},
        infer=_infer_mobilefacenet,
        spec=ARCFACE,
        summary="small face network for phones: inverted bottlenecks, PReLU, global depth-wise pooling",
        citation="Chen et al., MobileFaceNets, CCBR 2018; parameter names of the common PyTorch port",
    ),
)


def _mobilefacenet_foamliu(**arguments: int | float) -> nn.Module:
    from veriquant.networks.mobilefacenet_foamliu import MobileFaceNetFoamliu

    return MobileFaceNetFoamliu(**arguments)  # type: ignore[arg-type]


def _infer_foamliu(shapes: Shapes) -> Arguments:
    return _embedding(shapes, "conv3.weight") | _pooled(shapes, "gdconv.depthwise.weight")


FAMILIES.add(
    "mobilefacenet-foamliu",
    Family(
        name="mobilefacenet-foamliu",
        build=_mobilefacenet_foamliu,
        defaults={"embedding": 128, "size": 112},
        infer=_infer_foamliu,
        spec=IMAGENET,
        summary="variant of MobileFaceNet with ReLU6 and ReLU",
        citation="github.com/foamliu/MobileFaceNet (Apache-2.0 checkpoint)",
    ),
)


def _iresnet(blocks: tuple[int, int, int, int]) -> Callable[..., nn.Module]:
    def build(**arguments: int) -> nn.Module:
        from veriquant.networks.iresnet import IResNet

        return IResNet(blocks, **arguments)

    return build


def _infer_iresnet(shapes: Shapes) -> Arguments:
    found = _embedding(shapes, "fc.weight")
    inputs = _axis(shapes, "fc.weight", 1)
    if inputs and (side := isqrt(inputs // 512)) and 512 * side * side == inputs:
        found["size"] = 16 * side
    return found


for _name, _blocks in {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}.items():
    FAMILIES.add(
        _name,
        Family(
            name=_name,
            build=_iresnet(_blocks),
            defaults={"embedding": 512, "size": 112},
            infer=_infer_iresnet,
            spec=ARCFACE,
            summary=f"ArcFace's residual network, {', '.join(map(str, _blocks))} blocks a stage",
            citation="Deng et al., ArcFace, CVPR 2019; parameter names of insightface's arcface_torch",
        ),
    )


def _inception_resnet_v1(**arguments: int | float) -> nn.Module:
    from veriquant.networks.inception_resnet import InceptionResnetV1

    return InceptionResnetV1(**arguments)  # type: ignore[arg-type]


def _infer_inception_resnet_v1(shapes: Shapes) -> Arguments:
    return _embedding(shapes, "last_linear.weight")


FAMILIES.add(
    "inception-resnet-v1",
    Family(
        name="inception-resnet-v1",
        build=_inception_resnet_v1,
        defaults={"embedding": 512},
        infer=_infer_inception_resnet_v1,
        spec=FACENET,
        summary="FaceNet's network, embeddings of unit length",
        citation="Szegedy et al., AAAI 2017; Schroff et al., FaceNet, CVPR 2015; names of facenet-pytorch or TF",
        training_only=("logits.",),
        translate=from_tensorflow,
    ),
)


def _transface(channels: int, depth: int) -> Callable[..., nn.Module]:
    def build(**arguments: int) -> nn.Module:
        from veriquant.networks.transface import TransFace

        return TransFace(channels, depth, **arguments)

    return build


def _infer_transface(shapes: Shapes) -> Arguments:
    found = _embedding(shapes, "feature.2.weight")
    patches = _axis(shapes, "pos_embed", 1)
    if patches and (side := isqrt(patches)) ** 2 == patches:
        # pixels beyond the last whole patch leave no trace: of the sizes that fit, the multiple of 16, such as 112
        found["size"] = next((size for size in range(9 * side, 9 * side + 9) if size % 16 == 0), 9 * side)
    return found


for _name, _channels, _depth in (("t", 256, 12), ("s", 512, 12), ("b", 512, 24), ("l", 768, 24)):
    FAMILIES.add(
        f"transface-{_name}",
        Family(
            name=f"transface-{_name}",
            build=_transface(_channels, _depth),
            defaults={"embedding": 512, "size": 112},
            infer=_infer_transface,
            spec=ARCFACE,
            summary=f"face transformer: {_depth} blocks, {_channels} numbers a token, 9×9 patches weighted by a gate",
            citation="Dan et al., TransFace, ICCV 2023; parameter names of the authors' code",
        ),
    )


def _edgeface(dims: tuple[int, ...], depths: tuple[int, ...], heads: int, rank: float) -> Callable[..., nn.Module]:
    def build(**arguments: int) -> nn.Module:
        from veriquant.networks.edgeface import EdgeFace

        return EdgeFace(dims, depths, heads, rank, **arguments)

    return build


def _infer_edgeface(shapes: Shapes) -> Arguments:
    return _embedding(shapes, "head.fc.weight") or _embedding(shapes, "head.fc.linear2.weight")


for _name, _dims, _depths, _heads, _rank in (
    ("edgeface-xxs", (24, 48, 88, 168), (2, 2, 6, 2), 4, 0.0),
    ("edgeface-xs", (32, 64, 100, 192), (3, 3, 9, 3), 4, 0.0),
    ("edgeface-xs-gamma-06", (32, 64, 100, 192), (3, 3, 9, 3), 4, 0.6),
    ("edgeface-s", (48, 96, 160, 304), (3, 3, 9, 3), 8, 0.0),
    ("edgeface-s-gamma-05", (48, 96, 160, 304), (3, 3, 9, 3), 8, 0.5),
):
    FAMILIES.add(
        _name,
        Family(
            name=_name,
            build=_edgeface(_dims, _depths, _heads, _rank),
            defaults={"embedding": 512},
            infer=_infer_edgeface,
            spec=ARCFACE,
            summary="small hybrid of depth-wise convolutions and cross-covariance attention"
            + (f", linear layers of rank {_rank:g}" if _rank else ""),
            citation="George et al., EdgeFace, T-BIOM 2024; parameter names of the published checkpoints",
        ),
    )
