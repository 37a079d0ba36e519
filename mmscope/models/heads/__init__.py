"""Heads that need no host framework."""

from .multi_label_exit_head import MultiLabelExitHead

__all__ = ['MultiLabelExitHead']
