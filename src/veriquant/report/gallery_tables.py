"""The report's tables of compatibility: whether an enrolled gallery stays, and at which threshold."""

from __future__ import annotations

from veriquant.report import numbers
from veriquant.report.blocks import Cell, Column, Table, Tone
from veriquant.report.palette import Palette
from veriquant.report.recommendation import gallery_words
from veriquant.report.tables import WEAK, variant_cell
from veriquant.results import Compatibility, Metric, NetworkStudy

TONES: dict[str, Tone] = {"keep": "good", "move-threshold": "warn", "undecided": "warn", "enrol-again": "bad"}


def summary(network: NetworkStudy, benchmark: str, palette: Palette) -> Table | None:
    """Build the summary of compatibility: a line a variant."""
    rows = []
    for variant in network.variants:
        found = variant.compatibility.get(benchmark)
        if found is None:
            continue
        cell = _old_gallery(found)
        rows.append((
            variant_cell(variant, palette),
            Cell(gallery_words(found), tone=TONES[found.verdict]),
            Cell(numbers.rate(found.far), (numbers.one_in(found.far),)),
            Cell(numbers.threshold(found.old_threshold)),
            _rate_cell(cell),
            Cell(numbers.threshold(found.new_threshold)),
            Cell(numbers.number(found.cosine_mean, 4)),
            Cell(numbers.number(found.cosine_p01, 4)),
        ))  # fmt: skip
    if not rows:
        return None
    columns = (
        Column("Variant", False), Column("What to do", False), Column("FMR intended"), Column("Old threshold"),
        Column("FMR now at the old threshold"), Column("New threshold"), Column("Cosine to reference, mean"),
        Column("Cosine, 1st percentile"),
    )  # fmt: skip
    return Table(columns, tuple(rows), footnotes=(WEAK,) if any("†" in row[4].text for row in rows) else ())


def _old_gallery(found: Compatibility) -> Metric | None:
    """Return the FMR of old templates against new probes at the old threshold."""
    if not found.cells:
        return None
    old = found.cells[0].enrolled
    return next((cell.fmr_at_old for cell in found.cells if cell.enrolled == old and cell.probe != old), None)


def _rate_cell(metric: Metric | None) -> Cell:
    if metric is None or metric.value is None:
        note = (f"({metric.note.rstrip('. ')})",) if metric and metric.note else ()
        return Cell("not supported", note, "muted")
    dagger = "†" if metric.support == "weak" else ""
    lines = [numbers.rate_interval(metric.ci95), numbers.one_in(metric.value)]
    return Cell(numbers.rate(metric.value) + dagger, tuple(filter(None, lines)))


def two_by_two(found: Compatibility) -> Table:
    """Build the 2×2 table: who enrolled (rows) against who probes (columns), TAR and FMR at the old threshold."""
    enrolled = list(dict.fromkeys(cell.enrolled for cell in found.cells))
    probes = list(dict.fromkeys(cell.probe for cell in found.cells))
    cells = {(cell.enrolled, cell.probe): cell for cell in found.cells}
    rows = []
    for row in enrolled:
        line = [Cell(f"gallery of {row}")]
        for column in probes:
            cell = cells.get((row, column))
            line.append(_tar_and_fmr(cell.tar_at_old, cell.fmr_at_old) if cell else Cell(numbers.NONE))
        rows.append(tuple(line))
    columns = (Column("Enrolled ↓ probe →", False), *(Column(f"probes of {probe}") for probe in probes))
    weak = any("weak" in (cell.tar_at_old.support, cell.fmr_at_old.support) for cell in found.cells)
    notes = ("In brackets: 95 % interval.", *((WEAK,) if weak else ()))
    caption = f"At the old threshold {numbers.threshold(found.old_threshold)}"
    return Table(columns, tuple(rows), caption, notes)


def _tar_and_fmr(tar: Metric, fmr: Metric) -> Cell:
    def line(name: str, text: str, metric: Metric, ci: str) -> str:
        if metric.value is None:
            return f"{name} not supported" + (f" ({metric.note.rstrip('. ')})" if metric.note else "")
        return f"{name} {text}{'†' if metric.support == 'weak' else ''} {ci}".rstrip()

    tar_text = line("TAR", f"{numbers.percent(tar.value)} %", tar, numbers.percent_interval(tar.ci95))
    return Cell(tar_text, (line("FMR", numbers.rate(fmr.value), fmr, numbers.rate_interval(fmr.ci95)),))


def own_thresholds(found: Compatibility) -> Table:
    """Build the table of each combination at the threshold that gives it the intended FMR."""
    rows = []
    for cell in found.cells:
        tar = numbers.percent(cell.tar_at_own.value) if cell.tar_at_own.value is not None else "not supported"
        interval = numbers.percent_interval(cell.tar_at_own.ci95)
        rows.append((
            Cell(f"gallery of {cell.enrolled}, probes of {cell.probe}"),
            Cell(numbers.threshold(cell.own_threshold)),
            Cell(tar, tuple(filter(None, [interval]))),
        ))  # fmt: skip
    columns = (Column("Combination", False), Column("Its own threshold"), Column("TAR there (%)"))
    return Table(columns, tuple(rows), f"At a threshold of its own, set for FMR {numbers.rate(found.far)}")
