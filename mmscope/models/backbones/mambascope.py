"""MambaScope: a coarse look first, refinement where it is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmscope.models.backbones.arguments import (
    check_choice,
    resolve_indices,
)
from mmscope.models.backbones.stages import (
    CoarseStage,
    FineStage,
    StageOutputs,
    put_rows,
    upsample_nearest,
)
from mmscope.models.backbones.vim import VisionMamba, crop_map, to_map
from mmscope.models.layers import (
    insert_token,
    pad_to_multiple,
    remove_token,
    resize_pos_embed,
)
from mmscope.models.scoping import (
    CLS_POSITIONS,
    SCORE_METRICS,
    TOKEN_ORDERS,
    ExitRecord,
    FineLayout,
    Gate,
    check_threshold,
    exit_mask,
    num_refined,
    split_regions,
    token_scores,
)
from mmscope.registry import MODELS

FEATURE_REUSES = ('mlp', 'linear', 'mlp_with_cls', 'none')
UNSELECTED_TOKENS = ('embedding', 'feature')


@MODELS.register_module()
class MambaScope(VisionMamba):
    """Two-stage Vision Mamba with one set of weights.

    MambaScope, arXiv:2512.00647. In training every image runs through both
    stages; in evaluation an image whose coarse prediction is confident
    enough leaves early, and the others are refined where their token
    importance is largest.

    Example::

        backbone = dict(
            type='mmscope.MambaScope',
            arch='tiny',
            exit_head=dict(type='mmscope.MultiLabelExitHead', num_classes=150),
            exit_threshold=0.8,
        )

    Args:
        refine_ratio (float): α in [0, 1], fraction of coarse regions to
            refine. Defaults to 0.8.
        exit_threshold (float | None): η; None never exits. Defaults to None.
        exit_head (dict | None): Multi-label head on the coarse cls token,
            for dense tasks. Defaults to None.
        score_metric (str): See :func:`token_scores`. Defaults to 'max_norm'.
        score_momentum (float): β in [0, 1] of Eq. 12. Defaults to 0.99.
        score_layers (Sequence[int] | None): Scored blocks; None for every
            second one from the middle on. Defaults to None.
        cls_position (str): 'middle', 'ahead' or 'behind' of the fine tokens.
            Defaults to 'middle'.
        token_order (str): Fine tokens 'first' or 'last'. Defaults to
            'first'.
        feature_reuse (str): 'mlp', 'linear', 'mlp_with_cls' or 'none'.
            Defaults to 'mlp'.
        unselected_tokens (str): What stands for a region that is not
            refined: its coarse 'embedding' or output 'feature'. Defaults to
            'embedding'.
        **vim (object): Arguments of :class:`VisionMamba`.

    Raises:
        ValueError: If an argument is outside its set or range.

    In training ``out_type='cls_token'`` returns (coarse_cls, fine_cls), so
    that heads which take the last entry train the fine stage.
    """

    stride_patches = 2

    def __init__(
        self,
        *,
        refine_ratio: float = 0.8,
        exit_threshold: float | None = None,
        exit_head: dict | None = None,
        score_metric: str = 'max_norm',
        score_momentum: float = 0.99,
        score_layers: Sequence[int] | None = None,
        cls_position: str = 'middle',
        token_order: str = 'first',
        feature_reuse: str = 'mlp',
        unselected_tokens: str = 'embedding',
        **vim: object,
    ) -> None:
        super().__init__(**vim)
        num_refined(refine_ratio, 1)
        if not 0.0 <= score_momentum < 1.0:
            raise ValueError(
                f'score_momentum must lie in [0, 1), got {score_momentum}'
            )
        self.refine_ratio = refine_ratio
        self.score_metric = check_choice(
            'score_metric', score_metric, SCORE_METRICS
        )
        self.score_momentum = score_momentum
        if score_layers is None:
            score_layers = range(self.num_layers // 2, self.num_layers, 2)
        self.score_layers = resolve_indices(score_layers, self.num_layers)
        self.cls_position = check_choice(
            'cls_position', cls_position, CLS_POSITIONS
        )
        self.token_order = check_choice(
            'token_order', token_order, TOKEN_ORDERS
        )
        self.feature_reuse = check_choice(
            'feature_reuse', feature_reuse, FEATURE_REUSES
        )
        self.unselected_tokens = check_choice(
            'unselected_tokens', unselected_tokens, UNSELECTED_TOKENS
        )
        self._add_scoping_parameters()
        self.exit_head = None
        if exit_head:
            self.exit_head = MODELS.build(
                {'in_channels': self.embed_dims, **exit_head}
            )
        self.gate = Gate(self.exit_head) if exit_head else None
        self.exit_threshold = exit_threshold
        self.selection = True
        self.stage_outputs: StageOutputs | None = None
        self.last_exit: ExitRecord | None = None
        self.exit_records: list[ExitRecord] | None = None

    def _add_scoping_parameters(self) -> None:
        dims = self.embed_dims
        self.coarse_grid = (self.grid[0] // 2, self.grid[1] // 2)
        entries = self.coarse_grid[0] * self.coarse_grid[1] + 1
        self.coarse_pos_embed = nn.Parameter(
            torch.empty(1, entries, dims),
            requires_grad=self.pos_embed.requires_grad,
        )
        nn.init.trunc_normal_(self.coarse_pos_embed, std=0.02)
        if self.feature_reuse == 'linear':
            self.reuse = nn.Linear(dims, dims)
        elif self.feature_reuse != 'none':
            self.reuse = nn.Sequential(
                nn.Linear(dims, 4 * dims), nn.GELU(), nn.Linear(4 * dims, dims)
            )
        else:
            return
        for module in self.reuse.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    @property
    def exit_threshold(self) -> float | None:
        """η; None never exits, 0 exits always, above 1 never."""
        return self._exit_threshold

    @exit_threshold.setter
    def exit_threshold(self, value: float | None) -> None:
        self._exit_threshold = check_threshold(value)

    def forward(self, imgs: Tensor) -> tuple[Tensor, ...]:
        """Look coarsely, and refine what is not clear.

        Args:
            imgs (Tensor): Normalised images, (B, C, H, W).

        Returns:
            tuple[Tensor, ...]: See ``out_type``; an image that exits gives
            its coarse result, in the same shape as a refined one.
        """
        padded, size = self.pad(imgs), imgs.shape[-2:]
        coarse = self.forward_coarse(padded)
        if self.training:
            return self._train_outputs(padded, coarse, size)
        return self.output(*self._gated(padded, coarse), size)

    def pad(self, imgs: Tensor) -> Tensor:
        """Pad images to whole regions.

        Args:
            imgs (Tensor): (B, C, H, W).

        Returns:
            Tensor: Sides are multiples of two patches.

        Raises:
            ValueError: If they are no images that fit the backbone.
        """
        self.check_images(imgs)
        return pad_to_multiple(imgs, 2 * self.patch_size)

    def output(
        self, cls: Tensor, maps: Sequence[Tensor], size: Sequence[int]
    ) -> tuple[Tensor, ...]:
        """Turn a stage's result into what ``out_type`` asks for.

        Args:
            cls (Tensor): (B, D).
            maps (Sequence[Tensor]): Levels of the padded images.
            size (Sequence[int]): (H, W) of the images before the padding.

        Returns:
            tuple[Tensor, ...]: cls, or the levels without the padding.
        """
        if self.out_type == 'cls_token':
            return (cls,)
        return self._crop(maps, size)

    def _crop(
        self, maps: Sequence[Tensor], size: Sequence[int]
    ) -> tuple[Tensor, ...]:
        return tuple(crop_map(level, size, self.patch_size) for level in maps)

    def forward_coarse(self, imgs: Tensor) -> CoarseStage:
        """Run the coarse stage (Eq. 5).

        Args:
            imgs (Tensor): Padded images; sides are multiples of two patches.

        Returns:
            CoarseStage: Its features, importance and usable maps.
        """
        half = F.interpolate(
            imgs,
            scale_factor=0.5,
            mode='bilinear',
            align_corners=False,
            antialias=False,
        )
        grid = tuple(side // self.patch_size for side in half.shape[-2:])
        middle = grid[0] * grid[1] // 2
        pos, cls_pos = remove_token(
            resize_pos_embed(self.coarse_pos_embed, self.coarse_grid, grid),
            middle,
        )
        embeddings = self.patch_embed(half) + pos
        cls = self._expand_cls(cls_pos, embeddings)
        encoded = self.encode(
            insert_token(embeddings, cls, middle),
            self._token_score(),
            self.score_layers,
            self.score_momentum,
        )
        tokens, cls = remove_token(encoded.tokens, middle)
        importance, _ = remove_token(encoded.importance, middle)
        maps = (
            upsample_nearest(remove_token(level, middle)[0], grid)
            for level in encoded.levels
        )
        maps = tuple(to_map(m, (2 * grid[0], 2 * grid[1])) for m in maps)
        return CoarseStage(grid, cls, tokens, embeddings, importance, maps)

    def _token_score(self) -> str | Callable[[Tensor], Tensor]:
        if self.score_metric == 'max_norm':
            return 'max_norm'
        # Only the ranking is used, and a ranking has no gradient.
        return lambda y: token_scores(y.detach(), self.score_metric)

    def forward_fine(self, imgs: Tensor, coarse: CoarseStage) -> FineStage:
        """Run the fine stage (Algorithms 1 and 2, Eq. 13-19).

        Args:
            imgs (Tensor): The same padded images as the coarse stage had.
            coarse (CoarseStage): Its output for them.

        Returns:
            FineStage: cls and maps.
        """
        grid = (2 * coarse.grid[0], 2 * coarse.grid[1])
        patch_pos, cls_pos = self.position(grid)
        fine = self.patch_embed(imgs) + patch_pos
        cls = self._expand_cls(cls_pos, fine)
        if self.feature_reuse != 'none':
            reused = self.reuse(coarse.tokens)
            fine = fine + upsample_nearest(reused, coarse.grid)
        if self.feature_reuse == 'mlp_with_cls':
            cls = cls + self.reuse(coarse.cls).unsqueeze(1)
        layout = self.layout(coarse)
        sequence = layout.arrange(fine, cls, self._unselected(coarse))
        encoded = self.encode(sequence)
        maps = tuple(
            to_map(layout.scatter(level), grid) for level in encoded.levels
        )
        return FineStage(encoded.tokens[:, layout.cls_index], maps, layout)

    def layout(self, coarse: CoarseStage) -> FineLayout:
        """Choose the regions to refine; all of them without selection."""
        ratio = self.refine_ratio if self.selection else 1.0
        k = num_refined(ratio, coarse.importance.shape[1])
        refined, kept = split_regions(coarse.importance, k)
        return FineLayout(
            coarse.grid, refined, kept, self.cls_position, self.token_order
        )

    def _unselected(self, coarse: CoarseStage) -> Tensor:
        if self.unselected_tokens == 'embedding':
            return coarse.embeddings
        pos = resize_pos_embed(
            self.coarse_pos_embed, self.coarse_grid, coarse.grid
        )
        pos, _ = remove_token(pos, coarse.tokens.shape[1] // 2)
        return coarse.tokens + pos

    def _expand_cls(self, cls_pos: Tensor, tokens: Tensor) -> Tensor:
        cls = self.cls_token + cls_pos
        return cls.expand(len(tokens), -1, -1).to(tokens.dtype)

    def _train_outputs(
        self, imgs: Tensor, coarse: CoarseStage, size: Sequence[int]
    ) -> tuple[Tensor, ...]:
        fine = self.forward_fine(imgs, coarse)
        coarse_maps = self._crop(coarse.maps, size)
        fine_maps = self._crop(fine.maps, size)
        self.stage_outputs = StageOutputs(
            coarse.cls, fine.cls, coarse_maps, fine_maps
        )
        if self.out_type == 'cls_token':
            return coarse.cls, fine.cls
        return fine_maps

    def _gated(
        self, imgs: Tensor, coarse: CoarseStage
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Refine the unsure images alone and put results back in order."""
        confidence, exited = self._decide(coarse.cls)
        stay = ~exited
        layout = None
        if not stay.any():
            cls, maps = coarse.cls, coarse.maps
        elif stay.all():
            fine = self.forward_fine(imgs, coarse)
            cls, maps, layout = fine.cls, fine.maps, fine.layout
        else:
            fine = self.forward_fine(imgs[stay], coarse.select(stay))
            cls = put_rows(coarse.cls, fine.cls, stay)
            maps = tuple(
                map(partial(put_rows, index=stay), coarse.maps, fine.maps)
            )
            layout = fine.layout
        self._record(coarse, confidence, exited, layout)
        return cls, maps

    def _decide(self, cls: Tensor) -> tuple[Tensor | None, Tensor]:
        """Confidence, (B,) or None, and who exits, (B,) bool."""
        threshold = self.exit_threshold
        stay = torch.zeros(len(cls), dtype=torch.bool, device=cls.device)
        if self.gate is None:
            if threshold is not None and 0.0 < threshold <= 1.0:
                raise RuntimeError(
                    f'exit_threshold is {threshold} but nothing predicts '
                    'from the coarse stage: set backbone.exit_head, or call '
                    'mmscope.models.scoping.attach_gate(model)'
                )
            return None, ~stay if threshold == 0.0 else stay
        if threshold is None:
            return None, stay
        if 0.0 < threshold <= 1.0:
            self.gate.check_trained()
        confidence = self.gate.confidence(cls)
        return confidence, exit_mask(confidence, threshold)

    def _record(
        self,
        coarse: CoarseStage,
        confidence: Tensor | None,
        exited: Tensor,
        layout: FineLayout | None,
    ) -> None:
        refined = torch.zeros_like(coarse.importance, dtype=torch.bool)
        if layout is not None:
            rows = torch.zeros(
                len(layout.refined), refined.shape[1], dtype=torch.bool
            ).to(refined.device)
            refined[~exited] = rows.scatter_(1, layout.refined, True)
        num = coarse.importance.shape[1]
        ratio = self.refine_ratio if self.selection else 1.0
        k = num_refined(ratio, num)
        self.last_exit = ExitRecord(
            grid=coarse.grid,
            confidence=confidence,
            exited=exited,
            coarse_tokens=num + 1,
            fine_tokens=4 * k + num - k + 1,
            importance=coarse.importance.unflatten(1, coarse.grid),
            refined=refined.unflatten(1, coarse.grid),
        )
        if self.exit_records is not None:
            self.exit_records.append(self.last_exit)
