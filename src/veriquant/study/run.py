"""`run_study`: every network under every recipe on every benchmark, nothing computed twice."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from veriquant.checks import explain
from veriquant.errors import VeriQuantError
from veriquant.files import write_json
from veriquant.locks import locked
from veriquant.places import Places
from veriquant.recipes import Recipe, load_recipe
from veriquant.results import Evaluation, StudyResult
from veriquant.study.artefacts import make_artefact
from veriquant.study.cited_plan import plan_tables, without_rows
from veriquant.study.cited_rows import study_tables
from veriquant.study.config import StudyConfig, load_study
from veriquant.study.context import Context, told
from veriquant.study.embeddings import VariantEmbeddings, embeddings_of
from veriquant.study.figures import Figures, choose_verdict_metric, figures_of
from veriquant.study.inputs import Inputs, NetworkInputs, load_inputs
from veriquant.study.outcome import Subject, Tested, study_result
from veriquant.study.store import Store
from veriquant.study.timing import latency_in_turn, runtime_for
from veriquant.study.units import Say, Units, to_stderr

_RESULTS = "results.json"
#: What a study, and the report on it, write into their folder.
_WRITTEN = (_RESULTS, "report.html", "report.md", "artefacts", "store")


def run_study(
    study: str | os.PathLike[str] | StudyConfig,
    *,
    out: str | os.PathLike[str] | None = None,
    say: Say | None = None,
    command: str = "",
) -> StudyResult:
    """Run a study, from a YAML file or a checked configuration, and write ``results.json`` and the files it made.

    Everything computed is kept in ``<out>/store`` under the hash of what it was computed from, and used again by the
    next run, also after a kill. `say` gets a line for every finished unit (by default on stderr). Where something goes
    wrong `VeriQuantError` tells what; all that was finished before is kept.
    """
    config = study if isinstance(study, StudyConfig) else load_study(study)
    path = None if isinstance(study, StudyConfig) else study
    folder = output_folder(config, path, out)
    keep_apart(config, path, folder)
    with locked(folder):
        return _run(config, folder, say or to_stderr, command)


def output_folder(
    config: StudyConfig, path: str | os.PathLike[str] | None, out: str | os.PathLike[str] | None = None
) -> Path:
    """Return where the results go: `out`, or what the study says, or ``out/<name of the file>``."""
    if out is not None:
        return Path(out)
    return Path(config.out) if config.out else Path("out") / (Path(path).stem if path is not None else "study")


def keep_apart(config: StudyConfig, path: str | os.PathLike[str] | None, folder: Path) -> None:
    """Raise `VeriQuantError` where writing results into `folder` would overwrite what the study reads."""
    files = [entry.recipe for entry in config.recipes if entry.recipe.endswith((".yaml", ".yml"))]
    places = Places().reads("the study", path).reads("named in the study", config.model_dump())
    places.reads("named in a recipe", [load_recipe(file).model_dump() for file in files])
    places.writes_into("the folder of results", folder, _WRITTEN).check()


def read_result(folder: str | os.PathLike[str]) -> StudyResult:
    """Return the results that a study left in `folder`."""
    path = Path(folder) / _RESULTS
    try:
        return StudyResult.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise VeriQuantError(f"there are no results in {folder}: run the study first, without --report-only") from error
    except OSError as error:
        raise VeriQuantError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise VeriQuantError(f"{path} is damaged or of another version ({explain(error)}); run it again") from error


def _run(config: StudyConfig, folder: Path, say: Say, command: str) -> StudyResult:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    inputs = load_inputs(config, say)
    tables = plan_tables(config, inputs)
    if missing := without_rows(tables, inputs):
        say(f"in no table, for want of the key 'row': {', '.join(missing)}")
    context = Context(config, folder, Store(folder / "store", say), Units(_planned(config, inputs), say))
    # all references before anything else is made, so that a metric that there is not is told early
    begun = [_begun(context, inputs, network) for network in inputs.networks]
    verdict_metric = choose_verdict_metric(config, {each.inputs.network.name: each.reference for each in begun})
    subjects = [_finished(context, inputs, each) for each in begun]
    if config.latency is not None:
        for subject in subjects:
            times = latency_in_turn(context, [variant.artefact for variant in subject.variants])
            for variant, measured in zip(subject.variants, times, strict=True):
                variant.latency = measured
    result = study_result(context, inputs, subjects, verdict_metric, started=started, command=command)
    result.tables = study_tables(tables, inputs, result.networks)
    write_json(folder / _RESULTS, result.model_dump(mode="json"))
    return result


def _planned(config: StudyConfig, inputs: Inputs) -> Counter[str]:
    """Return how many units of each kind the study has."""
    variants = len(inputs.networks) * len(inputs.recipes)
    evaluated = sum(len(network.benchmarks) for network in inputs.networks) * len(inputs.recipes)
    planned = Counter({"network": variants, "embeddings": evaluated, "figures": evaluated})
    if config.latency is not None:
        planned["latency"] = len(inputs.networks)
    return planned


@dataclass(frozen=True)
class _Begun:
    """A network whose reference is made and evaluated."""

    inputs: NetworkInputs
    runtime: str
    tested: Tested
    embeddings: dict[str, VariantEmbeddings]
    """By benchmark: what the other variants are compared with."""

    @property
    def reference(self) -> list[Evaluation]:
        """The reference's evaluations, benchmark by benchmark."""
        return [figures.evaluation for figures in self.tested.figures.values()]


def _begun(context: Context, inputs: Inputs, subject: NetworkInputs) -> _Begun:
    with told(subject.network.name):
        runtime = runtime_for(context, subject.network)
    embeddings: dict[str, VariantEmbeddings] = {}
    return _Begun(subject, runtime, _tested(context, subject, inputs.recipes[0], runtime, embeddings), embeddings)


def _finished(context: Context, inputs: Inputs, begun: _Begun) -> Subject:
    """Make all other variants of a network and evaluate them."""
    others = [_tested(context, begun.inputs, recipe, begun.runtime, begun.embeddings) for recipe in inputs.recipes[1:]]
    return Subject(begun.inputs, [begun.tested, *others])


def _tested(
    context: Context, subject: NetworkInputs, recipe: Recipe, runtime: str, references: dict[str, VariantEmbeddings]
) -> Tested:
    """Make one variant and evaluate it.

    `references` holds by benchmark what the variant is compared with; the reference, which comes first, fills it.
    """
    with told(subject.network.name, recipe.name):
        artefact = make_artefact(
            context,
            subject.network,
            recipe,
            runtime,
            subject.calibration_for(recipe),
            judged=subject.benchmarks[0] if recipe.judged() else None,
            training_set=subject.training_set if recipe.labelled() else None,
        )
        figures: dict[str, Figures] = {}
        for benchmark in subject.benchmarks:
            embeddings = embeddings_of(context, artefact, benchmark)
            reference = references.get(benchmark.name)
            figures[benchmark.name] = figures_of(context, artefact, benchmark, embeddings, reference)
            references.setdefault(benchmark.name, embeddings)
        return Tested(artefact, figures)
