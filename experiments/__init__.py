"""Entry points: one file per question, each run as `python -m experiments.NAME`."""

from experiments.harness import interrupts

interrupts.end_at_once()  # Python imports this package before anything else of a program
