"""`Trainable`: a simulated network whose weights, biases and quantizers learn, and what it has become at the end.

Batch normalisation was folded into the weights when the network was simulated. What it did for training, a scale and a
shift for every channel, is done by biases and by quantizers with a learned scale for every channel.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from veriquant.schemes.quantizer import Quantizer
from veriquant.simulation.fitted import Fitted, RoundedWeight, halves, in_halves, like
from veriquant.simulation.simulation import Simulation
from veriquant.simulation.steps import Change


class Trainable(nn.Module):
    """The network of a simulation with parameters of its own: the simulation itself stays as it is.

    `weights`: a quantizer for each operation whose weight is quantized, `activations`: one for each tensor, both by
    name; what is not named stays in floating point. Slopes of activation functions are kept as they are. `latent`:
    what the quantizers of some operations are given in place of the weights themselves, where these are a function of
    it.
    """

    def __init__(
        self,
        simulation: Simulation,
        weights: Mapping[str, Quantizer],
        activations: Mapping[str, Quantizer],
        latent: Mapping[str, Tensor] | None = None,
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
        self.biases = nn.ParameterList(_copied(simulation.weighted(name).bias) for name in self._biased)
        self._constants = list(simulation.steps.constants)
        for number, index in enumerate(self._constants):
            # Copies, so that they move to a device with the rest.
            self.register_buffer(f"constant_{number}", simulation.steps.constants[index].detach().clone(), False)
        self.weight_quantizers = nn.ModuleList(weights.values())
        self.activation_quantizers = nn.ModuleList(activations.values())

    @property
    def simulation(self) -> Simulation:
        """The simulated network that this one started from."""
        return self._simulation[0]

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (n, dim) of standardised images, float32 (n, channels, height, width)."""
        steps = self.simulation.steps
        env = steps.start(images)
        env.update((index, self.get_buffer(f"constant_{number}")) for number, index in enumerate(self._constants))
        return steps.finish(steps.program(0), env, [self._change()])

    def quantized(self) -> dict[str, tuple[nn.Parameter, Quantizer]]:
        """Return each quantized operation's weight, as the quantizer is given it, and the quantizer."""
        found = {}
        for name, quantizer in zip(self._with_levels, self.weight_quantizers, strict=True):
            assert isinstance(quantizer, Quantizer)
            found[name] = (self.weights[self._weighted.index(name)], quantizer)
        return found

    def settle(self, fitted: Fitted) -> None:
        """Put the weights, biases and levels as they are now into `fitted`, from which plans are run and packed.

        Scales and biases are rounded to float16 as files hold them.
        """
        change = self._change()
        with torch.no_grad():
            for name, quantizer in zip(self._with_levels, self.weight_quantizers, strict=True):
                assert isinstance(quantizer, Quantizer)
                levels = in_halves(quantizer.settled())
                weight, bias = change.weights[name]
                # The codes stay what training made of them: on its levels a weight finds them again.
                rounded = like(levels(weight.detach()), weight)
                bias = None if bias is None else halves(bias.detach())
                fitted.hold_weight(name, RoundedWeight(levels, rounded, bias))
            for tensor, quantizer in zip(self._tensors, self.activation_quantizers, strict=True):
                assert isinstance(quantizer, Quantizer)
                fitted.hold_activation(tensor, quantizer.settled())

    def _change(self) -> Change:
        weights = dict(zip(self._weighted, self.weights, strict=True))
        for name, quantizer in zip(self._with_levels, self.weight_quantizers, strict=True):
            weights[name] = quantizer(weights[name])
        biases = dict(zip(self._biased, self.biases, strict=True))
        return Change(
            {name: (weight, biases.get(name)) for name, weight in weights.items()},
            {
                tensor: quantizer
                for tensor, quantizer in zip(self._tensors, self.activation_quantizers, strict=True)
                if isinstance(quantizer, Quantizer)
            },
        )


def _copied(parameter: Tensor | None) -> nn.Parameter:
    assert parameter is not None
    return nn.Parameter(parameter.detach().clone(memory_format=torch.preserve_format))
