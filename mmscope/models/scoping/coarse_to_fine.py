"""Coarse-to-fine scoping on any backbone of plain tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mmscope.models.backbones.embedding import to_map
from mmscope.models.layers import PositionTable, TokenSequence
from mmscope.models.scoping.detail import DETAIL, lost_detail
from mmscope.models.scoping.family import check_family
from mmscope.models.scoping.importance import (
    MOMENTUM,
    Importance,
    tell_idle,
)
from mmscope.models.scoping.region_selection import RegionSelection
from mmscope.models.scoping.reuse import make_reuse
from mmscope.models.scoping.stages import (
    CoarseStage,
    FineStage,
    StageOutputs,
    halved,
    refine_in_groups,
    upsample_nearest,
)
from mmscope.models.scoping.two_stage import TwoStage

COARSE_POSITIONS = 'coarse_pos_embed'


class CoarseToFine(RegionSelection, TwoStage):
    """Look at few large patches, then refine where it matters.

    MambaScope, arXiv:2512.00647; the frame is CF-ViT's (arXiv:2203.03821). A
    mixin that stands before a :class:`TokenBackbone` family, whose weights
    both stages share. In training every image runs through both; in
    evaluation an image whose coarse prediction is confident enough leaves
    early, and the others are refined where their token importance is
    largest.

    Args:
        refine_ratio (float | None): α in [0, 1], fraction of coarse regions
            to refine; None for 0.8, or where ``refine_coverage`` decides.
            Defaults to None.
        refine_coverage (float | None): Refine, image by image, as many
            regions as hold this share of what halving loses (see
            :func:`count_covering`); for 'detail' alone, and in place of
            ``refine_ratio``. Defaults to None.
        exit_threshold (float | None): η; None never exits. Defaults to None.
        exit_head (dict | None): Multi-label head on the coarse cls token,
            and on the coarse patch tokens where it has a map, for dense
            tasks. Defaults to None.
        score_metric (str | None): One of the family's ``score_metrics``, for
            Mamba those of :func:`token_scores`; or 'detail', what halving
            the image loses (:func:`lost_detail`), for which the coarse stage
            scores nothing; or 'detail_and_max_norm', the sum of both ranks.
            None for the family's first, the paper's. Defaults to None.
        score_momentum (float): β in [0, 1) of Eq. 12. Defaults to 0.99.
        score_layers (Sequence[int] | None): Scored blocks; None for every
            second one of the upper half. Defaults to None.
        cls_position (str | None): 'middle', 'ahead' or 'behind' the fine
            tokens; None for the family's own places. Defaults to None.
        token_order (str): 'first' puts the refined tokens before the kept
            coarse ones, 'last' behind; 'woven' puts each kept token where
            its region's first fine token would stand, and summary tokens
            among all of them. Defaults to 'first'.
        feature_reuse (str): How coarse features enter the fine stage: 'mlp',
            'linear', 'mlp_with_cls' or 'none'. Defaults to 'mlp'.
        unselected_tokens (str): What stands for a region that is not
            refined: its coarse 'embedding', or its output plus the coarse
            position, 'feature'. Defaults to 'embedding'.
        **family (Any): Of the family.

    Raises:
        ValueError: If an argument is outside its set or range.

    In training the result for 'cls_token' is (coarse cls, fine cls), so that
    heads which take the last entry train the fine stage.
    """

    grid_multiple = 2
    # The fine stage reads the coarse tokens after all blocks.
    reads_last_block = True
    pos_embed: nn.Parameter
    coarse_pos_embed: nn.Parameter
    reuse: nn.Module

    def __init__(
        self,
        *,
        refine_ratio: float | None = None,
        refine_coverage: float | None = None,
        exit_threshold: float | None = None,
        exit_head: dict[str, Any] | None = None,
        score_metric: str | None = None,
        score_momentum: float = MOMENTUM,
        score_layers: Sequence[int] | None = None,
        cls_position: str | None = None,
        token_order: str = 'first',
        feature_reuse: str = 'mlp',
        unselected_tokens: str = 'embedding',
        **family: Any,
    ) -> None:
        super().__init__(**family)
        self._set_selection(score_metric, refine_ratio, refine_coverage)
        tell_idle(self.score_metric, score_layers, score_momentum)
        self.score_momentum = score_momentum
        self.score_layers = score_layers
        self.token_order = token_order
        self.feature_reuse = feature_reuse
        self.unselected_tokens = unselected_tokens
        self.cls_position = cls_position
        check_family(self)
        self._add_scoping_parameters()
        self._add_exit(exit_head, exit_threshold)

    def _add_scoping_parameters(self) -> None:
        dims = self.embed_dims
        self.coarse_grid = (self.grid[0] // 2, self.grid[1] // 2)
        own = self.position_tables()['pos_embed'].summary
        self.add_table(COARSE_POSITIONS, PositionTable(self.coarse_grid, own))
        self.coarse_pos_embed.requires_grad_(self.pos_embed.requires_grad)
        nn.init.trunc_normal_(self.coarse_pos_embed, std=0.02)
        reuse = make_reuse(self.feature_reuse, dims)
        if reuse is not None:
            self.reuse = reuse

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

    def forward_coarse(self, imgs: Tensor) -> CoarseStage:
        """Run the coarse stage (Eq. 5).

        Args:
            imgs (Tensor): Padded images; sides are multiples of two patches.

        Returns:
            CoarseStage: Its features, importance and usable maps.
        """
        half = halved(imgs)
        embeddings, summary = self.embed(half, COARSE_POSITIONS)
        rows, columns = (side // self.patch_size for side in half.shape[-2:])
        grid = rows, columns
        importance = Importance(
            self.score_metric, self.score_layers, self.score_momentum
        )
        encoded = self.encode(
            TokenSequence.plain(
                embeddings, summary, self.summary_tokens, grid
            ),
            importance,
        )
        sequence = encoded.sequence
        maps = (upsample_nearest(level, grid) for level in encoded.levels)
        return CoarseStage(
            grid,
            self.read_out(sequence.summary(encoded.tokens)),
            sequence.patches(encoded.tokens),
            embeddings,
            importance.of_regions(sequence, self.detail(imgs, half)),
            tuple(to_map(m, (2 * rows, 2 * columns)) for m in maps),
            encoded.record,
        )

    def detail(self, imgs: Tensor, half: Tensor) -> Tensor | None:
        """Ask the image what halving loses, if the metric wants to know.

        Args:
            imgs (Tensor): Padded images, (B, C, H, W).
            half (Tensor): The coarse stage's, (B, C, H / 2, W / 2).

        Returns:
            Tensor | None: :func:`lost_detail`, (B, n).
        """
        if self.score_metric.startswith(DETAIL):
            return lost_detail(imgs, half, self.patch_size)
        return None

    def detail_macs(self, regions: int) -> int:
        """Count the multiply-accumulates of :meth:`detail`."""
        if not self.score_metric.startswith(DETAIL):
            return 0
        return regions * self.in_channels * (2 * self.patch_size) ** 2

    def forward_fine(self, imgs: Tensor, coarse: CoarseStage) -> FineStage:
        """Run the fine stage (Algorithms 1 and 2, Eq. 13-19).

        Args:
            imgs (Tensor): The same padded images as the coarse stage had.
            coarse (CoarseStage): Its output for them.

        Returns:
            FineStage: cls and maps, in the order of the images.
        """
        if not self.by_coverage:
            regions = coarse.importance.shape[1]
            return self._refine(imgs, coarse, self.regions_to_refine(regions))
        counts = self.count_regions(coarse.importance)
        return refine_in_groups(self._refine, imgs, coarse, counts)

    def _refine(self, imgs: Tensor, coarse: CoarseStage, k: int) -> FineStage:
        fine, summary = self.embed(imgs)
        if self.feature_reuse != 'none':
            reused = self.reuse(coarse.tokens)
            fine = fine + upsample_nearest(reused, coarse.grid)
        if self.feature_reuse == 'mlp_with_cls':
            summary = summary + self.reuse(coarse.cls).unsqueeze(1)
        layout = self.layout(coarse, k)
        encoded = self.encode(
            layout.arrange(fine, summary, self._unselected(coarse))
        )
        sequence = encoded.sequence
        maps = tuple(to_map(m, sequence.grid) for m in encoded.levels)
        cls = self.read_out(sequence.summary(encoded.tokens))
        return FineStage(cls, maps, layout.refined_mask, encoded.record)

    def _unselected(self, coarse: CoarseStage) -> Tensor:
        if self.unselected_tokens == 'embedding':
            return coarse.embeddings
        positions, _ = self.position(coarse.grid, COARSE_POSITIONS)
        return coarse.tokens + positions

    def _train_outputs(
        self, imgs: Tensor, coarse: CoarseStage, size: Sequence[int]
    ) -> tuple[Tensor, ...]:
        fine = self.forward_fine(imgs, coarse)
        outputs = StageOutputs(
            lengths=coarse.ran.lengths,
            directions=coarse.ran.directions,
            fine_lengths=fine.record.lengths,
            coarse_cls=coarse.cls,
            fine_cls=fine.cls,
            coarse_maps=self.crop(coarse.maps, size),
            fine_maps=self.crop(fine.maps, size),
            coarse_features=coarse.tokens,
            grid=coarse.grid,
        )
        self.deliver(outputs)
        if self.out_type == 'cls_token':
            return coarse.cls, fine.cls
        return outputs.fine_maps
