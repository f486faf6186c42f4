"""What an evaluation, a latency measurement and a study leave behind: plain data, checked by pydantic, kept as JSON.

Fractions everywhere, never percent; times in milliseconds; sizes in bytes; similarities are cosines in [-1, 1].
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Support = Literal["ok", "weak", "none"]


class Record(BaseModel):
    """Base of all result models: unknown keys are refused, so that a stale file is noticed."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


class Metric(Record):
    """One figure. `value` is None where the data cannot support it (`support` is 'none'); `note` then says why.

    `support` is 'weak' where the operating point rests on fewer than 30/f impostor comparisons (FORMATS.md, Metrics).
    `ci95` is the 95 % percentile interval from resampling people; None where it could not be had, and `note` says why.
    `std` is given where the protocol asks for it (accuracy: standard deviation over the folds).
    """

    value: float | None
    ci95: tuple[float, float] | None = None
    std: float | None = None
    threshold: float | None = None
    """The similarity threshold at which the figure holds, where there is one."""
    support: Support = "ok"
    note: str = ""


class ScoreSummary(Record):
    """Mean and standard deviation of the similarities of one kind of comparison, and their histogram."""

    count: int
    mean: float
    std: float
    histogram: list[int] = Field(default_factory=list)
    """Counts in `bins` equal-width bins over [-1, 1]; empty where none was asked for."""


class Curve(Record):
    """An error trade-off curve thinned for drawing: points in order of growing threshold."""

    threshold: list[float]
    fmr: list[float]
    fnmr: list[float]


class Evaluation(Record):
    """One network in one runtime on one benchmark: the content of `result.json`."""

    kind: Literal["veriquant-evaluation"] = "veriquant-evaluation"
    network: dict[str, Any]
    """name, source, digest, dim, input (the InputSpec), size_bytes, runtime, threads."""
    benchmark: dict[str, Any]
    """name, source, protocol, digest, samples, persons, persons_known, persons_note, synthetic."""
    comparisons: dict[str, int]
    """genuine, impostor, total."""
    skipped: list[str] = Field(default_factory=list)
    metrics: dict[str, Metric]
    """accuracy, eer, auc, tar@far=1e-3 …, fnmr@fmr=1e-3 …, mindcf, rank-1 …: whichever the protocol supports."""
    genuine: ScoreSummary
    impostor: ScoreSummary
    curve: Curve
    settings: dict[str, Any]
    """flip, seed, resamples, what the intervals resample, batch size, …"""
    versions: dict[str, str]
    timing: dict[str, float] = Field(default_factory=dict)
    """seconds_total, seconds_runtime (inside the runtime alone), images_per_second."""


class Difference(Record):
    """A metric of a variant minus that of its reference on the same comparisons, people resampled jointly.

    `verdict` by the rule 'no worse than the reference by more than `margin`': 'no worse' (the interval lies inside the
    margin), 'worse' (the interval lies outside it), 'undecided' (it straddles the margin), 'not supported'.
    """

    metric: str
    value: float | None
    ci95: tuple[float, float] | None
    margin: float
    verdict: Literal["no worse", "worse", "undecided", "not supported"]
    sentence: str
    """The verdict in plain words with its figures."""


class CompatibilityCell(Record):
    """One cell of the 2×2 table: who enrolled, who probes, at the OLD threshold and at a threshold of its own."""

    enrolled: str
    probe: str
    tar_at_old: Metric
    fmr_at_old: Metric
    own_threshold: float | None
    tar_at_own: Metric


class Compatibility(Record):
    """May templates enrolled with the reference network be compared with probes of the variant?

    `far` is the operating point; `old_threshold` is the reference network's own threshold at that FMR (templates and
    probes both full precision). `new_threshold` is the one to set for the old gallery with new probes.
    `verdict`: 'keep' (keep gallery and threshold), 'move-threshold' (keep the gallery, set `new_threshold`),
    'enrol-again', 'undecided'. `reasons` gives the rules that led there, one sentence each, with figures.
    """

    far: float
    old_threshold: float | None
    new_threshold: float | None
    cells: list[CompatibilityCell]
    """Four, (enrolled, probe): both reference; reference, variant; variant, reference; both variant."""
    cosine_mean: float
    """Mean cosine between the two networks' embeddings of the same image."""
    cosine_p01: float
    """Its 1st percentile."""
    verdict: Literal["keep", "move-threshold", "enrol-again", "undecided"]
    reasons: list[str]


class Latency(Record):
    """Time per call of one variant at one batch size on stated threads; median and spread over interleaved rounds."""

    batch: int
    threads: int
    rounds: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    ratio_to_reference: float | None = None
    """Median over rounds of this variant's time over the reference's in the same round; below 1 is faster."""
    ratio_ci95: tuple[float, float] | None = None


class Layer(Record):
    """One operation of a network and what the recipe did to it."""

    name: str
    operation: str
    parameters: int
    macs: int
    weight_bits: int | float | None = None
    """Bits a weight is stored in, on average where they differ; None for an operation without weights."""
    activation_bits: int | None = None
    """Bits its input is computed in; 32 is floating point."""
    kept_float: bool = False
    reason: str = ""
    """Why it was left in floating point, or how it was rewritten."""
    error: float | None = None
    """Noise-to-signal ratio at the output when this operation alone is quantized; None where not measured."""


class StageRecord(Record):
    """What one stage of a pipeline did and measured: figures as numbers, and the sentence that tells them."""

    stage: Literal["prepare", "calibrate", "allocate", "recover", "export"]
    name: str
    """What was done: 'ranges', 'qat', 'iteration 3', 'agreement', …"""
    template: str
    """The sentence, with the figures' names in braces."""
    figures: dict[str, float | int | str | None] = Field(default_factory=dict)
    seconds: float | None = None

    @property
    def sentence(self) -> str:
        """The figures in plain words."""
        return self.template.format(**self.figures)


def remark(stage: Literal["prepare", "calibrate", "allocate", "recover", "export"], text: str) -> StageRecord:
    """Return a record that says something and measured nothing."""
    return StageRecord(stage=stage, name="remark", template="{text}", figures={"text": text})


class GroupChoice(Record):
    """One quantizer group in an allocation: what it is, what each width does to the embeddings, and what was chosen."""

    name: str
    operations: list[str]
    """Operations whose kernels read the group's tensors, in the network's order; the first gives the group its name."""
    parameters: int
    macs: int
    chosen: str
    """The precision chosen, such as W4A8, or FP32."""
    sqnr: dict[str, float] = Field(default_factory=dict)
    """Signal to quantization noise ratio at the output, dB, by precision, with this group alone quantized."""
    milliseconds: dict[str, float] = Field(default_factory=dict)
    """Measured time in the runtime by precision, where one was measured."""


class AllocationPoint(Record):
    """One assignment of widths to the whole network, as a point of cost and harm."""

    label: str
    """'walk', 'optimum', 'fixed W8A8' …, 'chosen'."""
    relative_bops: float
    """Bit operations as a share of those at W8A16."""
    nominal_bytes: float
    predicted_sqnr: float
    """−10·log10 of the sum of the groups' mean noise-to-signal ratios, dB: what the optimum minimises."""
    measured_sqnr: float | None = None
    """With all groups quantized at once, dB, as the mean over images of signal to noise (Pandey et al., equation 3), a
    little above the former where noise differs from image to image; None where it was not run."""
    score: float | None = None
    """The task metric of the budget, where there is one and it was evaluated here."""


class Allocation(Record):
    """How a mixed-precision plan came about: the sensitivity list, the curve walked, the point chosen."""

    target: str
    budget: str
    search: str
    metric: str
    """What the list is sorted by: sqnr, fit, or a task metric."""
    samples: int
    groups: list[GroupChoice]
    front: list[AllocationPoint]
    """The curve from the highest candidate down, in order of falling cost."""
    fixed: list[AllocationPoint]
    """The same width everywhere, for comparison."""
    chosen: AllocationPoint
    average_bits: float
    """Mean width of a weight."""
    file_bytes: int
    additivity: str
    """In plain words, whether the groups' errors add up to the joint one."""
    rounding: str
    plan: dict[str, Any]
    seconds: dict[str, float] = Field(default_factory=dict)
    """Time by phase: sensitivity, search, rounding."""


class Variant(Record):
    """One network under one recipe: the artefact, what it costs and what it does on each benchmark."""

    name: str
    recipe: str
    recipe_settings: dict[str, Any]
    reference: bool
    """True for the full-precision variant that the others are compared with."""
    runtime: str
    size_bytes: int
    artefact: str
    """Path of the file, relative to the study's folder."""
    digest: str
    average_bits: float | None = None
    """Mean width of a weight, mixtures within a layer counted weight by weight; None where there are no weights."""
    iteration: int | None = None
    """Of a method that goes in iterations, the one that this is of, counted from 1."""
    layers: list[Layer] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    """What a reader must know, in plain words: kernels chosen, tensors left out, saturation seen."""
    allocation: Allocation | None = None
    """How its widths were chosen, where a recipe allocated them."""
    latency: list[Latency] = Field(default_factory=list)
    evaluations: dict[str, Evaluation] = Field(default_factory=dict)
    """By benchmark name."""
    differences: dict[str, list[Difference]] = Field(default_factory=dict)
    """By benchmark name; empty for the reference."""
    compatibility: dict[str, Compatibility] = Field(default_factory=dict)
    """By benchmark name; empty for the reference."""


class NetworkStudy(Record):
    """All variants of one network."""

    name: str
    source: str
    dim: int
    parameters: int
    learned: int = 0
    """`parameters` without the running statistics of batch-normalisations: what nominal sizes are counted from."""
    macs: int
    input: dict[str, Any]
    trained_on: dict[str, Any] = Field(default_factory=dict)
    """The network's own training set and calibration images, where it has any: in words, with digests."""
    variants: list[Variant]


class TableFigure(Record):
    """One figure of a table, as a fraction; over several folds their mean, with the sample standard deviation `std`."""

    value: float | None
    """None where it was not measured, or the data cannot support it; `note` then says why."""
    std: float | None = None
    support: Support = "ok"
    note: str = ""


class TableColumn(Record):
    """A column of figures: the heading that the paper gives it, and the metric."""

    heading: str
    metric: str
    measured_on: list[str] = Field(default_factory=list)
    """Names of the benchmarks that this study's figures are of; empty where it has none."""


class TableRow(Record):
    """A row of a paper's table, or one of the study beside it. Sizes are bytes; `figures` are in order of the columns.

    Over several folds sizes and bits are means, as the figures are.
    """

    cited: bool
    """True: the paper's own row."""
    whose: str
    """'source', or what the study's network, or its folds together, are called: the rows of one network share it."""
    label: str
    """What the table shows: `whose`, in rows of the study with the recipe behind it."""
    model: str
    precision: Literal["fp32", "fixed", "mixed"]
    average_bits: float | None
    cited_bytes: float | None = None
    """The size that the paper prints."""
    nominal_bytes: float | None = None
    """Parameters × average bits / 8, the way papers count; of a cited row by our own count of parameters."""
    size_bytes: float | None = None
    """The size of the file that was written."""
    folds: int = 1
    figures: list[TableFigure]


class StudyTable(Record):
    """A table of a paper with this study's figures beside the paper's own."""

    name: str
    citation: str
    about: str
    source_data: str
    """What the paper's networks were trained and tested on."""
    columns: list[TableColumn]
    rows: list[TableRow]
    """In the paper's order, a row of the study behind the one that it stands beside."""
    notes: list[str] = Field(default_factory=list)
    """What a reader must know of the study's own rows: on what they were trained and measured."""
    left_out: list[str] = Field(default_factory=list)
    """Recipes of the study that stand beside no row."""


class StudyResult(Record):
    """A whole study: what the report is drawn from."""

    kind: Literal["veriquant-study"] = "veriquant-study"
    title: str
    synthetic: bool
    """True where any benchmark is drawn by the package itself; every page says so."""
    networks: list[NetworkStudy]
    tables: list[StudyTable] = Field(default_factory=list)
    """Tables of papers, this study's figures beside the cited ones."""
    calibration: dict[str, Any]
    """source, images, seed, digest; empty where no recipe needed any."""
    settings: dict[str, Any]
    """seed, flip, far, margin, verdict_metric, resamples, threads, batches, …"""
    machine: dict[str, Any]
    """processor, cores, memory_gb, instruction_sets (list), system, python."""
    versions: dict[str, str]
    started: str
    seconds: float
    command: str
