"""A hash of the code that a module runs: its own source and that of all it imports, found from the import graph.

What is kept between runs is valid only for the code that made it. A list of rooms kept by hand would miss a new module;
the imports in the source do not. A string that names a module of the package counts as an import of it, so that what is
imported lazily by name is seen too.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def import_digest(*modules: str) -> str:
    """Return the SHA-256, in hex, of the sources of modules of this package and of all that they import.

    `modules`: full names such as ``veriquant.allocation.sensitivity``; a package stands for all modules in it.
    """
    total = hashlib.sha256(version("veriquant").encode())
    for file in imported_files(modules):
        total.update(file.relative_to(_PACKAGE).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def imported_files(modules: tuple[str, ...], package: Path = _PACKAGE) -> list[Path]:
    """Return the source files of `modules` and of all that they import within `package`, sorted.

    `package`: the folder of the top package, by whose name modules are called.
    """
    found: set[Path] = set()
    waiting = [file for module in modules for file in _whole(module, package)]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        if file == package / "__init__.py":
            continue  # the public face names everything and imports nothing until it is asked for
        for name in _names(file, package):
            waiting.extend(_of(name, package))
    return sorted(found)


def _whole(module: str, package: Path) -> Iterator[Path]:
    place = package.parent.joinpath(*module.split("."))
    if place.is_dir():
        yield from place.rglob("*.py")
    elif place.with_suffix(".py").is_file():
        yield place.with_suffix(".py")
    else:
        raise ValueError(f"no module {module!r} in {package}")


def _of(name: str, package: Path) -> Iterator[Path]:
    """Yield the file of a module, and the ``__init__`` files that run before it."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        place = package.parent.joinpath(*parts[:depth])
        if place.is_dir():
            if (place / "__init__.py").is_file():
                yield place / "__init__.py"
        elif place.with_suffix(".py").is_file():
            yield place.with_suffix(".py")


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_bytes(), str(file))


def _names(file: Path, package: Path) -> Iterator[str]:
    """Yield what a file imports of the package by absolute name, and each of its texts that is such a name."""
    top = f"{package.name}."
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(top))
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module is not None:
            if node.module == package.name or node.module.startswith(top):
                # what is imported may be a name in the module or a module in the package
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_name(node.value, top):
            yield node.value


def _is_name(text: str, top: str) -> bool:
    return text.startswith(top) and all(part.isidentifier() for part in text.split("."))
