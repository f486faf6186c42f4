"""`veriquant evaluate`: one network on one benchmark or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veriquant.cli.app import app
from veriquant.cli.screen import Input, Output, Runtime, check_writable, literal, parse_input, say, table

if TYPE_CHECKING:
    from veriquant.results import Evaluation, Metric


DEFAULT_FAR = (1e-2, 1e-3, 1e-4)


@app.command(short_help="How well a network recognises, with intervals.")
def evaluate(
    network: Annotated[str, typer.Argument(help="An .onnx file, FAMILY:CHECKPOINT or a registered name.")],
    benchmark: Annotated[
        list[str],
        typer.Option(
            "--benchmark", "-b", metavar="KIND:PLACE", help="As `veriquant benchmarks` lists; may be repeated."
        ),
    ],
    flip: Annotated[bool, typer.Option("--flip", help="Add the embedding of the mirror image.")] = False,
    runtime: Runtime = "onnxruntime",
    threads: Annotated[
        int, typer.Option("--threads", min=0, help="Threads of the runtime; 0: as many as there are cores.")
    ] = 0,
    input: Input = None,
    output: Output = None,
    far: Annotated[
        list[float] | None,
        typer.Option(
            "--far", help="An operating point; may be repeated. Default: the benchmark's own, else 1e-2, 1e-3, 1e-4."
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option("--resamples", min=0, help="Resamples of people for intervals; 0: none.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the resampling.")] = 0,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Images to the runtime at once.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on without images that are missing.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the figures here as JSON, as fractions.")] = None,
) -> None:
    """Measure how well a network recognises: accuracy, TAR@FAR, EER, AUC, minDCF, each with its 95 % interval.

    \b
    Examples:
      veriquant evaluate face.onnx --benchmark lfw:lfw-112x112
      veriquant evaluate mobilefacenet:weights.pt -b lfw:lfw-112x112 -b cfp-fp:cfp-112x112 --flip
      veriquant evaluate face.onnx -b bin:agedb_30.bin --input arcface --runtime auto --out result.json

    Intervals resample people, not comparisons. A figure marked 'weak' rests on few impostor comparisons; where there
    are too few for any statement, none is given. With several benchmarks, --out result.json writes one result-NAME.json
    for each.
    """  # noqa: D301
    from veriquant.benchmarks import load_benchmark
    from veriquant.deploy.environment import machine
    from veriquant.deploy.runtimes import choose_runtime, open_embedder
    from veriquant.evaluation import evaluate as run
    from veriquant.evaluation import options_for
    from veriquant.files import write_json
    from veriquant.frontends.unaligned import looks_unaligned
    from veriquant.metrics import Options
    from veriquant.networks import load_network
    from veriquant.places import Places
    from veriquant.progress import bar

    options = Options(far=tuple(far or DEFAULT_FAR), resamples=resamples, seed=seed)
    spec = parse_input(input)
    places = Places().reads("NETWORK", network).reads("--benchmark", benchmark)
    places.writes("--out", out).check()
    benchmarks = [load_benchmark(text, allow_missing=allow_missing) for text in benchmark]
    written = _written(out, [each.name for each in benchmarks])
    for place in written:
        places.writes("--out", None if place == out else place)
    places.check()
    for place in written:
        check_writable(place)
    loaded = load_network(network, spec, output=output)
    threads = threads or int(machine()["cores"])
    if runtime == "auto":
        choice = choose_runtime(loaded.onnx, loaded.spec, threads=threads, module=loaded.module)
        say(choice.sentence)
        runtime = choice.runtime
    embedder = open_embedder(loaded.onnx, loaded.spec, runtime=runtime, threads=threads, module=loaded.module)
    say(f"network: {loaded.name} ({network}), {loaded.dim} numbers an embedding; input: {loaded.spec.origin}")
    for note in loaded.notes:
        say(f"note: {note}")
    for number, each in enumerate(benchmarks):
        if line := looks_unaligned(each.samples, loaded.spec):
            say(f"note: {each.name}: {line}")
        with bar(each.name, len(each.samples)) as advance:
            found = run(
                loaded,
                each,
                flip=flip,
                options=options if far else options_for(each, options),
                batch_size=batch_size,
                embedder=embedder,
                progress=advance,
            )
        _show(found)
        if written:
            write_json(written[number], found.model_dump(mode="json"))
            say(f"written: {written[number]}")


def _written(out: Path | None, names: list[str]) -> list[Path]:
    """Return where the figures of each benchmark go: `out` itself where there is one alone, else files beside it."""
    from veriquant.study.config import file_name

    if out is None or len(names) == 1:
        return [] if out is None else [out]
    told = [name if names.count(name) == 1 else f"{name}-{number + 1}" for number, name in enumerate(names)]
    return [out.with_name(f"{out.stem}-{file_name(each)}{out.suffix or '.json'}") for each in told]


def _show(found: Evaluation) -> None:
    from veriquant.report import numbers

    counts, about = found.comparisons, found.benchmark
    say("")
    say(f"{about['name']}: {about['protocol']}")
    if about["synthetic"]:
        say("SYNTHETIC DATA: drawn by VeriQuant itself; these figures say nothing about real faces")
    say(
        f"{numbers.count(counts['genuine'])} genuine and {numbers.count(counts['impostor'])} impostor comparisons of "
        f"{numbers.count(about['persons'])} people"
    )
    if about["persons_note"]:
        say(f"people: {about['persons_note']}")
    rows = []
    for name, metric in found.metrics.items():
        value = numbers.metric_value(name, metric.value) if metric.value is not None else "–"
        unit = " %" if numbers.is_percent(name) and metric.value is not None else ""
        spread = f" ± {numbers.percent(metric.std)}" if metric.std is not None else ""
        rows.append((
            numbers.label(name),
            literal(value + spread + unit),
            literal(numbers.metric_interval(name, metric.ci95)),
            "" if metric.threshold is None else numbers.threshold(metric.threshold),
            _mark(metric),
        ))  # fmt: skip
    table(("metric", ("value", "right"), ("95 % interval", "right"), ("threshold", "right"), ""), rows)
    for kind, scores in (("genuine", found.genuine), ("impostor", found.impostor)):
        say(f"{kind} similarity: mean {scores.mean:.4f}, standard deviation {scores.std:.4f}")
    if found.skipped:
        shown = ", ".join(found.skipped[:5]) + (", …" if len(found.skipped) > 5 else "")
        say(f"skipped: {len(found.skipped)} samples that are missing: {shown}")
    if "images" in found.settings:
        say(f"images: {found.settings['images']}")
    time = found.timing
    say(
        f"{numbers.count(about['samples'])} images{' and their mirror images' if found.settings['flip'] else ''} in "
        f"{time['seconds_total']:.1f} s, of which {time['seconds_runtime']:.1f} s in {found.network['runtime']} on "
        f"{numbers.plural(found.network['threads'], 'thread')} (batch {found.settings['batch_size']})"
    )


def _mark(metric: Metric) -> str:
    """Return the note of a metric, coloured where its support is wanting."""
    note = literal(metric.note)
    if metric.support == "ok":
        return note
    colour, word = ("yellow", "weak") if metric.support == "weak" else ("red", "not supported")
    text = note if note.startswith(word) else f"{word}: {note}" if note else word
    return f"[{colour}]{text}[/]"
