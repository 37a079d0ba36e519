"""Mutated data, killed trainings, stacks, for docs/results/reliability.md."""
