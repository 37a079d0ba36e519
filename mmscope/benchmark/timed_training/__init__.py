"""Trainings that fit into the minutes at hand; see :mod:`session`."""
