"""Biometric metrics: pure functions on arrays."""
