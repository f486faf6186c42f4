"""VeriQuant: makes biometric embedding networks small and fast, and proves that recognition survives."""

__version__ = "0.1.0"
