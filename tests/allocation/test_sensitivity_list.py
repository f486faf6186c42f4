"""The sensitivity list against the plain way, its formula, its memory, and FIT beside it."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import NETWORKS, crossed, fitted, network, pixels, plain, residual, residual_concat

import veriquant.allocation.sensitivity as sensitivity
import veriquant.caches.sensitivity_store as sensitivity_store
from veriquant.allocation import build_problem, kendall_tau
from veriquant.allocation.responses import Response, responses
from veriquant.allocation.sensitivities.fit import fit_noise
from veriquant.allocation.sensitivity import SensitivityList, all_candidates, load_list
from veriquant.errors import VeriQuantError
from veriquant.metrics.sqnr import noise_ratios, sqnr_db
from veriquant.networks import load_network
from veriquant.simulation import FP32, TARGETS, Costs, KernelTable, Precision, QuantizerCache, observe, simulate

W8A8 = Precision(8, 8)


def measure(
    made: QuantizerCache, images: torch.Tensor, candidates: object = None, *, cache: Path | None = None, **more: object
) -> SensitivityList:
    """Measure a list, kept in a folder where one is given."""
    if cache is None:
        return sensitivity.measure(made, images, candidates, **more)
    store = sensitivity_store.SensitivityStore(cache)
    return sensitivity_store.measure_cached(made, images, candidates, store=store, **more)


def by_hand(full: np.ndarray, quantized: np.ndarray) -> float:
    """Equation 3 of Pandey et al.: 10·log10 of the mean over images of E[F²] / E[(F − Q(F))²]."""
    full, quantized = full.astype(np.float64), quantized.astype(np.float64)
    return float(10 * np.log10(np.mean((full**2).mean(axis=1) / ((full - quantized) ** 2).mean(axis=1))))


def plainly(made: QuantizerCache, images: torch.Tensor, group: str, precision: Precision) -> np.ndarray:
    """Run the whole network with one group quantized."""
    with torch.inference_mode():
        return made.simulation.steps.run(images, made.change({group: precision})).numpy()


def near(decibels: float) -> float:
    """Return how far a ratio may be off by float32's own noise, some 3e-7 of the signal, in dB."""
    return max(1e-3, 8.7 * 3e-7 * 10 ** (decibels / 20))


# --------------------------------------------------------------------------------------------------------- its numbers


@pytest.mark.parametrize("target", ["generic", "wide"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_entry_is_that_of_the_whole_network_run_for_it(name: str, target: str) -> None:
    made = fitted(NETWORKS[name](), target)
    images = pixels(7, seed=3)
    found = measure(made, images).by_group()
    full = made.simulation.steps.run(images).detach().numpy()
    for group, members in made.simulation.groups.items():
        for precision in members.candidates:
            if precision == FP32:
                continue
            expected = by_hand(full, plainly(made, images, group, precision))
            assert found[group][precision].sqnr == pytest.approx(expected, abs=near(expected)), f"{group} {precision}"


def test_floating_point_is_no_entry() -> None:
    made = fitted(residual(), "onnxruntime-x86")
    found = measure(made, pixels(5)).by_group()
    assert {precision for options in found.values() for precision in options} == {
        Precision.parse(text) for text in ("W8A32", "W8A8", "W4A8")
    }
    expected = by_hand(made.simulation.embed(pixels(5)), plainly(made, pixels(5), "c2", Precision(8, 32)))
    assert found["c2"][Precision(8, 32)].sqnr == pytest.approx(expected, abs=1e-3)
    problem = build_problem(Costs(made.simulation), measure(made, pixels(5)))
    assert all(options[0].precision == FP32 and options[0].noise == 0 for options in problem.options.values())


def test_the_numbers_do_not_depend_on_pieces_blocks_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    made, images = fitted(residual_concat()), pixels(23)
    expected = [entry.sqnr for entry in measure(made, images, threads=1).entries]
    monkeypatch.setattr("veriquant.allocation.responses._LARGEST_PIECE", 3)
    monkeypatch.setattr(sensitivity, "BLOCK", 10)
    found = [entry.sqnr for entry in measure(made, images, threads=3).entries]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=near(other))


def test_candidates_may_be_chosen_group_by_group() -> None:
    made = fitted(residual())
    asked = {"c2": (Precision(4, 4), Precision(2, 8)), "gap": (W8A8,)}
    found = measure(made, pixels(5), asked)
    assert [(entry.group, entry.precision) for entry in found.entries] == [
        ("c2", "W4A4"), ("c2", "W2A8"), ("gap", "W8A8"),
    ]  # fmt: skip


def test_a_group_without_weights_answers_alike_for_all_widths_of_weights() -> None:
    found = measure(fitted(residual()), pixels(5)).by_group()["gap"]
    assert found[Precision(8, 8)].sqnr == found[Precision(4, 8)].sqnr
    assert found[Precision(8, 16)].sqnr > found[Precision(8, 8)].sqnr + 20


@pytest.mark.parametrize("name", NETWORKS)
def test_more_bits_are_less_noise(name: str) -> None:
    table = KernelTable(
        "t", "", tuple(Precision(b, b) for b in (16, 8, 4)), TARGETS.get("generic").fused
    )  # fmt: skip
    for options in measure(fitted(NETWORKS[name](), table), pixels(8)).by_group().values():
        values = [options[Precision(bits, bits)].sqnr for bits in (16, 8, 4)]
        assert values[0] > values[1] + 20
        assert values[1] > values[2] + 6


@pytest.mark.parametrize("decibels", [0.0, 20.0, 60.0, 100.0])
@pytest.mark.parametrize("length", [1.0, 1e-4, 300.0])
def test_an_exact_perturbation_is_reported_as_it_is(decibels: float, length: float) -> None:
    draw = np.random.default_rng(0)
    full = draw.standard_normal((9, 128))
    full *= length / np.linalg.norm(full, axis=1, keepdims=True)  # unit-length embeddings: E[F²] is far below 1
    noise = draw.standard_normal(full.shape)
    noise *= length * 10 ** (-decibels / 20) / np.linalg.norm(noise, axis=1, keepdims=True)
    ratios = noise_ratios(full.astype(np.float32), (full.astype(np.float32) + noise))
    assert sqnr_db(ratios) == pytest.approx(decibels, abs=0.1)
    np.testing.assert_allclose(ratios, 10 ** (-decibels / 10), rtol=0.03)
    assert sqnr_db(ratios) == pytest.approx(by_hand(full.astype(np.float32), full.astype(np.float32) + noise), abs=1e-3)


def test_the_mean_is_over_ratios_of_images_not_of_sums() -> None:
    full = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    found = np.array([[1.1, 0.0], [0.0, 1.01]], np.float32)
    assert sqnr_db(noise_ratios(full, found)) == pytest.approx(10 * math.log10((100 + 10000) / 2), abs=0.01)
    assert noise_ratios(full, found).mean() == pytest.approx((0.01 + 0.0001) / 2, rel=1e-3)


def test_no_noise_at_all_is_a_finite_number() -> None:
    full = np.ones((3, 4), np.float32)
    assert sqnr_db(noise_ratios(full, full)) == pytest.approx(140.0)


def test_without_any_signal_there_is_no_noise_to_measure() -> None:
    made = fitted(plain())
    with torch.no_grad():
        made.simulation.weighted("embedding").weight.zero_()
    with pytest.raises(VeriQuantError, match="no signal"):
        measure(made, pixels(4))


def test_a_task_metric_takes_the_place_of_sqnr() -> None:
    made, images = fitted(residual()), pixels(6)
    seen = []

    def score(embeddings: np.ndarray) -> float:
        seen.append(embeddings.shape)
        return -float(np.abs(embeddings).max())

    found = measure(made, images, score=score, metric="mine")
    assert found.metric == "mine"
    assert set(seen) == {(6, 6)}
    for entry in found.entries:
        embeddings = plainly(made, images, entry.group, Precision.parse(entry.precision))
        assert entry.score == pytest.approx(-np.abs(embeddings).max(), rel=1e-3)
    scores = [entry.score for entry in found.worst_first()]
    assert scores == sorted(scores)


def test_the_worst_comes_first_and_a_problem_is_posed_from_it() -> None:
    made = fitted(residual())
    found = measure(made, pixels(6))
    worst = found.worst_first()
    assert [entry.sqnr for entry in worst] == sorted(entry.sqnr for entry in found.entries)
    costs = Costs(made.simulation)
    problem = build_problem(costs, found)
    assert list(problem.options) == list(made.simulation.groups)
    for name, options in problem.options.items():
        assert tuple(each.precision for each in options) == made.simulation.groups[name].candidates
        for each in options:
            entry = found.by_group()[name][each.precision]
            assert (each.noise, each.order) == (entry.noise, entry.sqnr)
    for precision in TARGETS.get("generic").candidates:
        uniform = dict.fromkeys(problem.options, precision)
        assert problem.cost(uniform, "bops") == pytest.approx(costs.relative_bops(uniform))
        scales = sum(costs.overhead_bytes(group, precision) for group in made.simulation.groups.values())
        assert problem.cost(uniform, "bytes") == pytest.approx(costs.nominal_bytes(uniform) + scales)


def test_groups_without_candidates_are_a_fixed_cost_in_float() -> None:
    generic = TARGETS.get("generic")
    table = replace(generic, only={"Gemm": ()})
    made = fitted(residual(), table)
    found = measure(made, pixels(4))
    assert "embedding" not in found.by_group()
    costs = Costs(made.simulation)
    problem = build_problem(costs, found)
    assert "embedding" not in problem.options
    rest = dict.fromkeys(problem.options, W8A8)
    assert problem.cost(rest, "bops") == pytest.approx(costs.relative_bops(rest))


# --------------------------------------------------------------------------------------------------------- bad images


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_named(bad: float) -> None:
    images = pixels(4)
    images[2, 1, 0, 0] = bad
    with pytest.raises(VeriQuantError, match=r"1 of 4 are not finite \(the first is number 2"):
        measure(fitted(plain()), images)


def test_no_image_is_named() -> None:
    with pytest.raises(VeriQuantError, match="no calibration image"):
        measure(fitted(plain()), pixels(3)[:0])


# ------------------------------------------------------------------------------------------------------------- memory


class Counted:
    """`responses`, counting the groups that are really computed; dies when it has yielded `dies_after` of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dies_after: int | None = None) -> None:
        self.groups: list[str] = []
        self.dies_after = dies_after
        monkeypatch.setattr(sensitivity, "responses", self)

    def __call__(self, *arguments: object, **settings: object):
        for response in responses(*arguments, **settings):
            if len(self.groups) == self.dies_after:
                raise KeyboardInterrupt
            self.groups.append(response.group)
            yield response


def test_the_same_question_is_answered_without_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = measure(fitted(residual()), pixels(5), cache=tmp_path)
    counted = Counted(monkeypatch)
    second = measure(fitted(residual()), pixels(5), cache=tmp_path)
    assert counted.groups == []
    assert second == first
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    assert load_list(next(tmp_path.iterdir())) == first


def changed_weight(tmp_path: Path):
    import onnx

    model = onnx.load_model_from_string(residual())
    stored = next(each for each in model.graph.initializer if each.name == "c3_w")
    values = onnx.numpy_helper.to_array(stored).copy()
    values.flat[0] += 1e-3
    stored.CopyFrom(onnx.numpy_helper.from_array(values, "c3_w"))
    simulation = simulate(network(model.SerializeToString()))
    return QuantizerCache(simulation, fitted(residual()).histograms), pixels(5), {}


def changed_sample(tmp_path: Path):
    images = pixels(5)
    images[4, 2, 7, 7] += 1e-3
    return fitted(residual()), images, {}


def changed_fused(tmp_path: Path):
    table = replace(TARGETS.get("generic"), fused=("PRelu", "Sigmoid"))
    return QuantizerCache(simulate(network(residual()), table), fitted(residual()).histograms), pixels(5), {}


CHANGES = {
    "weight": changed_weight,
    "sample": changed_sample,
    "fused": changed_fused,
    "order of samples": lambda _: (fitted(residual()), pixels(5).flip(0), {}),
    "fewer samples": lambda _: (fitted(residual()), pixels(5)[:4], {}),
    "target": lambda _: (fitted(residual(), "wide"), pixels(5), {}),
    "scheme of weights": lambda _: (fitted(residual(), weight_scheme="asymmetric"), pixels(5), {}),
    "scheme of activations": lambda _: (fitted(residual(), activation_scheme="symmetric"), pixels(5), {}),
    "ranges": lambda _: (fitted(residual(), ranges="minmax"), pixels(5), {}),
    "calibration": lambda _: (
        replace(fitted(residual()), histograms=observe(fitted(residual()).simulation, pixels(12, seed=9))),
        pixels(5),
        {},
    ),
    "candidates": lambda _: (fitted(residual()), pixels(5), {"candidates": {"c2": (W8A8,)}}),
    "recovery": lambda _: (fitted(residual()), pixels(5), {"recovery": "adaround"}),
    "metric": lambda _: (fitted(residual()), pixels(5), {"metric": "mine", "score": lambda embeddings: 0.0}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_list_depends_on_makes_another_list(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(fitted(residual()), pixels(5), cache=tmp_path)
    counted = Counted(monkeypatch)
    made, images, settings = CHANGES[what](tmp_path)
    measure(made, images, cache=tmp_path, **settings)
    assert counted.groups


@pytest.mark.parametrize("count", [1, 4])
def test_a_killed_run_goes_on_where_it_was(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = measure(fitted(residual()), pixels(5))
    groups = list(fitted(residual()).simulation.groups)
    killed = Counted(monkeypatch, dies_after=count)
    with pytest.raises(KeyboardInterrupt):
        measure(fitted(residual()), pixels(5), cache=tmp_path)
    assert not list(tmp_path.glob("*.json"))
    counted = Counted(monkeypatch)
    found = measure(fitted(residual()), pixels(5), cache=tmp_path)
    assert sorted(counted.groups) == sorted(set(groups) - set(killed.groups))
    assert len(counted.groups) == len(groups) - count
    assert found.entries == expected.entries
    assert len(list(tmp_path.iterdir())) == 1  # the parts are gone


def test_a_run_killed_between_blocks_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sensitivity, sensitivity_store):
        monkeypatch.setattr(module, "BLOCK", 4)
    groups = list(fitted(plain()).simulation.groups)
    Counted(monkeypatch, dies_after=len(groups) + 1)
    with pytest.raises(KeyboardInterrupt):
        measure(fitted(plain()), pixels(10), cache=tmp_path)
    counted = Counted(monkeypatch)
    found = measure(fitted(plain()), pixels(10), cache=tmp_path)
    assert len(counted.groups) == 3 * len(groups) - len(groups) - 1
    assert found.entries == measure(fitted(plain()), pixels(10)).entries


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Change a byte that matters: of an archive one of an array's numbers, not of a date beside them."""
    content = bytearray(path.read_bytes())
    array = content.rfind(b"\x93NUMPY")
    content[len(content) // 2 if array < 0 else array + 140] ^= 0xFF
    path.write_bytes(content)


def forge(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write a whole part again, or a whole list, that says something else."""
    if path.suffix == ".json":
        path.write_text(path.read_text().replace('"group"', '"grupp"', 1))
        return
    with np.load(path) as content:
        arrays = {name: content[name] if name == "head" else change(content[name]) for name in content.files}
    np.savez(path, **arrays)


def compress(path: Path) -> None:
    content = path.read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("head.npy", content * 100)


def nest(path: Path) -> None:
    path.write_text("[" * 100_000)


DAMAGES = {
    "flipped": flip,
    "other shape": lambda path: forge(path, lambda found: found[:1]),
    "other type": lambda path: forge(path, lambda found: found.astype(np.float64)),
    "objects": lambda path: forge(path, lambda found: found.astype(object)),
    "compressed": compress,
    "nested": nest,
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x00garbage\xff" * 20),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_list_is_measured_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = measure(fitted(plain()), pixels(5), cache=tmp_path)
    (file,) = tmp_path.iterdir()
    DAMAGES[damage](file)
    counted = Counted(monkeypatch)
    assert measure(fitted(plain()), pixels(5), cache=tmp_path).entries == expected.entries
    assert counted.groups
    assert load_list(file).entries == expected.entries
    assert capsys.readouterr().err.count("is damaged: it is measured again") == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_parts_are_measured_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = measure(fitted(plain()), pixels(5))
    Counted(monkeypatch, dies_after=3)
    with pytest.raises(KeyboardInterrupt):
        measure(fitted(plain()), pixels(5), cache=tmp_path)
    parts = sorted(tmp_path.glob("*.parts/*.npz"))
    assert len(parts) == 3
    DAMAGES[damage](parts[1])
    counted = Counted(monkeypatch)
    found = measure(fitted(plain()), pixels(5), cache=tmp_path)
    assert len(counted.groups) == len(fitted(plain()).simulation.groups) - 2
    assert found.entries == expected.entries
    assert capsys.readouterr().err.count("1 of 3 kept parts") == 1


@pytest.mark.parametrize("content", [b"", b"{}", b'{"kind": "veriquant-plan"}', b"nothing"])
def test_a_file_that_is_no_list_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_bytes(content)
    with pytest.raises(VeriQuantError, match=r"list\.json is no sensitivity list") as raised:
        load_list(tmp_path / "list.json")
    assert "\n" not in str(raised.value)
    with pytest.raises(VeriQuantError, match="cannot read"):
        load_list(tmp_path / "none.json")


# ---------------------------------------------------------------------------------------------------------- responses


def test_responses_come_in_the_networks_order_and_skip_what_is_known() -> None:
    made = fitted(residual_concat())
    asked = all_candidates(made)
    found = list(responses(made, pixels(5), asked, done=lambda group: group == "c3"))
    assert all(isinstance(each, Response) for each in found)
    assert [each.group for each in found] == [group for group in asked if group != "c3"]
    for each in found:
        assert set(each.embeddings) == set(asked[each.group])
        assert {value.shape for value in each.embeddings.values()} == {(5, 6)}


def test_where_images_do_not_lie_along_the_first_axis_each_keeps_its_own() -> None:
    made = fitted(crossed())
    images = pixels(5)
    alone = [next(iter(responses(made, images[i : i + 1], {"m2": (W8A8,)}))).embeddings[W8A8] for i in range(5)]
    together = next(iter(responses(made, images, {"m2": (W8A8,)}))).embeddings[W8A8]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------- FIT


Options = dict[str, dict[Precision, float]]


@pytest.fixture(scope="module")
def trained() -> tuple[Options, Options]:
    """FIT and measured noise of every group of the demo's trained network at two widths."""
    from veriquant.benchmarks.synthetic import demo_calibration
    from veriquant.frontends.images import image_batches

    loaded = load_network("demo-mobilefacenet")
    images = torch.from_numpy(np.concatenate(list(image_batches(demo_calibration(4).samples, loaded.spec, 4))))
    simulation = simulate(loaded)
    made = QuantizerCache(simulation, observe(simulation, images), ranges="minmax")
    asked = {name: (W8A8, Precision(4, 8)) for name in simulation.groups}
    found = measure(made, images, asked).by_group()
    noise = {name: {p: entry.noise for p, entry in options.items()} for name, options in found.items()}
    return fit_noise(made, images, asked), noise


def test_fit_orders_a_trained_network_as_measured_noise_does(trained: tuple[Options, Options]) -> None:
    one, other = ({(g, p): -n for g, options in each.items() for p, n in options.items()} for each in trained)
    tau = kendall_tau(one, other).tau
    assert tau is not None
    assert tau > 0.5


def test_fit_is_a_noise_to_signal_ratio(trained: tuple[Options, Options]) -> None:
    fit, noise = trained
    ratios = [fit[name][W8A8] / noise[name][W8A8] for name in noise]
    assert 0.1 < float(np.median(ratios)) < 10


def test_fit_is_the_same_for_a_seed_and_another_for_another() -> None:
    made, images = fitted(residual()), pixels(6)
    asked = all_candidates(made)
    assert fit_noise(made, images, asked, seed=3) == fit_noise(made, images, asked, seed=3)
    assert fit_noise(made, images, asked, seed=3) != fit_noise(made, images, asked, seed=4)


@pytest.mark.parametrize("name", NETWORKS)
def test_fit_falls_with_the_bits_and_is_nothing_in_float(name: str) -> None:
    made = fitted(NETWORKS[name]())
    asked = {group: (Precision(8, 8), Precision(4, 4), FP32) for group in made.simulation.groups}
    for options in fit_noise(made, pixels(6), asked).values():
        assert 0 == options[FP32] <= options[Precision(8, 8)] <= options[Precision(4, 4)]
        assert options[Precision(4, 4)] > 0
