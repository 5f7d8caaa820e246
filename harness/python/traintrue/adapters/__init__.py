"""Trainers that take a plan and write a trace: `python -m traintrue.adapters.plain describe|run`."""
