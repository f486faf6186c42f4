"""The folder that VERIQUANT_REAL names, at toy size: drawn faces and eyes, networks that have learned nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from small_world import SIDE, lfw_folder, picture, tiny_network
from ufpr_folder import ufpr_folder

from veriquant.networks.families import FAMILIES

CFP_PEOPLE, CFP_FOLDS, FRONTAL = 8, 2, 4
PROTOCOLS = ("closed_world", "open_world")


def toy_real(folder: Path) -> Path:
    """Write networks/, faces/ and periocular/ into `folder`."""
    networks = folder / "networks"
    for seed, name in enumerate(("mobilefacenet-y1", "mobileface-v2")):
        tiny_network(networks / name / f"{name}.onnx", seed=seed)
    foamliu = networks / "mobilefacenet-foamliu" / "mobilefacenet.pt"
    foamliu.parent.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = FAMILIES.get("mobilefacenet-foamliu").build(embedding=16, size=SIDE)
        torch.save(module.state_dict(), foamliu)
    lfw_folder(folder / "faces" / "lfw-112x112")
    cfp_folder(folder / "faces" / "cfp-112x112")
    for number, protocol in enumerate(PROTOCOLS):
        for fold in (1, 2, 3):
            ufpr_folder(folder / "periocular" / "cfp-eyes", protocol, fold, images=not number and fold == 1)
    return folder


def cfp_folder(folder: Path) -> Path:
    """Write people in CFP's layout, each frontal and in profile; the people of a fold are in no other."""
    protocol = folder / "Protocol"
    protocol.mkdir(parents=True)
    for letter, view, count in (("F", "frontal", FRONTAL), ("P", "profile", 2)):
        lines = []
        for person in range(CFP_PEOPLE):
            for image in range(count):
                place = f"Data/Images/{person + 1:03}/{view}/{image + 1:02}.jpg"
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).write_bytes(picture(9000 + person, image + 10 * (letter == "P")))
                lines.append(f"{len(lines) + 1} ../{place}\n")
        (protocol / f"Pair_list_{letter}.txt").write_text("".join(lines))
    group = CFP_PEOPLE // CFP_FOLDS
    for split, count in (("FF", FRONTAL), ("FP", 2)):
        for fold in range(CFP_FOLDS):
            place = protocol / "Split" / split / f"{fold + 1:02}"
            place.mkdir(parents=True)
            people = range(fold * group, (fold + 1) * group)
            following = [*people[1:], people[0]]
            same = [f"{person * FRONTAL + 1},{person * count + 2}\n" for person in people]
            other = [f"{a * FRONTAL + 1},{b * count + 1}\n" for a, b in zip(people, following, strict=True)]
            (place / "same.txt").write_text("".join(same))
            (place / "diff.txt").write_text("".join(other))
    return folder
