"""Models on the Hugging Face Hub, where its client is installed."""

from __future__ import annotations

from pathlib import Path

from mmscope.errors import UserError


def download(name: str, files: list[str]) -> Path:
    """Fetch a model, or take it from the client's cache.

    Args:
        name (str): 'owner/name'.
        files (list[str]): What is needed of it.

    Returns:
        Path: Folder that holds the files.

    Raises:
        UserError: If the client is not installed, or does not get them.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            f'{name} is no folder here, and models of the Hub need '
            "huggingface_hub: pip install 'mmscope[hub]'"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    # The client raises its own and those of what it is built on.
    except Exception as error:
        raise UserError(
            f'{name} is no folder here, and the Hub does not give it: '
            f'{type(error).__name__}: {error}'
        ) from error
