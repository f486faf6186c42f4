"""Studies that print a paper's table: rows beside rows, folds together, each network with images of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_world import study_text, tiny_network
from ufpr_folder import list_lines, pair_lines, ufpr_folder

from veriquant.cited import load_cited
from veriquant.errors import VeriQuantError
from veriquant.onnxgraph import inspect_onnx
from veriquant.report import cited, write_report
from veriquant.results import StudyResult, StudyTable, TableRow
from veriquant.study import parse_study, read_result, run_study

#: Training that takes a second.
FEW = "images: 6, check_images: 3, train_images: 9, batch_size: 4, epochs: 1, first_epochs: 1, iterations: 3"
FIXED = "images: 6, check_images: 3, train_images: 9, batch_size: 4, epochs: 1"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VERIQUANT_CACHE", str(tmp_path / "cache"))


def face_text(world: Path, tables: str = "[kolf-1]", more: str = "") -> str:
    recipes = (
        f"[{{recipe: fixed, name: W8A8, row: fixed}}, {{recipe: fixed, name: W5A8, row: fixed, "
        f"settings: {{precision: W5A8, target: wide}}}}, "
        f"{{recipe: iterative-2bit, name: mixed, row: mixed, settings: {{{FEW}}}, each: {{stop_after: [1, 2, 3]}}}}, "
        "int8-dynamic]"
    )
    text = study_text(world, recipes, f"tables: {tables}\n{more}")
    return text.replace(f'["{world}/tiny.onnx"]', f'[{{source: "{world}/tiny.onnx", model: MobileFaceNet}}]').replace(
        "latency: {batches: [1], rounds: 3}", "latency: null"
    )


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """Two folds in UFPR-Periocular's layout: six people tested in each, six trained on, two to validate."""
    folder = ufpr_folder(tmp_path / "eyes")
    place = folder / "experimentalProtocol" / "open_world"
    people = (range(1, 7), range(7, 13))
    for fold in (1, 2):
        tested, trained = people[fold - 1], people[2 - fold]
        pairs = place / "test_pairs" / f"fold{fold}"
        pairs.mkdir(exist_ok=True)
        for name, lines in pair_lines(tested).items():
            (pairs / name).write_text("\n".join(lines) + "\n")
        for part, who in (("test", tested), ("train", trained), ("val", (103, 104))):
            (place / f"{part}_fold{fold}.txt").write_text("\n".join(list_lines(who)) + "\n")
    for seed in (1, 2):
        tiny_network(tmp_path / f"net-{seed}.onnx", seed=seed)
    return folder


def eyes_text(eyes: Path, change: tuple[str, str] = ("", ""), more: str = "") -> str:
    networks = "".join(
        f"""
  - source: {eyes.parent}/net-{fold}.onnx
    name: open-{fold}
    model: MobileFaceNet
    fold: {fold}
    benchmarks: [pairs {fold}, all {fold}]
    training_set: ufpr:{eyes}:open_world:{fold}
    calibration: {{source: "ufpr:{eyes}:open_world:{fold}"}}"""
        for fold in (1, 2)
    )
    benchmarks = "".join(
        f"""
  - {{source: "{kind}:{eyes}:open_world:{fold}", name: {name} {fold}}}"""
        for fold in (1, 2)
        for kind, name in (("ufpr", "pairs"), ("ufpr-all", "all"))
    )
    text = f"""
networks: {networks}
recipes:
  - {{recipe: kolf-fixed-w8a8, row: fixed, settings: {{{FIXED}}}}}
benchmarks: {benchmarks}
tables:
  - table: kolf-4
    columns: {{'*': ufpr, 'FNMR@FMR=1e-2': ufpr-all}}
far: [1.0e-2, 1.0e-3, 1.0e-4, 1.0e-5, 1.0e-6]
verdict_metric: eer
latency: null
resamples: 20
{more}
"""
    return text.replace(*change)


@pytest.fixture(scope="module")
def done(world: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """The study of faces, finished."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERIQUANT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return run(face_text(world), tmp_path_factory.mktemp("done"))[0]


def run(text: str, out: Path) -> tuple[StudyResult, list[str]]:
    said: list[str] = []
    return run_study(parse_study(text, "test"), out=out, say=said.append), said


def own_rows(table: StudyTable) -> dict[str, TableRow]:
    return {row.label.partition(" · ")[2]: row for row in table.rows if not row.cited}


def test_rows_stand_beside_those_of_the_paper(world: Path, done: StudyResult) -> None:
    (table,) = done.tables
    paper = load_cited("kolf-1")
    assert [row.average_bits for row in table.rows if row.cited] == [row.average_bits for row in paper.rows]
    assert [f.value for f in table.rows[0].figures] == [pytest.approx(f / 100) for f in paper.rows[0].figures]
    for row in table.rows:
        if row.cited and row.average_bits in (32, 8, 6, 2):
            assert f"{row.nominal_bytes / 1e6:.2f}" == f"{row.cited_bytes / 1e6:.2f}"
    rows = own_rows(table)
    assert list(rows) == ["fp32", "W8A8", "W5A8", "mixed 1", "mixed 2", "mixed 3"]
    assert table.left_out == ["int8-dynamic"]
    assert any(line.endswith("stand beside: int8-dynamic.") for line in cited.drawn(table).footnotes)
    learned = inspect_onnx((world / "tiny.onnx").read_bytes()).learned
    for name, bits in {"fp32": 32, "W8A8": 8, "W5A8": 5, "mixed 1": 8, "mixed 2": 6, "mixed 3": 2}.items():
        assert rows[name].average_bits == pytest.approx(bits, abs=0.01)
        assert rows[name].nominal_bytes == pytest.approx(learned * rows[name].average_bits / 8)
    network = done.networks[0]
    for row, variant in zip(rows.values(), network.variants, strict=False):
        assert row.size_bytes == variant.size_bytes
        assert row.figures[0].value == variant.evaluations["LFW"].metrics["accuracy"].value
        assert [figure.value for figure in row.figures[1:]] == [None] * 4, "AgeDB30 … CFP-FP are not in this study"
    before = {row.label: table.rows[place - 1] for place, row in enumerate(table.rows)}
    beside = {name: before[row.label] for name, row in rows.items()}
    assert all(row.model == "MobileFaceNet" for row in beside.values())
    assert (beside["W8A8"].average_bits, beside["W5A8"].average_bits) == (8, 6), "the paper has no fixed 5 bits"
    mixed = [(beside[f"mixed {k}"].precision, beside[f"mixed {k}"].average_bits) for k in (1, 2, 3)]
    assert mixed == [("mixed", 8), ("mixed", 6), ("mixed", 2)]


def test_the_page_the_text_and_the_terminal_show_the_same_table(
    done: StudyResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from veriquant.cli.study import cited_tables

    paths = write_report(done, tmp_path)
    cited_tables(done)
    page, markdown, screen = paths.html.read_text(), paths.markdown.read_text(), capsys.readouterr().out
    for cells in cited.drawn(done.tables[0]).rows:
        assert "| " + " | ".join(cell.text for cell in cells) + " |" in markdown
    for words in ("24.03", "43.59", "32.69", "tiny · mixed 1", "89.46", "MS1MV2", "on other data"):
        assert words in page
        assert words in markdown
        assert words in screen


def test_a_study_that_was_stopped_goes_on_and_its_table_is_the_same(
    world: Path, done: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import veriquant.study.run as running

    made: list[str] = []
    make = running.make_artefact

    def stops(context, network, recipe, *args, **kwargs):
        if recipe.name == "mixed 2":
            raise KeyboardInterrupt
        made.append(recipe.name)
        return make(context, network, recipe, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(running, "make_artefact", stops)
        with pytest.raises(KeyboardInterrupt):
            run(face_text(world), tmp_path / "out")
    assert made == ["fp32", "W8A8", "W5A8", "mixed 1"]
    result, said = run(face_text(world), tmp_path / "out")
    computed = [line for line in said if line.startswith("[") and "already there" not in line]
    assert not any(f"· {name}" in line for line in computed for name in made)
    assert result.tables == done.tables
    assert read_result(tmp_path / "out").tables == done.tables


def test_folds_of_a_model_share_rows_and_each_has_its_own_images(eyes: Path, tmp_path: Path) -> None:
    result, said = run(eyes_text(eyes), tmp_path / "out")
    embedded = [line for line in said if "embeddings: " in line and "already there" not in line]
    assert len(embedded) == 4, "two networks, two recipes: listed pairs and all pairs are of the same images"
    first, second = result.networks
    assert [list(v.evaluations) for v in (first.variants[0], second.variants[0])] == [
        ["pairs 1", "all 1"],
        ["pairs 2", "all 2"],
    ]
    assert first.trained_on["training set"]["images of benchmarks"] == "none"
    assert first.trained_on["calibration"]["images of benchmarks"] == "left out"
    assert first.trained_on["training set"]["source"].endswith("open_world:1")
    assert first.trained_on["calibration"]["digest"] != second.trained_on["calibration"]["digest"]
    counted = {path.read_text() for path in (tmp_path / "out" / "store").rglob("*.json")}
    took = [json.loads(text)["facts"] for text in counted]
    assert result.seconds == pytest.approx(sum(f.get("seconds_total", f.get("seconds", 0)) for f in took))
    (table,) = result.tables
    rows = own_rows(table)
    assert list(rows) == ["fp32", "kolf-fixed-w8a8"]
    for place, name in enumerate(rows):
        row, variants = rows[name], [network.variants[place] for network in result.networks]
        assert row.folds == 2
        for column, figure in zip(table.columns, row.figures, strict=True):
            kind = "all" if column.metric == "fnmr@fmr=1e-2" else "pairs"
            values = [v.evaluations[f"{kind} {n}"].metrics[column.metric].value for n, v in enumerate(variants, 1)]
            if None in values:
                assert figure.value is None
            else:
                assert figure.value == pytest.approx(sum(values) / 2)
                assert figure.std == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert rows["kolf-fixed-w8a8"].average_bits == 8
    assert table.columns[2].measured_on == ["all 1", "all 2"]
    told = cited.drawn(table).footnotes
    assert any("standard deviation over the folds" in line for line in told)
    assert any("FNMR@FMR=1e-2: ours on all 1, all 2" in line for line in told)


def test_another_training_set_makes_another_network(eyes: Path, tmp_path: Path) -> None:
    text = eyes_text(eyes)
    for fold in (1, 2):
        text = text.replace(f'"ufpr:{eyes}:open_world:{fold}"}}\n', f'"ufpr:{eyes}:open_world:{fold}:val"}}\n')
    assert text.count(":val") == 2
    run(text, tmp_path / "out")
    place = eyes / "experimentalProtocol" / "open_world" / "train_fold1.txt"
    place.write_text("\n".join(place.read_text().splitlines()[:-3]) + "\n")
    _, said = run(text, tmp_path / "out")
    made = [line for line in said if "] network:" in line and "already there" not in line]
    assert [line.partition("network: ")[2].partition(",")[0] for line in made] == ["open-1 · kolf-fixed-w8a8"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("fold: 2", "fold: 1"), "key 'tables.0': open-1 and open-2 are both fold 1 of MobileFaceNet"),
        (
            ("[pairs 2, all 2]", "[pairs 2, each 2]"),
            "key 'networks.1.benchmarks': this study has no benchmark 'each 2'",
        ),
        (("[pairs 2, all 2]", "[pairs 2]"), "benchmark 'all 2': no network has it under 'benchmarks'"),
        (("model: MobileFaceNet", "model: VGG16"), "key 'tables.0': network 'open-1' is of the model 'VGG16'"),
        (("'FNMR@FMR=1e-2': ufpr-all", "'AUC': lfw"), "key 'tables.0.columns': this study has no benchmark 'lfw'"),
        ((", 1.0e-6]", "]"), "key 'far': kolf-4 has a column FNMR@FMR=1e-6, so 1e-6 must be among"),
        (
            ("- table: kolf-4", "- table: kolf-4\n    networks: [closed-1]"),
            "'tables.0.networks': this study has no network",
        ),
        (("    training_set: ufpr", "    # ufpr"), "key 'training_set' of the study or of network 'open-1'"),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(
    eyes: Path, tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    with pytest.raises(VeriQuantError) as caught:
        run(eyes_text(eyes, change), tmp_path / "out")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "artefacts").exists()


def test_two_folds_on_the_same_test_data_are_said_before_any_work(eyes: Path, tmp_path: Path) -> None:
    """By content: under names of their own they look like two."""
    text = eyes_text(eyes, (f"kolf-fixed-w8a8, row: fixed, settings: {{{FIXED}}}", "fixed, row: fixed"))
    text = text.replace(f'{eyes}:open_world:2", name', f'{eyes}:open_world:1", name').replace(
        f'calibration: {{source: "ufpr:{eyes}:open_world:2"', f'calibration: {{source: "ufpr:{eyes}:open_world:1"'
    )
    with pytest.raises(
        VeriQuantError, match="open-1 and open-2 are folds of MobileFaceNet and are measured on the same"
    ):
        run(text, tmp_path / "out")
    assert not (tmp_path / "out" / "artefacts").exists()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_metric_decides_about_all_networks(world: Path, tmp_path: Path, order: tuple[int, int]) -> None:
    """Accuracy comes of listed pairs alone: where a network has none, EER decides, in whatever order they stand."""
    people = Path(shutil.copytree(world / "lfw", tmp_path / "people"))
    (people / "pairs.txt").unlink()
    networks = [f"{{source: {world}/tiny.onnx, name: n{n}, benchmarks: [b{n}]}}" for n in order]
    text = f"""
networks: [{", ".join(networks)}]
recipes: [int8-dynamic]
benchmarks: [{{source: "lfw:{world}/lfw", name: b0}}, {{source: "folder:{people}", name: b1}}]
latency: null
resamples: 20
"""
    result, _ = run(text, tmp_path / "out")
    assert result.settings["verdict_metric"] == "eer"
    with pytest.raises(
        VeriQuantError, match=r"no benchmark of network 'n1' gives 'accuracy'; all networks have: .*eer"
    ):
        run(text + "verdict_metric: accuracy\n", tmp_path / "other")
    assert not list((tmp_path / "other").rglob("*int8-dynamic*")), "it is said before anything is quantized"


def test_nobody_is_trained_on_the_images_that_are_tested(eyes: Path, tmp_path: Path) -> None:
    link = tmp_path / "another-name"
    link.symlink_to(eyes)
    for spelt in (eyes, link):
        leak = (f"training_set: ufpr:{eyes}:open_world:2", f"training_set: ufpr:{spelt}:open_world:1")
        words = r"key 'networks\.1\.training_set': 36 images of .* are compared by ufpr:.*:open_world:2"
        with pytest.raises(VeriQuantError, match=words):
            run(eyes_text(eyes, leak), tmp_path / "out")
    mine = (
        f'calibration: {{source: "ufpr:{eyes}:open_world:2"}}',
        f'calibration: {{source: "ufpr:{eyes}:open_world:1"}}',
    )
    with pytest.raises(VeriQuantError, match="are used by a benchmark"):
        run(eyes_text(eyes, mine), tmp_path / "out")
