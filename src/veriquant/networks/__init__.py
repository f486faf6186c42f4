"""Network families, checkpoints, ONNX files."""
