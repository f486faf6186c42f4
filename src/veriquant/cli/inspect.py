"""`veriquant inspect`: what is inside a network, and where its time goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from veriquant.cli.app import app
from veriquant.cli.screen import Input, Output, literal, parse_input, say, table

if TYPE_CHECKING:
    from veriquant.deploy import Profile
    from veriquant.deploy.profiling import Cost
    from veriquant.networks import Network
    from veriquant.onnxgraph import NetworkInfo

_SHOWN = 15


@app.command(short_help="Layers, parameters, MACs, weight ranges, where time goes.")
def inspect(
    network: Annotated[str, typer.Argument(help="An .onnx file, FAMILY:CHECKPOINT or a registered name.")],
    profile: Annotated[
        bool, typer.Option("--profile", help="Also measure where ONNX Runtime spends its time.")
    ] = False,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the profile.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    input: Input = None,
    output: Output = None,
) -> None:
    """Show what a network is made of: layers, parameters, multiply-accumulates (MACs), weight ranges, size.

    \b
    Examples:
      veriquant inspect face.onnx
      veriquant inspect face.onnx --profile
      veriquant inspect mobilefacenet:weights.pt --json > layers.json

    The column '8 bit' tells which operations an INT8 recipe would quantize: those with weights. Which of them cannot
    bear it only calibration images can tell; the recipe int8 finds out and says so.
    """  # noqa: D301
    from veriquant.deploy import profile as measure
    from veriquant.networks import load_network
    from veriquant.onnxgraph import inspect_onnx

    loaded = load_network(network, parse_input(input), output=output)
    info = inspect_onnx(loaded.onnx)
    times = measure(loaded.onnx, loaded.spec, threads=threads) if profile else None
    if as_json:
        say(json.dumps(_plain(loaded, info, times, threads), indent=2, allow_nan=False))
    else:
        _show(loaded, info)
        if times is not None:
            _show_profile(times, threads)


def _show(network: Network, info: NetworkInfo) -> None:
    say(f"{network.name}: {len(network.onnx) / 1e6:.2f} MB, {network.dim} numbers an embedding")
    size, spec = "×".join(map(str, network.spec.size)), network.spec
    say(f"input: {size} {spec.color}, (x − {list(spec.mean)}) / {list(spec.std)}, {spec.layout}; {spec.origin}")
    for note in network.notes:
        say(f"note: {note}")
    weighted = [layer for layer in info.layers if layer.name in info.weight_ranges]
    parameters = sum(layer.parameters for layer in weighted)
    say(
        f"{len(info.layers)} operations, {info.parameters:,} parameters, {info.macs / 1e6:,.1f} million "
        "multiply-accumulates an image"
    )
    if info.parameters:
        say(
            f"an INT8 recipe would quantize {len(weighted)} operations with {parameters / info.parameters:.1%} of the "
            f"parameters: at best {(parameters + 4 * (info.parameters - parameters)) / 1e6:.2f} MB of weights against "
            f"{4 * info.parameters / 1e6:.2f} MB"
        )
    rows = []
    for layer in info.layers:
        span = info.weight_ranges.get(layer.name)
        shape = info.shapes.get(layer.name, ())
        rows.append((
            literal(layer.name),
            layer.operation,
            "×".join("?" if length is None else str(length) for length in shape[1:]),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.macs:,}" if layer.macs else "",
            "" if span is None else f"{span[0]:.3f} … {span[1]:.3f}",
            "" if span is None else "yes",
        ))  # fmt: skip
    columns = (
        "layer", "operation", "output", ("parameters", "right"), ("MACs", "right"), ("weights", "right"), "8 bit",
    )  # fmt: skip
    table(columns, rows)


def _show_profile(times: Profile, threads: int) -> None:
    say(f"ONNX Runtime's time in kernels: {times.milliseconds:.2f} ms an image, batch 1, threads: {threads}")
    figures: tuple[tuple[str, str], ...] = (("calls", "right"), ("ms", "right"), ("share", "right"))
    table(("operator", *figures), [(cost.operation, *_figures(cost)) for cost in times.operators[:_SHOWN]])
    slowest = [(literal(cost.name), cost.operation, *_figures(cost)) for cost in times.nodes[:_SHOWN]]
    table(("slowest nodes", "operator", *figures), slowest)
    say("Operators that the file does not hold are the runtime's own: ReorderInput changes the layout of the data.")


def _figures(cost: Cost) -> tuple[str, str, str]:
    return str(cost.calls), f"{cost.milliseconds:.3f}", f"{cost.share:.1%}"


def _plain(network: Network, info: NetworkInfo, times: Profile | None, threads: int) -> dict[str, Any]:
    from dataclasses import asdict

    layers = []
    for layer in info.layers:
        span = info.weight_ranges.get(layer.name)
        layers.append({
            "name": layer.name,
            "operation": layer.operation,
            "output": list(info.shapes.get(layer.name, ())),
            "parameters": layer.parameters,
            "macs": layer.macs,
            "weights": None if span is None else list(span),
            "quantizable": span is not None,
        })  # fmt: skip
    told: dict[str, Any] = {
        "name": network.name,
        "source": network.source,
        "digest": network.digest,
        "size_bytes": len(network.onnx),
        "dim": network.dim,
        "input": network.spec.model_dump(mode="json"),
        "notes": list(network.notes),
        "parameters": info.parameters,
        "macs": info.macs,
        "layers": layers,
    }
    if times is not None:
        told["profile"] = {"threads": threads, **asdict(times)}
    return told
