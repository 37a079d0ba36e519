"""Refuse, by name, weights that are not those of the model that loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mmscope.models.backbones.weights_info import KEY, WeightsInfo

if TYPE_CHECKING:
    from mmscope.models.backbones.token_backbone import TokenBackbone

State = dict[str, Tensor]


def refuse_other_mathematics(info: WeightsInfo, own: WeightsInfo) -> None:
    """Refuse weights that would compute something else in this model."""
    if info.summary != own.summary and not info.summary.count:
        raise ValueError(
            f'the weights are of a {info.family} without summary tokens, '
            f'this {own.family} has {own.summary.count} '
            f"({own.summary.position}): set summary_position='none'"
        )
    if found := info.differences(own):
        raise ValueError(
            f'the weights are of a {info.family}, and this {own.family} '
            f'would compute something else with them (checkpoint against '
            f'model: {"; ".join(found)}). Build the model that they were '
            'trained in'
        )


def refuse_foreign(
    backbone: TokenBackbone, state_dict: State, prefix: str
) -> None:
    """Refuse entries of which none is this backbone's, strict or not.

    torch and MMEngine tell a module ``strict=True`` either way, and MMEngine,
    which loads everything leniently, would keep random weights.
    """
    name = type(backbone).__name__
    if not any(key.startswith(prefix) for key in state_dict):
        start = f" that begins with '{prefix}'" if prefix else ''
        raise ValueError(
            f'the checkpoint holds no entry{start} for this {name} (expected '
            f'such as {prefix}layers.0.mixer.in_proj.weight). Of a backbone '
            'alone or of a wrapper: give its entries that name; of another '
            'part of a model: load it into that part'
        )
    rope = [k for k in state_dict if k.startswith(f'{prefix}rope.')]
    if rope and not backbone.rope:
        raise ValueError(
            f'the checkpoint uses rotary position embeddings ({rope[0]}), as '
            "ViM's small segmentation and its detection models do; "
            f'{name} has absolute ones alone and would compute something '
            "else: build VisionMamba(rope=True, summary_position='none')"
        )
    for key in rope:
        # Tables of angles, which are computed here.
        del state_dict[key]
    own = backbone.state_dict(prefix=prefix)
    del own[prefix + KEY]
    if not any(key in state_dict for key in own):
        some = ', '.join(list(state_dict)[:3])
        raise ValueError(
            f'the checkpoint is of another model: no entry is one of {name} '
            f'(expected such as {prefix}layers.0.mixer.in_proj.weight, got '
            f'such as {some}). Convert a released ViM with '
            '`mmscope convert`'
        )


def refuse_other_patches(
    backbone: TokenBackbone, state_dict: State, prefix: str
) -> None:
    """Name the settings that the patch embedding's shape shows."""
    key = f'{prefix}patch_embed.proj.weight'
    weight = state_dict.get(key)
    if weight is None or weight.ndim != 4:
        return
    own = {
        'in_channels': backbone.in_channels,
        'patch_size': backbone.patch_size,
    }
    found = dict(zip(own, weight.shape[1:3], strict=True))
    odd = [name for name in own if found[name] != own[name]]
    if odd:
        pairs = (f'{n} {found[n]}, expected {own[n]}' for n in odd)
        raise ValueError(
            f'{key} of the checkpoint, {tuple(weight.shape)}, has '
            f'{"; ".join(pairs)}: set backbone.'
            + ' and backbone.'.join(f'{n}={found[n]}' for n in odd)
        )


def refuse_other_sizes(
    backbone: TokenBackbone,
    state_dict: State,
    prefix: str,
    info: WeightsInfo | None,
) -> None:
    """Refuse weights of another width or depth."""
    # MMEngine only warns on other shapes and leaves those weights random.
    own = backbone.state_dict(prefix=prefix)
    differing = [
        f'{key}: {tuple(state_dict[key].shape)}, '
        f'expected {tuple(own[key].shape)}'
        for key in own
        if key in state_dict
        and key != prefix + KEY
        and not key.startswith(f'{prefix}exit_head')
        and state_dict[key].shape != own[key].shape
    ]
    layers = f'{prefix}layers.'
    found = {
        int(k[len(layers) :].split('.')[0])
        for k in state_dict
        if k.startswith(layers)
    }
    if found and len(found) != backbone.num_layers:
        differing.append(
            f'{len(found)} blocks, expected {backbone.num_layers}'
        )
    if info is not None and not differing:
        differing = info.other_sizes(backbone.describe())
    if differing:
        raise ValueError(
            f'the checkpoint is of another arch than this '
            f'{type(backbone).__name__} (embed_dims {backbone.embed_dims}, '
            f'{backbone.num_layers} layers): {"; ".join(differing[:3])}. Set '
            'backbone.arch to the one of the checkpoint'
        )
