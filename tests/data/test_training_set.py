from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from veriquant.data import load_calibration, training_set
from veriquant.data.record_io import write_records
from veriquant.data.training_set import (
    TRAINING_SETS,
    TrainingSet,
    calibration_from,
    from_calibration,
    load_training_set,
)
from veriquant.errors import VeriQuantError
from veriquant.frontends.sample import Sample

PEOPLE = 3


def folder_set(root: Path) -> str:
    for person in range(PEOPLE):
        for number in range(person + 1):
            path = root / f"p{person}" / ("deeper/down" if number else "") / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"image %d of %d" % (number, person))
    return f"folder:{root}"


def cfp_set(root: Path) -> str:
    for person in range(PEOPLE):
        for view in ("frontal", "profile"):
            path = root / "Data" / "Images" / f"{person:03}" / view / "01.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{view} {person}".encode())
    return f"cfp:{root}"


def rec_set(root: Path) -> str:
    root.mkdir(parents=True, exist_ok=True)
    write_records(root, lambda index: b"image %d" % index, [0, 1, 1, 2, 2, 2])
    return f"rec:{root}"


def ufpr_set(root: Path) -> str:
    names = [f"{person:04}S1I{shot:02}{side}.jpg" for person in (7, 3, 5) for shot in (1, 2) for side in "LR"]
    (root / "periocularCropped").mkdir(parents=True)
    for name in names:
        (root / "periocularCropped" / name).write_bytes(name.encode())
    for protocol in ("closed_world", "open_world"):
        (root / "experimentalProtocol" / protocol).mkdir(parents=True)
        for part, wanted in (("train", names[:8]), ("val", names[4:])):
            lines = [f"{name} {2 * int(name[:4]) + (name[-5] == 'L')} -1 -1\n" for name in wanted]
            (root / "experimentalProtocol" / protocol / f"{part}_fold1.txt").write_text("".join(lines))
    return f"ufpr:{root}:closed_world:1"


def celeba_set(root: Path, listed: str = "", images: str = "img_align_celeba") -> str:
    """Write the layout; without `listed` three people, one of them with one image."""
    (root / images).mkdir(parents=True)
    for number in range(1, 7):
        (root / images / f"{number:06}.jpg").write_bytes(b"image %d" % number)
    text = listed or "".join(f"{number:06}.jpg {person}\n" for number, person in enumerate((9, 10, 9, 10, 9, 2), 1))
    (root / "identity_CelebA.txt").write_text(text)
    return f"celeba:{root}"


def images_set(root: Path) -> str:
    return "images:" + folder_set(root).partition(":")[2]


MAKERS: dict[str, Callable[[Path], str]] = {
    "folder": folder_set,
    "cfp": cfp_set,
    "celeba": celeba_set,
    "rec": rec_set,
    "ufpr": ufpr_set,
    "images": images_set,
}


@pytest.mark.parametrize("kind", TRAINING_SETS)
def test_every_kind(kind: str, tmp_path: Path) -> None:
    text = MAKERS[kind](tmp_path / "set")
    found = load_training_set(text)
    assert found.source == text
    assert len(found) == len(found.labels) == len(found.images) > 0
    assert found.labels.dtype == np.int64
    assert set(found.labels.tolist()) == set(range(found.classes))
    assert found.people is None or len(found.people) == found.classes
    assert found.note.startswith(f"{len(found)} images")
    contents = [found.read(index) for index in range(len(found))]
    assert len(set(contents)) == len(found)
    assert all(str(tmp_path) in found.where(index) for index in range(len(found)))
    again: TrainingSet = pickle.loads(pickle.dumps(found))
    assert [again.read(index) for index in range(len(again))] == contents
    assert load_training_set(text).digest == found.digest


@pytest.mark.parametrize("kind", TRAINING_SETS)
def test_nothing_there(kind: str, tmp_path: Path) -> None:
    usage = TRAINING_SETS.get(kind).usage
    with pytest.raises(VeriQuantError, match=f"expected {kind}:DIR"):
        load_training_set(f"{kind}:")
    with pytest.raises(VeriQuantError, match=f"training set {kind}: .*gone does not exist"):
        load_training_set(
            usage.replace("DIR", str(tmp_path / "gone")).replace("PROTOCOL:FOLD[:train|val]", "open_world:1")
        )


def test_what_is_no_training_set(tmp_path: Path) -> None:
    with pytest.raises(
        VeriQuantError, match=r"expected kind:path; there are: celeba:DIR, cfp:DIR, folder:DIR, .*ufpr:DIR:PROTOCOL"
    ):
        load_training_set("gone")
    with pytest.raises(VeriQuantError, match=rf"for a folder of people folder:{tmp_path}\)"):
        load_training_set(str(tmp_path))
    with pytest.raises(VeriQuantError, match=r"unknown kind of training set 'foldr' \(did you mean 'folder'\?\)"):
        load_training_set(f"foldr:{tmp_path}")


def test_people_are_who_the_list_of_celeba_says(tmp_path: Path) -> None:
    found = load_training_set(celeba_set(tmp_path / "a"))
    assert found.people is not None
    assert [found.people[label] for label in found.labels] == ["9", "10", "9", "10", "9", "2"]
    assert [found.image_name(place) for place in (0, 5)] == ["000001.jpg", "000006.jpg"]
    parted = tmp_path / "b"
    text = celeba_set(parted, images="Img/img_align_celeba")
    (parted / "Anno").mkdir()
    (parted / "identity_CelebA.txt").rename(parted / "Anno" / "identity_CelebA.txt")
    assert load_training_set(text).labels.tolist() == found.labels.tolist()


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ("000001.jpg 1\n000002.jpg\n", r"identity_CelebA.txt.*line 2.*'filename identity' with a number"),
        ("000001.jpg one\n", r"line 1.*'filename identity' with a number for identity"),
        ("000001.jpg 1\n000001.jpg 2\n", r"line 2.*each image once.*000001.jpg"),
        ("000001.jpg 1\n000099.jpg 2\n", r"lists 1 images that are not in .*, such as 000099.jpg; unpack it whole"),
        ("000001.jpg 1\n000002.jpg 1\n", "holds 2 images of 1 person; to learn who is who takes at least two"),
    ],
)
def test_a_list_of_celeba_that_cannot_be(listed: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(VeriQuantError, match=told):
        load_training_set(celeba_set(tmp_path, listed))


@pytest.mark.parametrize(("gone", "told"), [("identity_CelebA.txt", "the list of who"), ("img_align_celeba", "folder")])
def test_a_folder_that_is_not_celebas(gone: str, told: str, tmp_path: Path) -> None:
    text = celeba_set(tmp_path)
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    with pytest.raises(VeriQuantError, match=rf"training set celeba: .* has not .*{told}.*; looked for {gone}"):
        load_training_set(text)


def test_people_are_the_folders(tmp_path: Path) -> None:
    found = load_training_set(folder_set(tmp_path))
    assert found.people == ("p0", "p1", "p2")
    assert found.labels.tolist() == [0, 1, 1, 2, 2, 2]
    assert found.note == "6 images of 3 people, 1 of them with a single image."
    assert not any(found.mirrored(index) for index in range(6))
    for index, label in enumerate(found.labels.tolist()):
        assert found.read(index).endswith(b"of %d" % label)


def test_people_with_odd_names_keep_their_images(tmp_path: Path) -> None:
    """Names whose order differs from that of the paths they begin."""
    for person in ("a", "a-b", "a b", "ä"):
        (tmp_path / person).mkdir()
        for number in range(2):
            (tmp_path / person / f"{number}.jpg").write_text(f"{person}")
    found = load_training_set(f"folder:{tmp_path}")
    assert found.people == ("a", "a b", "a-b", "ä")
    assert [found.people[label] for label in found.labels] == [found.read(i).decode() for i in range(8)]


def test_labels_without_people(tmp_path: Path) -> None:
    folder_set(tmp_path)
    (tmp_path / "flat.jpg").write_bytes(b"flat")
    with pytest.raises(VeriQuantError, match=r"1 images outside a person's folder, such as flat\.jpg"):
        load_training_set(f"folder:{tmp_path}")
    found = load_training_set(f"images:{tmp_path}")
    assert (len(found), found.classes, found.people, set(found.labels.tolist())) == (7, 1, None, {0})


def test_one_person_cannot_be_told_from_nobody(tmp_path: Path) -> None:
    (tmp_path / "folder" / "p0").mkdir(parents=True)
    (tmp_path / "folder" / "p0" / "0.jpg").write_bytes(b"0")
    with pytest.raises(VeriQuantError, match=r"holds 1 images of 1 person; to learn who is who takes at least two"):
        load_training_set(f"folder:{tmp_path / 'folder'}")
    write_records(tmp_path, lambda index: b"image", [0, 0])
    with pytest.raises(VeriQuantError, match=r"training set rec: .* holds 2 images of 1 person;"):
        load_training_set(f"rec:{tmp_path}")
    (tmp_path / "empty").mkdir()
    for kind in ("folder", "images"):
        with pytest.raises(VeriQuantError, match="no images in"):
            load_training_set(f"{kind}:{tmp_path / 'empty'}")


def test_people_without_images_are_told(tmp_path: Path) -> None:
    write_records(tmp_path, lambda index: b"%d" % index, [0, 2, 2], classes=5)
    found = load_training_set(f"rec:{tmp_path}")
    assert found.classes == 5
    assert found.note == "3 images of 2 people (3 more classes have none), 1 of them with a single image."


def test_both_eyes_are_one_person_and_left_ones_are_mirrored(tmp_path: Path) -> None:
    text = ufpr_set(tmp_path)
    found = load_training_set(text)
    names = [found.read(index).decode() for index in range(len(found))]
    assert found.people == ("0003", "0007")
    assert [found.people[label] for label in found.labels] == [name[:4] for name in names]
    assert [found.mirrored(index) for index in range(len(found))] == [name.endswith("L.jpg") for name in names]
    assert found.note == "8 images of 2 people. 4 images are mirrored."
    validation = load_training_set(f"{text}:val")
    assert validation.people == ("0003", "0005")
    assert validation.name.endswith("closed_world fold 1 val")
    assert load_training_set(f"{text}:train").digest == found.digest != validation.digest


def test_a_path_may_hold_colons(tmp_path: Path) -> None:
    assert len(load_training_set(ufpr_set(tmp_path / "a:b") + ":val")) == 8


@pytest.mark.parametrize("tail", ["", ":closed_world", ":closed_world:x", ":closed_world:train"])
def test_a_fold_must_be_named(tmp_path: Path, tail: str) -> None:
    ufpr_set(tmp_path)
    with pytest.raises(VeriQuantError, match=r"expected ufpr:DIR:PROTOCOL:FOLD\[:train\|val\]"):
        load_training_set(f"ufpr:{tmp_path}{tail}")


def test_ufpr_folders_that_do_not_fit(tmp_path: Path) -> None:
    text = ufpr_set(tmp_path)
    with pytest.raises(VeriQuantError, match="unknown UFPR protocol 'open'; there are: closed_world, open_world"):
        load_training_set(f"ufpr:{tmp_path}:open:1")
    with pytest.raises(VeriQuantError, match=r"cannot read .*train_fold3\.txt"):
        load_training_set(f"ufpr:{tmp_path}:closed_world:3")
    (tmp_path / "periocularCropped" / "0007S1I02R.jpg").unlink()
    with pytest.raises(VeriQuantError, match=r"train_fold1\.txt lists 1 images that are not in .*, such as 0007S1I02R"):
        load_training_set(text)


@pytest.mark.parametrize("hashed", [True, False])
def test_the_digest_tells_sets_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashed: bool) -> None:
    if not hashed:
        monkeypatch.setattr(training_set, "HASHED_IMAGES", 2)
    text = folder_set(tmp_path / "a")
    first = load_training_set(text).digest
    (tmp_path / "a").rename(tmp_path / "b")
    moved = f"folder:{tmp_path / 'b'}"
    assert load_training_set(moved).digest == first
    (tmp_path / "b" / "p2" / "0.jpg").write_bytes(b"longer than it was")
    changed = load_training_set(moved).digest
    (tmp_path / "b" / "p2" / "0.jpg").rename(tmp_path / "b" / "p1" / "9.jpg")
    assert len({first, changed, load_training_set(moved).digest}) == 3


def test_an_image_that_went_away(tmp_path: Path) -> None:
    found = load_training_set(folder_set(tmp_path))
    (tmp_path / "p0" / "0.jpg").unlink()
    with pytest.raises(VeriQuantError, match=r"cannot read image .*p0/0\.jpg"):
        found.read(0)


def test_a_calibration_set_serves_for_label_free_training(tmp_path: Path) -> None:
    folder_set(tmp_path)
    calibration = load_calibration(tmp_path, 4)
    found = from_calibration(calibration)
    assert [found.read(index) for index in range(len(found))] == [sample.read() for sample in calibration.samples]
    assert (len(found), found.classes, found.digest) == (4, 1, calibration.digest)
    assert found.note == f"{calibration.note}, without labels."


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_calibration_images_out_of_a_training_set_are_its_own(kind: str, tmp_path: Path) -> None:
    """Each image once, with its content and mirrored as it is there; back in a training set it is mirrored still."""
    learned = load_training_set(MAKERS[kind](tmp_path / kind))
    chosen = calibration_from(learned, 1000, seed=3)
    there = sorted((learned.read(i), learned.mirrored(i)) for i in range(len(learned)))
    assert sorted((sample.read(), sample.mirrored) for sample in chosen.samples) == there
    assert [s.name for s in calibration_from(learned, 2, seed=3).samples] == [s.name for s in chosen.samples[:2]]
    again = from_calibration(chosen)
    assert sorted((again.read(i), again.mirrored(i)) for i in range(len(again))) == there


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_the_choice_does_not_depend_on_where_the_data_lie(kind: str, tmp_path: Path) -> None:
    first = load_training_set(MAKERS[kind](tmp_path / kind))
    moved = Path(shutil.copytree(tmp_path / kind, tmp_path / "elsewhere" / kind))
    second = load_training_set(first.source.replace(str(tmp_path / kind), str(moved)))
    one, other = (calibration_from(each, 3, seed=1) for each in (first, second))
    assert [sample.name for sample in one.samples] == [sample.name for sample in other.samples]
    assert one.digest == other.digest


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_a_set_knows_its_images_however_they_are_spelt(kind: str, tmp_path: Path) -> None:
    learned = load_training_set(MAKERS[kind](tmp_path / kind))
    own = calibration_from(learned, 3).samples
    others = [Sample("of another container", content=own[0].read()), Sample("gone", tmp_path / "gone.jpg")]
    assert {learned.image_name(place) for place in learned.places([*own, *others])} == {sample.name for sample in own}
    assert from_calibration(calibration_from(learned, 3)).places([*own, *others]) == [0, 1, 2]
    (tmp_path / "link").symlink_to(tmp_path / kind)
    linked = [replace(s, path=s.path and tmp_path / "link" / s.path.relative_to(tmp_path / kind)) for s in own]
    assert len(learned.places(linked)) == 3
    assert learned.places(others) == []


def test_images_that_are_tested_are_no_calibration_images(tmp_path: Path) -> None:
    learned = load_training_set(ufpr_set(tmp_path / "eyes"))
    tested = {tmp_path / "eyes" / "periocularCropped" / f"0007S1I0{shot}{side}.jpg" for shot in (1, 2) for side in "LR"}
    chosen = calibration_from(learned, 1000, exclude=tested)
    assert {sample.name[:4] for sample in chosen.samples} == {"0003"}
    assert (chosen.available, chosen.excluded) == (4, 4)
