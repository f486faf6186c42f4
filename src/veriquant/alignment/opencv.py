"""OpenCV, an optional extra: imported where it is needed, quiet, one thread a call."""

from __future__ import annotations

from functools import cache
from typing import Any

from veriquant.errors import VeriQuantError


@cache
def opencv() -> Any:
    """Return the module ``cv2``; `VeriQuantError` says how to install it."""
    try:
        import cv2
    except ImportError as error:
        raise VeriQuantError("aligning faces needs OpenCV: pip install 'veriquant[align]'") from error
    if not hasattr(cv2, "FaceDetectorYN"):
        raise VeriQuantError(f"OpenCV {cv2.__version__} has no FaceDetectorYN: pip install 'veriquant[align]'")
    cv2.setNumThreads(1)  # images are worked on side by side
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    return cv2
