"""Images for the loader that do more than to be read; worker processes import this file and nothing of the tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass

from veriquant.data.encoded_images import EncodedImages
from veriquant.errors import VeriQuantError


@dataclass
class Deadly:
    """One of them sends a signal to the process that reads it: as a system short of memory does, or Ctrl-C."""

    images: EncodedImages
    sent: signal.Signals

    def __len__(self) -> int:
        return len(self.images)

    def where(self, index: int) -> str:
        return self.images.where(index)

    def read(self, index: int) -> bytes:
        if index == 7:
            time.sleep(0.3)  # until the parent has nothing to do but to wait
            os.kill(os.getpid(), self.sent)
        return self.images.read(index)


@dataclass
class Telling:
    """To read one tells what the process that reads it has loaded, as an error."""

    images: EncodedImages

    def __len__(self) -> int:
        return len(self.images)

    def where(self, index: int) -> str:
        return self.images.where(index)

    def read(self, index: int) -> bytes:
        found = {"onnxruntime", "openvino", "pytest", "onnx"} & set(sys.modules)
        raise VeriQuantError(f"loaded: {sorted(found)}, in {os.getcwd()}")
