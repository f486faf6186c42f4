"""The network that a training starts from: a family's, with weights of a seed, or a checkpoint's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from veriquant.errors import VeriQuantError
from veriquant.files import json_digest
from veriquant.frontends.spec import CONVENTIONS, InputSpec
from veriquant.networks.families import FAMILIES, Arguments
from veriquant.networks.load import load_network
from veriquant.training.config import NetworkEntry


@dataclass(frozen=True)
class Start:
    """A network ready to learn, in training mode, and what builds it again."""

    module: nn.Module
    """Images float32 (n, 3, height, width) by `spec` -> embeddings (n, `dim`)."""
    family: str
    arguments: Arguments
    """All of the family's, defaults filled in."""
    spec: InputSpec

    @property
    def dim(self) -> int:
        """Return the length of an embedding."""
        return int(self.arguments["embedding"])


def start_network(entry: NetworkEntry, convention: str | None, seed: int) -> Start:
    """Return the network of `entry`; `convention` names its input, None: the family's or the checkpoint's own.

    New weights are drawn from `seed` alone (`draw_weights`) and leave PyTorch's generator as it was. Raises
    `VeriQuantError` where a checkpoint cannot be read or is not what `entry` says.
    """
    given = None if convention is None else CONVENTIONS[convention]
    if entry.checkpoint is not None:
        return _from_checkpoint(entry, entry.checkpoint, given)
    family = FAMILIES.get(entry.family)
    arguments = family.defaults | entry.arguments
    with seeded(seed, "network"):
        module = family.build(**arguments)
        draw_weights(module)
    return Start(module.train(), family.name, arguments, _sized(given or family.spec, arguments))


def draw_weights(module: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers anew, in place: He et al. 2015, by the outputs' number.

    Batch-norms take the scale of a layer's output away, but not how fast its weights turn: PyTorch's own, smaller
    weights turn faster, and under ArcFace follow its large first gradients further away from their classes.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")


@contextmanager
def seeded(seed: int, part: str) -> Iterator[None]:
    """Draw what the block draws on the CPU from `seed` and the name of a part; PyTorch's generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(json_digest([seed, part])[:16], 16))
        yield


def _from_checkpoint(entry: NetworkEntry, checkpoint: str, given: InputSpec | None) -> Start:
    source = f"{entry.family}:{checkpoint}"
    family = FAMILIES.get(entry.family)
    network = load_network(source)
    assert network.module is not None
    shapes = {name: tuple(tensor.shape) for name, tensor in network.module.state_dict().items()}
    arguments = family.defaults | family.infer(shapes)
    for key, value in entry.arguments.items():
        if arguments[key] != value:
            raise VeriQuantError(
                f"{source}: its weights are for {key} {arguments[key]}, but the training says {value}; leave {key!r} "
                "out, or start from scratch"
            )
    spec = network.spec if given is None else _sized(given, arguments)
    return Start(network.module.train(), family.name, arguments, spec)


def _sized(spec: InputSpec, arguments: Arguments) -> InputSpec:
    """Return `spec` for the network's own size, its origin in words too."""
    if "size" not in arguments:
        return spec
    side = int(arguments["size"])
    words = spec.origin.replace("{}×{}".format(*spec.size), f"{side}×{side}")
    return spec.model_copy(update={"size": (side, side), "origin": words})
