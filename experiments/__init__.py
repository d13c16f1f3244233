"""Entry points: one file per question, each run as `python -m experiments.NAME`."""
