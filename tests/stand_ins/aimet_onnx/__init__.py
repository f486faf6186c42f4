"""Stands in for aimet-onnx, which brings a PyTorch of its own, so that `speed/aimet_phase1.py` runs in the tests.

It has what that script calls, with the arguments that it gives, and quantizes nothing: one group, whose score is that
of the network as it is. That AIMET itself still has these names only a run with it can show.
"""
