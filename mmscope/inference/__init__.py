"""What a program calls: trained models by name."""

from .pretrained import from_pretrained, save_pretrained

__all__ = ['from_pretrained', 'save_pretrained']
