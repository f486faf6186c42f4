"""What a file that cannot be read turns out to be, told from its first bytes."""

from __future__ import annotations

from pathlib import Path


def file_fault(path: Path) -> str | None:
    """Return what is plainly wrong with a file of weights, or None where nothing meets the eye."""
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself ('git lfs pull' brings it)"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page, not the file itself: the download went wrong"
    return None
