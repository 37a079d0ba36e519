"""Mutated data and killed trainings, for docs/results/reliability.md."""
