"""From a network and a recipe to a quantized ONNX file."""
