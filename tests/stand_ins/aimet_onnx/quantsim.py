from __future__ import annotations

from typing import Any

import onnx
import onnxruntime as ort


class QuantizationSimModel:
    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        param_type: str,
        activation_type: str,
        quant_scheme: str,
        session_options_kwargs: dict[str, Any],
    ) -> None:
        options = ort.SessionOptions()
        for name, value in session_options_kwargs.items():
            setattr(options, name, value)
        self.session = ort.InferenceSession(model.SerializeToString(), options)
