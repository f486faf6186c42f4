"""What is kept between runs is valid for the code that made it: found from imports, so that no module is forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from veriquant.code_digest import import_digest, imported_files


def package(folder: Path, **files: str) -> Path:
    """Write a package ``top`` of modules, called by path with dots for slashes."""
    top = folder / "top"
    for name, text in {"__init__": "", **files}.items():
        file = top.joinpath(*name.split("__in__")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return top


def names(found: list[Path], top: Path) -> set[str]:
    return {file.relative_to(top).as_posix() for file in found}


@pytest.mark.parametrize(
    "text",
    [
        "import top.new",
        "from top.new import thing",
        "from top import new",
        "def later():\n    from top.new import thing\n",
        "HOME = 'top.new'",
    ],
)
def test_a_new_module_is_found_however_it_is_imported(text: str, tmp_path: Path) -> None:
    top = package(tmp_path, old=text, new="thing = 1", other="")
    assert names(imported_files(("top.old",), top), top) == {"__init__.py", "old.py", "new.py"}


def test_what_is_imported_by_what_is_imported_counts(tmp_path: Path) -> None:
    top = package(tmp_path, a="import top.b", b="import top.c", c="import top.a", d="")
    assert {"a.py", "b.py", "c.py"} <= names(imported_files(("top.a",), top), top)
    assert "d.py" not in names(imported_files(("top.a",), top), top)


def test_the_sensitivity_list_hangs_on_schemes_and_not_on_the_command_line() -> None:
    found = {
        file.as_posix().partition("veriquant/")[2] for file in imported_files(("veriquant.allocation.sensitivity",))
    }
    assert any(name.endswith("schemes/kmeans.py") for name in found)
    assert not any("/cli/" in name for name in found)


def test_a_module_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"no module 'veriquant\.nothing'"):
        import_digest("veriquant.nothing")
