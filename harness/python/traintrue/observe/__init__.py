"""Observes a training script that knows nothing about it, through torch's public hooks and wrapped public functions."""
