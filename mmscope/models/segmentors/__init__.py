"""Hosts for mmsegmentation; importing this needs mmseg."""

from .early_exit_encoder_decoder import EarlyExitEncoderDecoder

__all__ = ['EarlyExitEncoderDecoder']
