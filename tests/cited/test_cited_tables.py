import pytest
import torch

from veriquant.cited import CITED, CitedTable, load_cited
from veriquant.errors import VeriQuantError
from veriquant.networks.export import export_onnx
from veriquant.networks.families import FAMILIES
from veriquant.onnxgraph import inspect_onnx

#: Average bits that a paper prints without rounding.
EXACT = (32, 8, 6, 4, 2)


def parameters(table: CitedTable) -> dict[str, int]:
    return {name: FAMILIES.get(model.family).parameters(**model.arguments) for name, model in table.models.items()}


@pytest.mark.parametrize("name", CITED)
def test_every_size_is_what_our_networks_have(name):
    """Exact widths to the digit; a width that is itself rounded within what its rounding allows."""
    table = load_cited(name)
    counts = parameters(table)
    for row in table.rows:
        ours = counts[row.model] * row.average_bits / 8e6
        if row.average_bits in EXACT:
            assert f"{ours:.2f}" == f"{row.size:.2f}", row
        else:
            allowed = counts[row.model] * 0.005 / 8e6 + 0.005
            assert ours == pytest.approx(row.size, abs=allowed + 1e-9), row


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("kolf-1", {"ResNet18": (24.03, 18.02), "ResNet50": (43.59, 32.69), "MobileFaceNet": (1.00, 0.75)}),
        ("kolf-4", {"ResNet18": (62.56, 46.92), "ResNet50": (82.13, 61.59), "MobileFaceNet": (1.28, 0.96)}),
        ("kolf-5", {"ResNet18": (62.56, 46.92), "ResNet50": (82.13, 61.59), "MobileFaceNet": (1.28, 0.96)}),
    ],
)
def test_a_table_has_the_rows_and_sizes_that_the_paper_prints(name, sizes):
    table = load_cited(name)
    assert set(sizes) == set(table.models)
    for model, expected in sizes.items():
        assert tuple(row.size for row in table.rows_of(model, "fixed"))[:2] == expected
        assert len(table.rows_of(model, "fp32")) == 1
        mixed = [row.average_bits for row in table.rows_of(model, "mixed")]
        assert len(mixed) == 12
        assert mixed == sorted(mixed, reverse=True)
        assert (mixed[0], mixed[1], mixed[-1]) == (8, 6, 2)


@pytest.mark.parametrize("name", CITED)
def test_figures_are_percentages_and_rates_fall_as_they_should(name):
    table = load_cited(name)
    metrics = [column.metric for column in table.columns]
    for row in table.rows:
        assert all(0 <= figure <= 100 for figure in row.figures)
        misses = [figure for metric, figure in zip(metrics, row.figures, strict=True) if metric.startswith("fnmr")]
        assert misses == sorted(misses), f"fewer misses at a stricter threshold: {row}"


def test_corner_cells_stand_where_the_paper_has_them():
    face, verification, identification = (load_cited(name).rows for name in ("kolf-1", "kolf-4", "kolf-5"))
    assert face[0].figures == (99.67, 97.13, 95.70, 89.73, 94.47)
    assert face[-1].figures == (96.88, 86.17, 89.12, 73.42, 76.96)
    assert verification[0].figures == (98.51, 5.76, 13.22, 25.45, 38.86, 52.38, 65.92)
    assert verification[-1].figures == (99.44, 3.20, 5.74, 12.98, 22.48, 35.33, 51.05)
    assert identification[0].figures == (99.61, 99.88, 99.77, 1.75, 2.19, 4.72, 8.65, 14.32, 27.87)
    assert identification[-1].figures == (99.87, 99.94, 99.91, 0.98, 0.98, 2.32, 4.38, 7.46, 12.47)


def test_an_unknown_table_lists_those_there_are():
    with pytest.raises(VeriQuantError, match="'kolf-9'; there are: kolf-1, kolf-4, kolf-5"):
        load_cited("kolf-9")


def test_a_row_that_does_not_fit_is_refused():
    whole = load_cited("kolf-1").model_dump(mode="json")
    short = {**whole, "rows": [{**whole["rows"][0], "figures": [1.0]}]}
    with pytest.raises(ValueError, match="1 figures for 5 columns"):
        CitedTable.model_validate(short)
    strange = {**whole, "rows": [{**whole["rows"][0], "model": "VGG16"}]}
    with pytest.raises(ValueError, match="'models' has no 'VGG16'"):
        CitedTable.model_validate(strange)


def test_a_file_that_we_export_counts_as_the_paper_counts():
    """Batch-normalisations are not folded in it; their running statistics are no parameters."""
    table = load_cited("kolf-1")
    model = table.models["MobileFaceNet"]
    family = FAMILIES.get(model.family)
    module = family.build(**model.arguments)
    with torch.no_grad():  # the exporter keeps equal tensors once
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand_like(tensor)
    exported = inspect_onnx(export_onnx(module, family.spec))
    assert exported.learned == family.parameters(**model.arguments) == 1_003_136
    assert exported.parameters > exported.learned
    (fp32,) = table.rows_of("MobileFaceNet", "fp32")
    assert f"{exported.learned * 4 / 1e6:.2f}" == f"{fp32.size:.2f}"
