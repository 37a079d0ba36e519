r"""Convert a released checkpoint of ViM, its kin or DeiT to mmscope.

    python tools/model_converters/vim_to_mmscope.py SRC DST
    python tools/model_converters/vim_to_mmscope.py SRC DST \
        --target mambascope --img-size 512
    python tools/model_converters/vim_to_mmscope.py SRC DST \
        --source videomamba
    python tools/model_converters/vim_to_mmscope.py SRC DST --source dyvm
    python tools/model_converters/vim_to_mmscope.py SRC DST --source vim_seg
    python tools/model_converters/vim_to_mmscope.py SRC DST --patch-stride 8

DST holds plain tensors: ``state_dict`` with the backbone under ``backbone.``
and the classifier under ``head.fc.``, and ``meta``. Every name and number of
the backbone stays as released (names of a DeiT become mmpretrain's), and one
entry says what the weights are, so that another model refuses them; nothing
in SRC is executed. Ratios and stages of a DyVM are settings, which the config
says; of models for segmentation and detection the backbone is converted, not
the heads. docs/families.md lists what there is.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from mmscope.cli.arguments import tool_parser
from mmscope.errors import UserError, user_errors
from mmscope.models import TokenBackbone, TokenViT
from mmscope.models.backbones.released import (
    released_arch,
    released_grid,
    released_names,
)
from mmscope.models.backbones.weights_file import write_plain
from mmscope.models.backbones.weights_info import KEY, WeightsInfo
from mmscope.models.layers import resize_pos_embed
from mmscope.runtime.released import ROPE, SOURCES, Source, for_vitdet
from mmscope.version import __version__

# Where training scripts put the weights, best first.
WEIGHT_KEYS = ('model', 'state_dict', 'module')
HEAD = {'head.weight': 'head.fc.weight', 'head.bias': 'head.fc.bias'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument('src', help='released checkpoint')
    parser.add_argument('dst', help='file to write')
    parser.add_argument(
        '--source',
        choices=SOURCES,
        default='vim',
        help='whose it is: some have the same names and shapes (default: vim)',
    )
    parser.add_argument(
        '--target',
        choices=['vim', 'mambascope', 'vitdet'],
        default='vim',
        help='vim is the plain backbone of the source; mambascope the scope '
        'on it, and adds the coarse position embedding, resized from the '
        "fine one; vitdet, of --source vit, mmpretrain's ViTSAM (default: "
        'vim)',
    )
    parser.add_argument(
        '--img-size',
        type=int,
        help='resize the position embedding to this image side in pixels '
        '(default: as released; models also resize on load)',
    )
    parser.add_argument(
        '--patch-stride',
        type=int,
        help="pixels between patches; 8 for ViM's fine-grained models "
        '(default: the patch size)',
    )
    return parser.parse_args(argv)


def read_source(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read the weights of a checkpoint without executing anything in it.

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
    source: dict[str, Tensor],
    target: str,
    img_size: int | None,
    kind: str = 'vim',
    patch_stride: int | None = None,
) -> tuple[dict[str, Tensor], list[str]]:
    """Rename the weights, and make what the target needs beyond them.

    Args:
        source (dict[str, Tensor]): Weights by released name.
        target (str): 'vim', 'mambascope' or 'vitdet'.
        img_size (int | None): Image side in pixels to resize position
            embeddings to; None keeps the released one.
        kind (str): Whose weights they are. Defaults to 'vim'.
        patch_stride (int | None): Pixels between patches; None for the
            patch size. Defaults to None.

    Returns:
        tuple[dict[str, Tensor], list[str]]: Weights by mmscope name, and the
        names in ``source`` that found no use.

    Raises:
        ValueError: If it is not what ``kind`` says, or positions are not of
            that size and stride.
    """
    origin = SOURCES[kind]
    source, others = origin.read(source)
    outside = origin.names(source)
    names = released_names(source, outside, origin.block, origin.is_dyvm)
    state = {f'backbone.{name}': _plain(source[name]) for name in names}
    told = source.pop(KEY, None)
    told = None if told is None else WeightsInfo.unpack(told)
    model, grid = build(source, origin, target, img_size, patch_stride, told)
    fine = state['backbone.pos_embed']
    for name, table in model.position_tables().items():
        state[f'backbone.{name}'] = resize_pos_embed(
            fine, grid, table.grid, table.summary
        )
    _refuse_other_shapes(state, model)
    if target == 'vitdet':
        state = for_vitdet(state, model.grid)
    state[f'backbone.{KEY}'] = model.get_extra_state()
    for name, new_name in HEAD.items():
        if name in source and target != 'vitdet':
            state[new_name] = _plain(source[name])
            names.append(name)
    unused = source.keys() - set(names) - set(ROPE)
    return state, sorted(unused | set(others))


def build(
    source: dict[str, Tensor],
    origin: Source,
    target: str,
    img_size: int | None,
    patch_stride: int | None,
    told: WeightsInfo | None,
) -> tuple[TokenBackbone, tuple[int, int]]:
    """Build the backbone that the weights are for, without memory.

    Returns:
        tuple[TokenBackbone, tuple[int, int]]: The backbone, and the grid that
        the position table of the source has.

    Raises:
        ValueError: If size, stride and table do not fit.
    """
    _, channels, patch, _ = source['patch_embed.proj.weight'].shape
    stride = patch_stride or patch
    entries = source['pos_embed'].shape[1]
    table = None if told is None else told.tables.get('pos_embed')
    if table is not None and table.num_entries == entries:
        grid, size = table.grid, img_size or told.img_size
    else:
        grid = released_grid(entries, origin.summary, patch, stride, img_size)
        size = img_size or (grid[0] - 1) * stride + patch
    unit = patch * (2 if target == 'mambascope' else 1)
    if img_size is not None and img_size < unit:
        raise UserError(f'--img-size {img_size} is below {unit} pixels')
    if target == 'vitdet' and origin.plain is not TokenViT:
        raise UserError('--target vitdet is for --source vit')
    kind = origin.scope if target == 'mambascope' else origin.plain
    if kind is None:
        raise UserError(
            '--target mambascope: a scope takes ImageNet weights of a plain '
            'family (a DyVM prunes tokens, and models of dense tasks have no '
            'cls token); convert it with --target vim'
        )
    with torch.device('meta'):
        model = kind(
            arch=released_arch(source),
            img_size=size,
            patch_size=patch,
            patch_stride=stride,
            in_channels=channels,
            **origin.options(source),
        )
    if told is not None:
        _refuse_other(told, model)
    return model, grid


def _refuse_other(told: WeightsInfo, model: TokenBackbone) -> None:
    if differences := told.differences(model.describe()):
        raise UserError(
            f'the file says that it is of a {told.family}, and the target '
            f'is a {model.family} (file against target: '
            f'{"; ".join(differences)}): see --source and --patch-stride'
        )


def _refuse_other_shapes(
    state: dict[str, Tensor], model: TokenBackbone
) -> None:
    own = model.state_dict(prefix='backbone.')
    odd = [
        f'{name} {tuple(value.shape)}, expected {tuple(own[name].shape)}'
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    if odd:
        raise UserError(
            f'the shapes of {len(odd)} weights do not fit together '
            f'({odd[0]}): the file is damaged or of another model'
        )


def _plain(value: Tensor) -> Tensor:
    return value.detach().float().clone().contiguous()


def write(path: Path, content: dict) -> None:
    """Save into a folder that is made, or raise a UserError."""
    try:
        write_plain(path, content)
    except OSError as error:
        raise UserError(
            f'{path} cannot be written: {error.strerror}: name another file'
        ) from error


def main(argv: list[str] | None = None) -> None:
    """Convert, write and list what was not used."""
    args = parse_args(argv)
    with user_errors():
        if args.source == 'vim' and 'videomamba' in Path(args.src).name:
            raise UserError(
                f'{args.src} is of VideoMamba by its name, whose weights ViM '
                'would take and compute something else: --source videomamba'
            )
        source, entries = read_source(Path(args.src))
        if Path(args.dst).exists() and Path(args.dst).samefile(args.src):
            raise UserError(f'{args.dst} is SRC itself: name another file')
        state, unused = convert(
            source, args.target, args.img_size, args.source, args.patch_stride
        )
    info = WeightsInfo.unpack(state[f'backbone.{KEY}'])
    if args.target == 'vitdet':
        # Another package's model does not ask what its weights are.
        del state[f'backbone.{KEY}']
    meta = {
        'mmscope_version': __version__,
        'source': Path(args.src).name,
        'family': info.family,
        'target': args.target,
        'img_size': args.img_size,
        'patch_stride': info.patch_stride,
    }
    with user_errors():
        write(Path(args.dst), {'state_dict': state, 'meta': meta})
    numbers = [v.numel() for k, v in state.items() if not k.endswith(KEY)]
    print(f'{len(numbers)} tensors, {sum(numbers):,} numbers -> {args.dst}')
    rows, columns = info.tables['pos_embed'].grid
    print(
        f'{info.family}, {rows} x {columns} cells of {info.img_size[0]} '
        f'pixels at stride {info.patch_stride}'
    )
    unused += entries
    print(f'not used: {len(unused)}')
    for name in unused:
        print(f'  {name}')
