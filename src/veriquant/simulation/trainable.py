"""`Trainable`: a simulated network whose weights, biases and quantizers learn, and what it has become at the end.

Batch normalisation was folded into the weights when the network was simulated. What it did for training, a scale and a
shift for every channel, is done by biases and by quantizers with a learned scale for every channel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from veriquant.schemes.quantizer import Quantizer
from veriquant.simulation.quantizer_cache import QuantizerCache, RoundedWeight, halves, in_halves, like
from veriquant.simulation.simulation import Simulation
from veriquant.simulation.steps import Env, QuantizationConfig


class Trainable(nn.Module):
    """The network of a simulation with parameters of its own: the simulation itself stays as it is.

    `weights`: a quantizer for each operation whose weight is quantized, `activations`: one for each tensor, both by
    name; what is not named stays in floating point. Slopes of activation functions, and all else that belongs to no
    operation with weights, stay as they are: they move to a device with the rest, learn nothing and are in no state
    dict. `latent`: what the quantizers of some operations are given in place of the weights themselves, where these are
    a function of it or begin elsewhere. `biases`: of operations whose bias begins elsewhere. `held`:
    operations whose weights and biases learn nothing: those that stay in floating point, of which a plan says no more.
    """

    def __init__(
        self,
        simulation: Simulation,
        weights: Mapping[str, Quantizer],
        activations: Mapping[str, Quantizer],
        latent: Mapping[str, Tensor] | None = None,
        biases: Mapping[str, Tensor] | None = None,
        *,
        held: Collection[str] = (),
    ) -> None:
        super().__init__()
        simulation.module.requires_grad_(False)
        self._simulation = (simulation,)  # in a tuple: its module is no part of this one's state
        self._weighted = [name for group in simulation.groups.values() for name in group.weights]
        self._biased = [name for name in self._weighted if simulation.weighted(name).bias is not None]
        self._with_levels, self._tensors = list(weights), list(activations)
        given = latent or {}
        self.weights = nn.ParameterList(
            _copied(given.get(name, simulation.weighted(name).weight)) for name in self._weighted
        )
        moved = biases or {}
        self.biases = nn.ParameterList(
            _copied(moved.get(name, simulation.weighted(name).bias)) for name in self._biased
        )
        self._hold(held)
        self._constants = list(simulation.steps.constants)
        for number, index in enumerate(self._constants):
            # Copies, so that they move to a device with the rest.
            self.register_buffer(f"constant_{number}", simulation.steps.constants[index].detach().clone(), False)
        others = {
            index: module
            for index, (operation, module) in simulation.steps.modules().items()
            if operation not in self._weighted
        }
        self._others = _Frozen(others.values())
        self._steps = simulation.steps.with_modules(dict(zip(others, self._others, strict=True)))
        self.weight_quantizers = nn.ModuleList(weights.values())
        self.activation_quantizers = nn.ModuleList(activations.values())

    @property
    def simulation(self) -> Simulation:
        """The simulated network that this one started from."""
        return self._simulation[0]

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that are quantized, by name."""
        return tuple(self._tensors)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (n, dim) of standardised images, float32 (n, channels, height, width)."""
        return self.forward_features(images, ())[0]

    def forward_features(self, images: Tensor, tensors: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Return the embeddings, and the named tensors on the way to them as their quantizers leave them."""
        steps = self._steps
        places = [steps.names[tensor] for tensor in tensors]
        env = self._started(images)
        embeddings = steps.finish(steps.program(0), env, [self._change()], places)
        return embeddings, [env[place] for place in places]

    def quantized(self) -> dict[str, tuple[nn.Parameter, Quantizer]]:
        """Return each quantized operation's weight, as the quantizer is given it, and the quantizer."""
        found = {}
        for name, quantizer in zip(self._with_levels, self.weight_quantizers, strict=True):
            assert isinstance(quantizer, Quantizer)
            found[name] = (self.weights[self._weighted.index(name)], quantizer)
        return found

    @torch.no_grad()
    def parameter_scales(self, images: Tensor) -> dict[nn.Parameter, Tensor]:
        """Return how large the parameters are, each unit of its parameter's shape or broadcast to it.

        Of a weight the root mean square of each output channel; of a bias the standard deviation of what the operation
        gives in each channel for `images`, a few, in full precision. Neither is less than a hundredth of the mean of
        its tensor's, so that dead channels have one. Of levels see `Quantizer.parameter_scales`.
        """
        found: dict[nn.Parameter, Tensor] = {}
        for weight in self.weights:
            found[weight] = _not_tiny(weight.flatten(1).square().mean(1).sqrt()).reshape(-1, *[1] * (weight.ndim - 1))
        for bias, given in zip(self.biases, self._given(images), strict=True):
            found[bias] = _not_tiny(given.float().std(dim=[axis for axis in range(given.ndim) if axis != 1]))
        for quantizer in (*self.weight_quantizers, *self.activation_quantizers):
            assert isinstance(quantizer, Quantizer)
            parameters = dict(quantizer.named_parameters(recurse=False))
            found.update((parameters[name], unit) for name, unit in quantizer.parameter_scales().items())
        return found

    def latent_weights(self) -> dict[str, Tensor]:
        """Return what each operation's quantizer is given, or its weight where none stands, by operation."""
        return {name: weight.detach().clone() for name, weight in zip(self._weighted, self.weights, strict=True)}

    def latent_biases(self) -> dict[str, Tensor]:
        """Return the biases by operation."""
        return {name: bias.detach().clone() for name, bias in zip(self._biased, self.biases, strict=True)}

    def activation_levels(self) -> dict[str, Quantizer]:
        """Return the quantizers of activations by tensor."""
        found = {}
        for tensor, quantizer in zip(self._tensors, self.activation_quantizers, strict=True):
            assert isinstance(quantizer, Quantizer)
            found[tensor] = quantizer
        return found

    def freeze_into(self, quantizers: QuantizerCache, plan: Mapping[str, tuple[int, str]] | None = None) -> None:
        """Put the weights, biases and levels as they are now into `quantizers`, from which plans are run and packed.

        Scales and biases are rounded to float16 as files hold them. `plan`: the width and scheme under which a plan
        looks for each weight; without it, those of the quantizers.
        """
        change = self._change()
        with torch.no_grad():
            for name, quantizer in zip(self._with_levels, self.weight_quantizers, strict=True):
                assert isinstance(quantizer, Quantizer)
                levels = in_halves(quantizer.freeze())
                bits, scheme = (plan or {}).get(name, (levels.bits, quantizers.weight_scheme))
                assert levels.bits <= bits, f"{name}: {levels.bits}-bit levels would be looked for under {bits} bits"
                weight, bias = change.weights[name]
                # The codes stay what training made of them: on its levels a weight finds them again.
                rounded = like(levels(weight.detach()), weight)
                bias = None if bias is None else halves(bias.detach())
                quantizers.hold_weight(name, RoundedWeight(levels, rounded, bias), bits, scheme)
            for tensor, quantizer in self.activation_levels().items():
                quantizers.hold_activation(tensor, quantizer.freeze())

    def _hold(self, operations: Collection[str]) -> None:
        for name, weight in zip(self._weighted, self.weights, strict=True):
            weight.requires_grad_(name not in operations)
        for name, bias in zip(self._biased, self.biases, strict=True):
            bias.requires_grad_(name not in operations)

    def _started(self, images: Tensor) -> Env:
        env = self._steps.start(images)
        env.update((index, self.get_buffer(f"constant_{number}")) for number, index in enumerate(self._constants))
        return env

    def _given(self, images: Tensor) -> list[Tensor]:
        """Return what the operations with a bias give in full precision, before any activation function."""
        steps = self._steps
        places = [steps.operations[name] for name in self._biased]
        env = self._started(images)
        steps.finish(steps.program(0), env, [QuantizationConfig()], places)
        return [env[place] for place in places]

    def _change(self) -> QuantizationConfig:
        weights = dict(zip(self._weighted, self.weights, strict=True))
        for name, quantizer in zip(self._with_levels, self.weight_quantizers, strict=True):
            weights[name] = quantizer(weights[name])
        biases = dict(zip(self._biased, self.biases, strict=True))
        return QuantizationConfig(
            {name: (weight, biases.get(name)) for name, weight in weights.items()},
            {
                tensor: quantizer
                for tensor, quantizer in zip(self._tensors, self.activation_quantizers, strict=True)
                if isinstance(quantizer, Quantizer)
            },
        )


class _Frozen(nn.ModuleList):
    """Copies of modules, in evaluation mode for good, whose parameters do not learn and are in no state dict.

    They are copies so that they move to a device while the simulation, which others go on with, stays where it is.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__(deepcopy(module).eval() for module in modules)
        for module in self.modules():
            values = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
            for name, value in values.items():
                delattr(module, name)
                module.register_buffer(name, value.detach(), persistent=False)

    def train(self, mode: bool = True) -> _Frozen:
        """Stay in evaluation mode: a batch normalisation among them keeps its mean and variance."""
        return super().train(False)


def _not_tiny(sizes: Tensor) -> Tensor:
    least = sizes.mean() / 100
    return sizes.clamp(min=float(least)) if least > 0 else torch.ones_like(sizes)


def _copied(parameter: Tensor | None) -> nn.Parameter:
    assert parameter is not None
    return nn.Parameter(parameter.detach().clone(memory_format=torch.preserve_format))
