"""The embedded default: synthetic identities and a small shipped network."""
