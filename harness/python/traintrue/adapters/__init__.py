"""Trainers that follow a plan and write a trace: `python -m traintrue.adapters NAME describe|run`."""
