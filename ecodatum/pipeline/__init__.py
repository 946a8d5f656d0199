"""Experiments as stages and units: fingerprints, manifests, resume."""
