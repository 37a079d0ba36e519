r"""Convert a released ViM checkpoint to mmscope.

    python tools/model_converters/vim_to_mmscope.py SRC DST
    python tools/model_converters/vim_to_mmscope.py SRC DST \
        --target mambascope --img-size 512

DST holds plain tensors: ``state_dict`` with the backbone under ``backbone.``
and the classifier under ``head.fc.``, and ``meta``. Every name and number of
the backbone stays as released; nothing in SRC is executed.
"""

from __future__ import annotations

import argparse
import re
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from mmscope.apis import UserError, user_errors
from mmscope.models.layers import resize_pos_embed, square_grid
from mmscope.version import __version__

# Where training scripts put the weights, best first.
WEIGHT_KEYS = ('model', 'state_dict', 'module')
EMBEDDINGS = (
    'cls_token',
    'pos_embed',
    'patch_embed.proj.weight',
    'patch_embed.proj.bias',
    'norm_f.weight',
)
BLOCK = (
    'norm.weight',
    'mixer.A_log',
    'mixer.A_b_log',
    'mixer.D',
    'mixer.D_b',
    'mixer.in_proj.weight',
    'mixer.conv1d.weight',
    'mixer.conv1d.bias',
    'mixer.conv1d_b.weight',
    'mixer.conv1d_b.bias',
    'mixer.x_proj.weight',
    'mixer.x_proj_b.weight',
    'mixer.dt_proj.weight',
    'mixer.dt_proj.bias',
    'mixer.dt_proj_b.weight',
    'mixer.dt_proj_b.bias',
    'mixer.out_proj.weight',
)
HEAD = {'head.weight': 'head.fc.weight', 'head.bias': 'head.fc.bias'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('src', help='released ViM checkpoint')
    parser.add_argument('dst', help='file to write')
    parser.add_argument(
        '--target',
        choices=['vim', 'mambascope'],
        default='vim',
        help='mambascope adds the coarse position embedding, resized from '
        'the fine one (default: vim)',
    )
    parser.add_argument(
        '--img-size',
        type=int,
        help='resize the position embedding to this image side in pixels '
        '(default: as released; models also resize on load)',
    )
    return parser.parse_args(argv)


def read_source(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read the weights of a checkpoint without executing anything in it.

    Args:
        path (Path): Released file.

    Returns:
        tuple[dict[str, Tensor], list[str]]: Weights by released name, and
        the other entries of the file (optimizer, EMA copy, ...).

    Raises:
        UserError: If the file is missing, damaged or needs unpickling.
    """
    if not path.is_file():
        raise UserError(f'checkpoint {path.absolute()} does not exist')
    # DeiT-style scripts store their options, a plain holder of values.
    allow = getattr(torch.serialization, 'safe_globals', None)
    try:
        with allow([argparse.Namespace]) if allow else nullcontext():
            content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [''])[0]
        raise UserError(
            f'{path} cannot be read as plain weights '
            f'({type(error).__name__}: {reason}). It is damaged, or holds '
            'Python objects that only unpickling, which can run code, would '
            'load. If you trust it: python -c "import torch; torch.save('
            "{'model': torch.load('SRC', weights_only=False)['model']}, "
            "'PLAIN.pth')\", then convert PLAIN.pth"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f'{path} holds a {type(content).__name__}, not a dict')
    for key in WEIGHT_KEYS:
        if isinstance(content.get(key), dict):
            others = [f'{name} (entry)' for name in content if name != key]
            return content[key], others
    return content, []


def convert(
    source: dict[str, Tensor], target: str, img_size: int | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Rename the weights and make what the target needs beyond them.

    Args:
        source (dict[str, Tensor]): Weights by released name.
        target (str): 'vim' or 'mambascope'.
        img_size (int | None): Image side in pixels to resize position
            embeddings to; None keeps the released one.

    Returns:
        tuple[dict[str, Tensor], list[str]]: Weights by mmscope name, and the
        names in ``source`` that found no use.

    Raises:
        UserError: If it is not a bidirectional ViM with one cls token in
            the middle and absolute position embeddings.
    """
    # As DistributedDataParallel saved it.
    source = {k.removeprefix('module.'): v for k, v in source.items()}
    names = _names(source)
    state = {f'backbone.{name}': _plain(source[name]) for name in names}
    fine = state['backbone.pos_embed']
    grid = square_grid(fine.shape[1])
    if grid is None:
        raise UserError(
            f'pos_embed has {fine.shape[1]} entries, expected a square grid '
            'and one cls token (197 for 224 pixels). Only ViM with the cls '
            'token in the middle is supported'
        )
    if img_size is not None:
        patch = source['patch_embed.proj.weight'].shape[-1]
        new_grid = _grid(img_size, patch, target)
        fine = resize_pos_embed(fine, grid, new_grid)
        grid = new_grid
        state['backbone.pos_embed'] = fine
    if target == 'mambascope':
        coarse = (-(-grid[0] // 2), -(-grid[1] // 2))
        state['backbone.coarse_pos_embed'] = resize_pos_embed(
            fine, grid, coarse
        )
    for name, new_name in HEAD.items():
        if name in source:
            state[new_name] = _plain(source[name])
            names.append(name)
    return state, sorted(source.keys() - set(names))


def _names(source: dict[str, Tensor]) -> list[str]:
    """Released names of all backbone weights, or the reason for refusal."""
    _refuse_variants(source)
    blocks = {
        int(match[1])
        for match in (re.match(r'layers\.(\d+)\.', key) for key in source)
        if match
    }
    names = [*EMBEDDINGS]
    for block in range(max(blocks, default=0) + 1):
        names += [f'layers.{block}.{name}' for name in BLOCK]
    missing = [name for name in names if name not in source]
    if missing:
        raise UserError(
            f'not a bidirectional ViM: {len(missing)} of {len(names)} '
            f'expected weights are missing, such as {missing[0]}; the file '
            f'has such as {", ".join(sorted(source)[:3])}'
        )
    return names


def _refuse_variants(source: dict[str, Tensor]) -> None:
    rope = [key for key in source if key.startswith('rope.')]
    if rope:
        raise UserError(
            f'the checkpoint has rotary position embeddings ({rope[0]}), as '
            "ViM's small segmentation and its detection models do. They turn "
            'every block, which mmscope does not do, so the converted model '
            "would compute something else. Use ViM's ImageNet weights"
        )
    if 'cls_token_head' in source:
        raise UserError(
            'the checkpoint has two cls tokens (cls_token_head), mmscope has '
            "one in the middle. Use ViM's midclstok weights"
        )
    if any(key.startswith('backbone.') for key in source):
        raise UserError(
            'names begin with "backbone.": this file is converted already, '
            'or the checkpoint of a host; models load it as it is'
        )


def _grid(img_size: int, patch: int, target: str) -> tuple[int, int]:
    unit = patch * (2 if target == 'mambascope' else 1)
    if img_size < unit:
        raise UserError(f'--img-size {img_size} is below {unit} pixels')
    side = -(-img_size // unit) * unit // patch
    return side, side


def _plain(value: Tensor) -> Tensor:
    return value.detach().float().clone().contiguous()


def main(argv: list[str] | None = None) -> None:
    """Convert, write and list what was not used."""
    args = parse_args(argv)
    with user_errors():
        source, entries = read_source(Path(args.src))
        state, unused = convert(source, args.target, args.img_size)
    meta = {
        'mmscope_version': __version__,
        'source': Path(args.src).name,
        'target': args.target,
        'img_size': args.img_size,
    }
    Path(args.dst).parent.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': state, 'meta': meta}, args.dst)
    total = sum(value.numel() for value in state.values())
    print(f'{len(state)} tensors, {total:,} numbers -> {args.dst}')
    unused += entries
    print(f'not used: {len(unused)}')
    for name in unused:
        print(f'  {name}')


if __name__ == '__main__':
    main()
