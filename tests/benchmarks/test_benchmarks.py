import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from veriquant.benchmarks import BENCHMARKS, Benchmark, BenchmarkKind, load_benchmark
from veriquant.benchmarks.assemble import contiguous_folds, interleaved_folds
from veriquant.data import load_calibration
from veriquant.errors import VeriQuantError

PEOPLE = {"Ann": 3, "Bob": 2, "Cy": 2, "Dee": 1}
PAIRS = "2\t2\nAnn\t1\t2\nBob\t1\t2\nAnn\t1\tBob\t1\nBob\t1\tCy\t1\nCy\t1\t2\nAnn\t2\t3\nCy\t2\tDee\t1\nAnn\t1\tCy\t1\n"


def lfw(folder: Path, draw, ending: str = ".jpg") -> Path:
    for name, count in PEOPLE.items():
        for number in range(1, count + 1):
            path = folder / name / f"{name}_{number:04d}{ending}"
            draw(len(name) * 100 + number, path, kind="JPEG" if ending == ".jpg" else "PNG")
    (folder / "pairs.txt").write_text(PAIRS)
    return folder


def named(benchmark: Benchmark) -> list[tuple[str, str, bool, int | None]]:
    """Return the comparisons by the names of their images."""
    names = [Path(sample.name).stem for sample in benchmark.samples]
    folds = [None] * len(benchmark.left) if benchmark.folds is None else benchmark.folds.tolist()
    return [
        (names[a], names[b], same, fold)
        for a, b, same, fold in zip(
            benchmark.left.tolist(), benchmark.right.tolist(), benchmark.genuine.tolist(), folds, strict=True
        )
    ]


def consistent(benchmark: Benchmark) -> None:
    """Check what holds for every benchmark."""
    for array in (benchmark.left, benchmark.right, benchmark.persons):
        assert array.dtype == np.int64
    assert benchmark.genuine.dtype == np.bool_
    assert len(benchmark.left) == len(benchmark.right) == len(benchmark.genuine)
    assert len(benchmark.persons) == len(benchmark.samples)
    assert len({sample.name for sample in benchmark.samples}) == len(benchmark.samples)
    if not benchmark.all_pairs:
        assert set(benchmark.left) | set(benchmark.right) == set(range(len(benchmark.samples)))
    assert len(benchmark.digest) == 64
    assert benchmark.protocol.endswith(".")
    assert benchmark.persons_note


LFW = [
    ("Ann_0001", "Ann_0002", True, 0),
    ("Bob_0001", "Bob_0002", True, 0),
    ("Ann_0001", "Bob_0001", False, 0),
    ("Bob_0001", "Cy_0001", False, 0),
    ("Cy_0001", "Cy_0002", True, 1),
    ("Ann_0002", "Ann_0003", True, 1),
    ("Cy_0002", "Dee_0001", False, 1),
    ("Ann_0001", "Cy_0001", False, 1),
]


@pytest.mark.parametrize("ending", [".jpg", ".png"])
@pytest.mark.parametrize("inside", ["", "lfw-deepfunneled"])
def test_lfw(tmp_path: Path, draw, ending: str, inside: str) -> None:
    lfw(tmp_path / inside, draw, ending)
    if inside:
        (tmp_path / inside / "pairs.txt").rename(tmp_path / "pairs.txt")
    found = load_benchmark(f"lfw:{tmp_path}")
    consistent(found)
    assert named(found) == LFW
    assert len(found.samples) == 8
    assert (found.name, found.source) == ("LFW", f"lfw:{tmp_path}")
    people = {
        Path(sample.name).stem[:-5]: int(person) for sample, person in zip(found.samples, found.persons, strict=True)
    }
    assert len(set(people.values())) == 4
    assert found.persons_known
    assert found.persons_note == "persons are the folders' names"
    assert found.skipped == ()


def test_missing_images(tmp_path: Path, draw) -> None:
    lfw(tmp_path, draw)
    (tmp_path / "Bob" / "Bob_0001.jpg").unlink()
    with pytest.raises(VeriQuantError) as caught:
        load_benchmark(f"lfw:{tmp_path}")
    assert str(caught.value) == (
        f"1 of the 8 images that {tmp_path}/pairs.txt lists are missing in {tmp_path}: Bob/Bob_0001; "
        "check the folder, or leave out their comparisons with --allow-missing"
    )
    found = load_benchmark(f"lfw:{tmp_path}", allow_missing=True)
    assert found.skipped == ("Bob/Bob_0001",)
    assert named(found) == [row for row in LFW if "Bob_0001" not in row]
    assert len(found.samples) == 6  # Bob_0002 was compared with the missing image only
    shutil.rmtree(tmp_path / "Cy")
    shutil.rmtree(tmp_path / "Dee")
    with pytest.raises(VeriQuantError, match=r"4 of the 8 images .*: Bob/Bob_0001, Cy/Cy_0001, Cy/Cy_0002, …; check"):
        load_benchmark(f"lfw:{tmp_path}")
    with pytest.raises(VeriQuantError, match="no impostor comparison is left"):
        load_benchmark(f"lfw:{tmp_path}", allow_missing=True)
    shutil.rmtree(tmp_path / "Ann")
    shutil.rmtree(tmp_path / "Bob")
    with pytest.raises(VeriQuantError, match=r"8 of the 8 images .*check the folder$"):
        load_benchmark(f"lfw:{tmp_path}", allow_missing=True)


def test_the_digest_covers_protocol_and_images_and_not_the_place(tmp_path: Path, draw) -> None:
    folder = lfw(tmp_path / "a", draw)
    first = load_benchmark(f"lfw:{folder}")
    moved = folder.rename(tmp_path / "b")
    assert load_benchmark(f"lfw:{moved}").digest == first.digest
    (moved / "pairs.txt").write_text(PAIRS.replace("Ann\t2\t3", "Ann\t1\t3"))
    other = load_benchmark(f"lfw:{moved}")
    (moved / "pairs.txt").write_text(PAIRS)
    draw(12345, moved / "Ann" / "Ann_0001.jpg")
    changed = load_benchmark(f"lfw:{moved}")
    assert len({first.digest, other.digest, changed.digest}) == 3


def test_lfw_with_paths_is_cut_into_ten_folds_where_that_is_possible(tmp_path: Path, draw) -> None:
    lfw(tmp_path, draw)
    block = "Ann/Ann_0001.jpg Ann/Ann_0002.jpg 1\nAnn/Ann_0001.jpg Bob/Bob_0001.jpg 0\n"
    (tmp_path / "pairs.txt").write_text(block * 10)
    found = load_benchmark(f"lfw:{tmp_path}")
    assert found.folds is not None
    assert found.folds.tolist() == [fold for fold in range(10) for _ in range(2)]
    assert "cut in order into ten folds" in found.protocol
    (tmp_path / "pairs.txt").write_text(block * 9)
    found = load_benchmark(f"lfw:{tmp_path}")
    assert found.folds is None
    assert "no folds" in found.protocol


@pytest.mark.parametrize("kind", ["cfp-ff", "cfp-fp"])
def test_cfp(tmp_path: Path, draw, kind: str) -> None:
    protocol = tmp_path / "Protocol"
    protocol.mkdir()
    for letter, view in (("F", "frontal"), ("P", "profile")):
        lines = []
        for number in range(4):
            place = f"Data/Images/{number // 2 + 1:03}/{view}/{number % 2 + 1:02}.jpg"
            draw(number + 10 * ord(letter), tmp_path / place)
            lines.append(f"{number + 1} ../{place}\n")
        (protocol / f"Pair_list_{letter}.txt").write_text("".join(lines))
    for fold in ("01", "02"):
        folder = protocol / "Split" / kind[-2:].upper() / fold
        folder.mkdir(parents=True)
        (folder / "same.txt").write_text("1,2\n3,4\n")
        (folder / "diff.txt").write_text("1,3\n2,4\n")
    found = load_benchmark(f"{kind}:{tmp_path}")
    consistent(found)
    right = "frontal" if kind == "cfp-ff" else "profile"
    names = [sample.name for sample in found.samples]
    assert [(names[a], names[b]) for a, b in zip(found.left, found.right, strict=True)][:4] == [
        ("Data/Images/001/frontal/01.jpg", f"Data/Images/001/{right}/02.jpg"),
        ("Data/Images/002/frontal/01.jpg", f"Data/Images/002/{right}/02.jpg"),
        ("Data/Images/001/frontal/01.jpg", f"Data/Images/002/{right}/01.jpg"),
        ("Data/Images/001/frontal/02.jpg", f"Data/Images/002/{right}/02.jpg"),
    ]
    assert found.genuine.tolist() == [True, True, False, False] * 2
    assert found.folds is not None
    assert found.folds.tolist() == [0] * 4 + [1] * 4
    assert len(set(found.persons.tolist())) == 2
    assert found.name == kind.upper()


def two_lines(folder: Path, draw, images: str, name: str) -> None:
    lines = []
    for number in range(10):
        person = f"{'ABCDEFGHIJ'[number]}_x"
        for image in (1, 2):
            draw(10 * number + image, folder / images / f"{person}_{image:04d}.jpg")
        lines.append(f"{person}_0001.jpg {number + 1}\n{person}_0002.jpg {number + 1}\n")
    people = "ABCDEFGHIJ"
    lines += [f"{people[i]}_x_0001.jpg 0\n{people[(i + 1) % 10]}_x_0002.jpg 0\n" for i in range(10)]
    (folder / name).write_text("".join(lines))


@pytest.mark.parametrize("kind", ["calfw", "cplfw"])
@pytest.mark.parametrize("images", ["aligned images", "images", "images&landmarks/images", "anything", "."])
def test_calfw_and_cplfw(tmp_path: Path, draw, kind: str, images: str) -> None:
    two_lines(tmp_path, draw, images, f"pairs_{kind.upper()}.txt")
    found = load_benchmark(f"{kind}:{tmp_path}")
    consistent(found)
    assert named(found)[:4] == [
        ("A_x_0001", "A_x_0002", True, 0),
        ("A_x_0001", "B_x_0002", False, 0),
        ("B_x_0001", "B_x_0002", True, 1),
        ("B_x_0001", "C_x_0002", False, 1),
    ]
    assert len(found.left) == 20
    assert len(found.samples) == 20
    assert len(set(found.persons.tolist())) == 10
    assert "without their number" in found.persons_note
    assert f"images from '{images}'" in found.protocol
    assert found.name == kind.upper()


def test_aligned_images_come_first(tmp_path: Path, draw) -> None:
    for images in ("images", "aligned images"):
        two_lines(tmp_path, draw, images, "pairs_anything.txt")
    found = load_benchmark(f"calfw:{tmp_path}")
    assert "aligned images" in str(found.samples[0].path)
    (tmp_path / "pairs_other.txt").write_text("x")
    with pytest.raises(VeriQuantError, match=r"expected pairs_CALFW\.txt, found pairs_anything\.txt, pairs_other\.txt"):
        load_benchmark(f"calfw:{tmp_path}")
    (tmp_path / "pairs_anything.txt").unlink()
    (tmp_path / "pairs_other.txt").unlink()
    with pytest.raises(VeriQuantError, match=r"expected pairs_CALFW\.txt, found no pairs\*\.txt"):
        load_benchmark(f"calfw:{tmp_path}")


@pytest.mark.parametrize("images", ["03_Protocol_Images", "."])
def test_agedb30(tmp_path: Path, draw, images: str) -> None:
    folds = [
        [("1_AnnLee_20_f", "2_AnnLee_50_f", 1), ("1_AnnLee_20_f", "3_BobRay_50_m", -1)],
        [("3_BobRay_50_m", "7_BobRay_2_20_m", 1), ("7_BobRay_2_20_m", "2_AnnLee_50_f", -1)],
    ]
    splits = np.empty((2, 1), dtype=object)
    for fold, pairs in enumerate(folds):
        cells = np.empty((2, len(pairs)), dtype=object)
        for column, pair in enumerate(pairs):
            for row in (0, 1):
                cells[row, column] = {"path": pair[row], "age": 1}
                draw(int(pair[row][0]), tmp_path / images / f"{pair[row]}.jpg")
        splits[fold, 0] = {"images": cells, "labels": np.array([[pair[2] for pair in pairs]])}
    savemat(tmp_path / "04_FINAL_protocol_30_years.mat", {"splits": splits})
    savemat(tmp_path / "01_FINAL_protocol_5_years.mat", {"x": 1})
    found = load_benchmark(f"agedb30:{tmp_path}")
    consistent(found)
    assert named(found) == [(a, b, label == 1, fold) for fold, pairs in enumerate(folds) for a, b, label in pairs]
    assert len(set(found.persons.tolist())) == 2
    assert "names inside the files' names" in found.persons_note
    (tmp_path / "04_FINAL_protocol_30_years.mat").unlink()
    (tmp_path / "x.mat").write_bytes(b"")
    with pytest.raises(
        VeriQuantError, match=r"expected one protocol file .* found 01_FINAL_protocol_5_years\.mat, x\.mat"
    ):
        load_benchmark(f"agedb30:{tmp_path}")


def bin_file(path: Path, draw, pairs: list[tuple[int, int, bool]], arrays: bool = False) -> Path:
    images = [draw(seed) for left, right, _ in pairs for seed in (left, right)]
    content = [np.frombuffer(image, np.uint8)[:, None] for image in images] if arrays else images
    path.write_bytes(pickle.dumps((content, [same for *_, same in pairs]), 2))
    return path


@pytest.mark.parametrize("arrays", [False, True])
def test_bin(tmp_path: Path, draw, arrays: bool) -> None:
    path = bin_file(tmp_path / "tiny.bin", draw, [(1, 2, True), (1, 5, False), (2, 3, True), (5, 6, True)], arrays)
    found = load_benchmark(f"bin:{path}")
    consistent(found)
    assert [sample.name for sample in found.samples] == [f"tiny.bin[{item}]" for item in (0, 1, 3, 5, 7)]
    assert found.samples[1].read() == draw(2)
    assert found.left.tolist() == [0, 0, 1, 2]
    assert found.right.tolist() == [1, 2, 3, 4]
    assert found.persons[[0, 1, 3]].tolist() == [found.persons[0]] * 3
    assert found.persons[[2, 4]].tolist() == [found.persons[2]] * 2
    assert found.persons[0] != found.persons[2]
    assert not found.persons_known
    assert "the file carries no names" in found.persons_note
    assert found.folds is None
    assert "too few comparisons for folds" in found.protocol
    assert found.name == "tiny"


def test_bin_folds(tmp_path: Path, draw) -> None:
    pairs = [(2 * i, 2 * i + 1, True) for i in range(10)], [(2 * i, 2 * i + 3, False) for i in range(10)]
    mixed = [pair for both in zip(*pairs, strict=True) for pair in both]
    found = load_benchmark(f"bin:{bin_file(tmp_path / 'x.bin', draw, mixed)}")
    assert found.folds is not None
    assert found.folds.tolist() == [fold for fold in range(10) for _ in range(2)]
    assert "cut in order into ten folds" in found.protocol
    found = load_benchmark(f"bin:{bin_file(tmp_path / 'y.bin', draw, pairs[0] + pairs[1])}")
    assert found.folds is not None
    assert found.folds.tolist() == [*range(10), *range(10)]
    assert "a tenth of both kinds" in found.protocol


def test_bin_contradictions_and_errors(tmp_path: Path, draw) -> None:
    path = tmp_path / "x.bin"
    found = load_benchmark(f"bin:{bin_file(path, draw, [(1, 2, True), (2, 3, True), (1, 3, False), (1, 4, False)])}")
    assert "1 impostor comparisons are of one person so inferred" in found.persons_note
    bin_file(path, draw, [(1, 2, True)])
    with pytest.raises(VeriQuantError, match=r"x\.bin: all 1 comparisons are genuine, and a benchmark needs both"):
        load_benchmark(f"bin:{path}")
    with pytest.raises(VeriQuantError, match=r"benchmark bin: .*gone\.bin does not exist"):
        load_benchmark(f"bin:{tmp_path}/gone.bin")
    with pytest.raises(VeriQuantError, match="is a folder, not a file"):
        load_benchmark(f"bin:{tmp_path}")


def test_folder_with_pairs(tmp_path: Path, draw) -> None:
    lfw(tmp_path / "mine", draw)
    found = load_benchmark(f"folder:{tmp_path}/mine")
    consistent(found)
    assert named(found) == LFW
    assert found.name == "mine"
    (tmp_path / "mine" / "pairs.txt").write_text("Ann/Ann_0001.jpg Ann\\Ann_0002 1\nAnn/Ann_0001 Bob/Bob_0001.jpg 0\n")
    found = load_benchmark(f"folder:{tmp_path}/mine")
    consistent(found)
    assert named(found) == [("Ann_0001", "Ann_0002", True, None), ("Ann_0001", "Bob_0001", False, None)]
    assert len(found.samples) == 3
    assert len(set(found.persons.tolist())) == 2


def test_folder_whose_labels_contradict_its_names(tmp_path: Path, draw) -> None:
    lfw(tmp_path, draw)
    (tmp_path / "pairs.txt").write_text(
        "Ann/Ann_0001.jpg Dee/Dee_0001.jpg 1\nAnn/Ann_0001.jpg Ann/Ann_0003.jpg 0\nCy/Cy_0001.jpg Ann/Ann_0003.jpg 0\n"
    )
    found = load_benchmark(f"folder:{tmp_path}")
    assert found.persons.tolist() == [0, 0, 0, 1]
    assert found.persons_note == (
        "persons are the folders' names; 1 genuine comparisons join differently named persons, who count as one; "
        "1 impostor comparisons are of one person by name, and are kept as the protocol has them"
    )


def test_flat_folder_with_pairs(tmp_path: Path, draw) -> None:
    for number in range(4):
        draw(number, tmp_path / f"{number}.jpg")
    (tmp_path / "pairs.txt").write_text("0.jpg 1.jpg 1\n1.jpg 2.jpg 0\n2.jpg 3.jpg 1\n")
    found = load_benchmark(f"folder:{tmp_path}")
    consistent(found)
    assert found.persons.tolist() == [0, 0, 1, 1]
    assert not found.persons_known
    assert "images joined by genuine comparisons" in found.persons_note


def test_folder_of_people_without_pairs(tmp_path: Path, draw) -> None:
    lfw(tmp_path, draw)
    (tmp_path / "pairs.txt").unlink()
    found = load_benchmark(f"folder:{tmp_path}")
    consistent(found)
    assert found.all_pairs
    assert len(found.left) == 0
    assert len(found.samples) == 8
    assert found.persons.tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert found.folds is None
    draw(1, tmp_path / "stray.jpg")
    with pytest.raises(VeriQuantError, match=r"holds 1 images outside a person's folder, such as stray\.jpg"):
        load_benchmark(f"folder:{tmp_path}")
    (tmp_path / "stray.jpg").unlink()
    for name in ("Bob", "Cy", "Dee"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(VeriQuantError, match="holds 3 images of 1 persons; expected at least two persons"):
        load_benchmark(f"folder:{tmp_path}")


def test_what_a_user_may_mistype(tmp_path: Path) -> None:
    for text, message in [
        ("lfv:x", "unknown benchmark kind 'lfv' (did you mean 'lfw'?)"),
        ("lfw", "benchmark 'lfw': expected lfw:DIR, a folder with pairs.txt"),
        ("lfw:", "benchmark 'lfw:': expected lfw:DIR, a folder with pairs.txt"),
        ("nothing", "benchmark 'nothing': expected kind:path; there are: "),
        ("nothing", "agedb30:DIR, bin:FILE, calfw:DIR, cfp-ff:DIR, cfp-fp:DIR, cplfw:DIR, "),
        ("nothing", "folder:DIR, lfw:DIR"),
        (str(tmp_path), f"expected kind:path (for a folder of images folder:{tmp_path}); there are"),
        (__file__, f"expected kind:path (for an InsightFace file bin:{__file__})"),
        (f"lfw:{tmp_path}/gone", f"benchmark lfw: {tmp_path}/gone does not exist"),
        (f"cfp-fp:{__file__}", f"benchmark cfp-fp: {__file__} is a file, not a folder"),
        (f"lfw:{tmp_path}", f"cannot read {tmp_path}/pairs.txt: No such file"),
        (f"cfp-ff:{tmp_path}", f"benchmark cfp-ff: {tmp_path}/Protocol does not exist"),
        (f"folder:{tmp_path}", "holds 0 images of 0 persons"),
        (f"agedb30:{tmp_path}", "found no .mat file"),
    ]:
        with pytest.raises(VeriQuantError) as caught:
            load_benchmark(text)
        assert message in str(caught.value)


def test_every_kind_says_what_it_needs() -> None:
    for name in BENCHMARKS:
        kind = BENCHMARKS.get(name)
        assert kind.name == name
        assert kind.summary
        assert kind.layout
        assert kind.usage.startswith(name)


def test_a_kind_may_need_no_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    kind = BenchmarkKind("none", "s", "l", lambda argument, missing: seen.append((argument, missing)), argument="")  # type: ignore[arg-type,return-value]
    monkeypatch.setitem(BENCHMARKS._members, "none", kind)
    load_benchmark("none")
    load_benchmark("none:7", allow_missing=True)
    assert seen == [("", False), ("7", True)]
    assert kind.usage == "none"


def test_fold_makers() -> None:
    mixed = np.array([True, False] * 12)
    assert contiguous_folds(mixed).tolist() == [f for f in range(4) for _ in range(3)] + [  # type: ignore[union-attr]
        f for f in range(4, 10) for _ in range(2)
    ]
    assert contiguous_folds(np.sort(mixed)) is None
    assert contiguous_folds(mixed[:9]) is None
    assert np.bincount(interleaved_folds(np.sort(mixed))).tolist() == [4, 2, 2, 2, 2, 4, 2, 2, 2, 2]  # type: ignore[arg-type]
    assert interleaved_folds(mixed[:18]) is None


@pytest.mark.real
def test_real_lfw(real: Path) -> None:
    found = load_benchmark(f"lfw:{real}/faces/lfw-112x112")
    consistent(found)
    assert (len(found.samples), len(found.left), int(found.genuine.sum())) == (7701, 6000, 3000)
    assert found.folds is not None
    assert np.bincount(found.folds).tolist() == [600] * 10
    assert np.bincount(found.folds[found.genuine]).tolist() == [300] * 10
    assert found.persons_note == "persons are the folders' names"


@pytest.mark.real
@pytest.mark.parametrize(("kind", "samples"), [("cfp-ff", 4764), ("cfp-fp", 5901)])
def test_real_cfp(real: Path, kind: str, samples: int) -> None:
    found = load_benchmark(f"{kind}:{real}/faces/cfp-112x112")
    consistent(found)
    assert (len(found.samples), len(found.left), int(found.genuine.sum())) == (samples, 7000, 3500)
    assert found.folds is not None
    assert np.bincount(found.folds[found.genuine]).tolist() == [350] * 10
    assert len(set(found.persons.tolist())) == 500
    assert found.persons_note == "persons are the numbers of CFP's folders"


@pytest.mark.real
def test_a_bin_made_of_real_lfw_is_the_same_benchmark(real: Path, tmp_path: Path) -> None:
    lfw_found = load_benchmark(f"lfw:{real}/faces/lfw-112x112")
    images = [sample.read() for sample in lfw_found.samples]
    sides = np.stack([lfw_found.left, lfw_found.right], axis=1).ravel()
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps(([images[side] for side in sides], lfw_found.genuine.tolist()), 2))
    found = load_benchmark(f"bin:{path}")
    consistent(found)
    assert len(found.samples) == len(set(images))
    assert np.array_equal(found.genuine, lfw_found.genuine)
    assert found.folds is not None
    assert np.array_equal(found.folds, lfw_found.folds)
    assert all(
        found.samples[a].content == images[b] for a, b in zip(found.left[:100], lfw_found.left[:100], strict=True)
    )
    assert Image.open(io.BytesIO(found.samples[0].read())).size == (112, 112)


@pytest.mark.real
def test_lfw_leaves_5532_images_for_calibration(real: Path) -> None:
    folder = real / "faces" / "lfw-112x112"
    taken = [sample.path for sample in load_benchmark(f"lfw:{folder}").samples if sample.path]
    found = load_calibration(folder, 500, exclude=taken)
    assert (len(found.samples), found.available, found.excluded) == (500, 5532, 7701)
    assert not set(taken) & {sample.path for sample in found.samples}
