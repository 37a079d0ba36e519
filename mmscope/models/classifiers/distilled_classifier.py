"""mmpretrain's ImageClassifier, taught by the model that it shortens."""

from __future__ import annotations

from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import torch
from mmpretrain.models.classifiers import ImageClassifier
from torch import Tensor, nn

from mmscope.models.backbones import TokenBackbone
from mmscope.models.backbones.weights_file import read_plain, strip_wrappers
from mmscope.models.layers import Record, observe
from mmscope.models.losses import (
    TrainsReduction,
    coarse_fine_kl,
    kept_token_error,
    only_record,
)
from mmscope.models.reduction import DyVM, DyVMRecord
from mmscope.models.reduction.settings import weight
from mmscope.models.scoping import is_two_stage
from mmscope.models.scoping.head_meaning import meaning_of
from mmscope.registry import MODELS


@MODELS.register_module()
class DistilledClassifier(TrainsReduction, ImageClassifier):
    """Classifier that learns from labels and from a frozen teacher.

    L = CE + w_d * KL(teacher || student) + w_t * MSE over the patches that
    are kept + the losses of the backbone's token reduction; DyVM
    (arXiv:2504.04787) trains with all of them, R-MeeTo and HiddenAlign
    without the third (``token_weight=0``). It needs no hook.

    The teacher is no part of the model: not of its state dict, parameters,
    averages or optimiser. It is built and loaded in ``init_weights``, before
    a training, or at the first step without; evaluation has none. It stays
    in evaluation mode and follows the model to its device.

    Example::

        model = dict(
            type='mmscope.DistilledClassifier',
            teacher=dict(
                type='ImageClassifier',
                backbone=dict(type='mmscope.VisionMamba', arch='small'),
                head=dict(
                    type='LinearClsHead', num_classes=1000, in_channels=384
                ),
            ),
            teacher_checkpoint='checkpoints/vim_s_in1k.pth',
            backbone=dict(
                type='mmscope.VisionMamba',
                arch='small',
                reduction=dict(type='mmscope.DyVM'),
            ),
            head=dict(
                type='LinearClsHead', num_classes=1000, in_channels=384
            ),
        )

    Args:
        *args (Any): Of mmpretrain's ImageClassifier.
        teacher (dict): Config of a classifier of mmpretrain. For
            ``token_weight`` its backbone is a plain one of mmscope with the
            student's channels and patches.
        teacher_checkpoint (str | None): Its weights; None for what its own
            ``init_cfg`` says.
        distill_weight (float): w_d >= 0. Defaults to 0.5.
        token_weight (float): w_t >= 0. Defaults to 0.5.
        ratio_weight (float | None): Set as the ``ratio_weight`` of the
            backbone's DyVM; None leaves what the reduction says, by default
            10. Defaults to None.
        **kwargs (Any): Of mmpretrain's ImageClassifier.

    Raises:
        ValueError: If a weight is negative, or asks for what the reduction,
            a head or the teacher does not have; of the teacher when that is
            built.
    """

    def __init__(
        self,
        *args: Any,
        teacher: dict[str, Any],
        teacher_checkpoint: str | None,
        distill_weight: float = 0.5,
        token_weight: float = 0.5,
        ratio_weight: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.teacher_config = teacher
        self.teacher_checkpoint = teacher_checkpoint
        self.distill_weight = weight('distill_weight', distill_weight)
        self.token_weight = weight('token_weight', token_weight)
        # In a tuple no module is registered.
        self._teacher: tuple[nn.Module, ...] = ()
        self._check_meaning('this model', self)
        reduction = getattr(self.backbone, 'reduction', None)
        if isinstance(reduction, DyVM):
            if ratio_weight is not None:
                reduction.ratio_weight = ratio_weight
        elif token_weight or ratio_weight:
            raise ValueError(
                'token_weight and ratio_weight are for a backbone with '
                "reduction=dict(type='mmscope.DyVM'), this one has "
                f'{type(reduction).__name__}: set token_weight=0 and leave '
                'ratio_weight out'
            )

    @property
    def teacher(self) -> nn.Module:
        """The frozen teacher; built and loaded where it is missing."""
        if not self._teacher:
            self._teacher = (self._make_teacher(),)
        return self._teacher[0]

    def _make_teacher(self) -> nn.Module:
        # It may be built in another scope than the student was.
        scope = {'_scope_': 'mmpretrain'}
        teacher = MODELS.build({**scope, **self.teacher_config})
        self._check_meaning('the teacher', teacher)
        if self.token_weight:
            self._check_tokens(teacher)
        teacher.init_weights()
        if self.teacher_checkpoint is not None:
            _load(teacher, self.teacher_checkpoint)
        like = next(self.parameters())
        return teacher.requires_grad_(False).eval().to(like.device)

    def _check_meaning(self, who: str, model: nn.Module) -> None:
        """Refuse a head whose outputs are no distribution over classes."""
        head: Any = getattr(model, 'head', None)
        if self.distill_weight and meaning_of(head) != 'softmax':
            raise ValueError(
                'distill_weight brings distributions over classes together, '
                f'and the {type(head).__name__} of {who} predicts several '
                'classes of an image: set distill_weight=0, or use '
                'single-label heads'
            )

    def _check_tokens(self, teacher: nn.Module) -> None:
        other, own = getattr(teacher, 'backbone', None), self.backbone
        if (
            not isinstance(other, TokenBackbone)
            or is_two_stage(other)
            or other.reduction is not None
        ):
            raise ValueError(
                'token_weight compares patches with those of a plain backbone '
                'of mmscope without reduction, the teacher has '
                f'{type(other).__name__}: choose another one or set '
                'token_weight=0'
            )
        for name in ('embed_dims', 'patch_size', 'patch_stride'):
            if getattr(other, name) != getattr(own, name):
                raise ValueError(
                    f'the teacher has {name} {getattr(other, name)}, the '
                    f'student {getattr(own, name)}: their patches cannot be '
                    'compared; set token_weight=0 or make them equal'
                )

    def init_weights(self) -> None:
        """Initialise the student, and load the teacher."""
        super().init_weights()
        _ = self.teacher

    def _apply(
        self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any
    ) -> DistilledClassifier:
        # What moves a model (to, cuda, float, ...) moves the teacher.
        for teacher in self._teacher:
            teacher._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def loss(
        self, inputs: Tensor, data_samples: list[Any]
    ) -> dict[str, Tensor]:
        """Compute the losses of one batch.

        Args:
            inputs (Tensor): Images, (B, C, H, W).
            data_samples (list[DataSample]): With ``gt_label`` or
                ``gt_score``.

        Returns:
            dict[str, Tensor]: ``loss``, ``loss_distill``, ``loss_tokens``,
            and those of the reduction.
        """
        with observe(self) as records:
            feats = self.extract_feat(inputs)
        record = only_record(records)
        losses = self.head.loss(feats, data_samples)
        losses |= self._distillation(self.head(feats), record, inputs)
        reduction = self.backbone.reduction
        if reduction is not None:
            losses |= reduction.losses(record)
        return losses

    def _distillation(
        self, logits: Tensor, record: Record, inputs: Tensor
    ) -> dict[str, Tensor]:
        wanted, tokens = self._teach(inputs)
        kl = coarse_fine_kl(logits, wanted)
        losses = {'loss_distill': self.distill_weight * kl}
        if tokens is not None:
            assert isinstance(record, DyVMRecord)
            error = kept_token_error(record, tokens)
            losses['loss_tokens'] = self.token_weight * error
        return losses

    @torch.no_grad()
    def _teach(self, imgs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, C), and patches after the final norm in raster order."""
        teacher: Any = self.teacher
        if not self.token_weight:
            return teacher(imgs, mode='tensor'), None
        encoded = teacher.backbone.encode_images(imgs)
        summary = encoded.sequence.summary(encoded.tokens)
        feats: Any = (teacher.backbone.read_out(summary),)
        if teacher.with_neck:
            feats = teacher.neck(feats)
        return teacher.head(feats), encoded.sequence.to_raster(encoded.tokens)


def _load(teacher: nn.Module, path: str) -> None:
    try:
        content = read_plain(path)
        state = dict(content.get('state_dict', content))
        strip_wrappers(state)
        teacher.load_state_dict(state)
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise type(error)(
            f'teacher_checkpoint {path!r} cannot be loaded into the teacher: '
            f'{error}'
        ) from error
