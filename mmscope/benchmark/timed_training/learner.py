"""One model of a config that learns a few steps at a time."""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmscope.benchmark.gpu.graphs import CALLS, GRAPH, Recorded
from mmscope.benchmark.timed_training.augmentation import augmentation_of
from mmscope.benchmark.timed_training.images import Images
from mmscope.benchmark.timed_training.schedule import schedule_of
from mmscope.errors import UserError
from mmscope.evaluation.exit_endpoints import evaluating
from mmscope.models.backbones.weights_file import write_plain
from mmscope.models.scoping import CoarseToFine

DTYPE = torch.bfloat16
SEED = 0


@dataclass
class Progress:
    """What hooks ask a runner for."""

    model: nn.Module
    max_iters: int = 1
    iter: int = 0
    logger: logging.Logger = logging.getLogger(__name__)

    @property
    def epoch(self) -> int:
        """Not counted here."""
        return self.iter

    @property
    def max_epochs(self) -> int:
        """Not counted here."""
        return self.max_iters


class Learner:
    """A config's model with its own loss, optimizer, schedule and hooks.

    ``images`` lie on their device, ``batch`` of them make a step;
    ``SEED`` decides initial values, order and augmentation.

    Raises:
        UserError: If the config has what cannot be done here.
    """

    def __init__(
        self, name: str, cfg: Config, images: Images, batch: int
    ) -> None:
        self.name, self.cfg = name, cfg
        self.images, self.batch = images, min(batch, len(images))
        self.device = images.pixels.device
        loader = cfg.train_dataloader
        self.augment = augmentation_of(loader.dataset.pipeline)
        optimizer = cfg.optim_wrapper.optimizer
        self.schedule = schedule_of(cfg.param_scheduler, optimizer.lr)
        # Adam's steps ask for the square root of what a batch has grown by.
        self.rate = math.sqrt(self.batch / loader.batch_size)
        self.steps_done = 0
        # Seconds spent on recording so far, and on what it compiled.
        self.recording_s = 0.0
        self.how, self.why_not_recorded = CALLS, ''
        self.restart()

    def restart(self) -> None:
        """Begin anew: initial values depend on the seed alone."""
        torch.manual_seed(SEED)
        model = MODELS.build(self.cfg.model)
        # The host that the config named; this room imports none.
        kind = import_module('mmpretrain.models').BaseClassifier
        if not isinstance(model, kind):
            raise UserError(
                f'{self.name}: {type(model).__name__} is no classifier of '
                'mmpretrain, which is what learns here'
            )
        model.init_weights()
        self.model = model.to(self.device).train()
        wrapper = copy.deepcopy(self.cfg.optim_wrapper)
        if self.device.type == 'cuda':
            # The same arithmetic in a few launches.
            wrapper.optimizer.fused = True
        wrapper = build_optim_wrapper(self.model, wrapper)
        self.optimizer = wrapper.optimizer
        self.rates = [g['lr'] for g in self.optimizer.param_groups]
        self.progress = Progress(self.model)
        self.hooks = [
            HOOKS.build(hook) for hook in self.cfg.get('custom_hooks') or []
        ]
        for call in ('before_run', 'before_train'):
            self._call(call)
        self.steps_done, self._recorded, self._state = 0, None, None

    def _call(self, name: str, *args: object) -> None:
        for hook in self.hooks:
            getattr(hook, name)(self.progress, *args)

    def order(self, step: int) -> tuple[Tensor, torch.Generator]:
        """Choose the images of a step: every model's are the same.

        Indices (B,), and what draws the augmentation.
        """
        per_epoch = max(len(self.images) // self.batch, 1)
        epoch, place = divmod(step, per_epoch)
        if getattr(self, '_epoch', None) != epoch:
            generator = torch.Generator().manual_seed(SEED + epoch)
            order = torch.randperm(len(self.images), generator=generator)
            self._order, self._epoch = order.to(self.device), epoch
        chosen = self._order[place * self.batch : (place + 1) * self.batch]
        generator = torch.Generator(self.device)
        return chosen, generator.manual_seed(SEED + 7919 * step)

    def train(self, number: int, total: int) -> Tensor:
        """Do some steps of so many in all, which schedule and hooks ask for.

        Returns:
            Tensor: Mean loss, a scalar on the device.
        """
        self.model.train()
        sums = torch.zeros((), device=self.device)
        self.progress.max_iters = total
        for _ in range(number):
            self.progress.iter = self.steps_done
            self._call('before_train_iter', self.steps_done)
            factor = self.rate * self.schedule.factor(self.steps_done / total)
            for group, rate in zip(
                self.optimizer.param_groups, self.rates, strict=True
            ):
                group['lr'] = rate * factor
            chosen, generator = self.order(self.steps_done)
            pixels = self.augment(self.images.pixels[chosen], generator)
            sums += self._learn(pixels, self.images.labels[chosen])
            self.optimizer.step()
            self._call('after_train_iter', self.steps_done)
            self.steps_done += 1
        return sums / max(number, 1)

    def _learn(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss and all gradients."""
        state = _mode(self.model)
        if self.device.type != 'cuda':
            return self._losses(pixels, labels)
        if self._recorded is None or state != self._state:
            # What hooks switch is fixed while a graph is recorded.
            begin = time.monotonic()
            self._state, self._recorded = state, self._record(pixels, labels)
            self.recording_s += time.monotonic() - begin
        return self._recorded(pixels, labels)

    def _record(self, pixels: Tensor, labels: Tensor) -> object:
        if self.why_not_recorded:
            return self._losses
        try:
            recorded = Recorded(self._losses, (pixels, labels), self.device)
        except RuntimeError as error:
            torch.cuda.synchronize(self.device)
            self.how = CALLS
            self.why_not_recorded = str(error).splitlines()[0]
            return self._losses
        self.how = GRAPH
        return recorded

    def _losses(self, pixels: Tensor, labels: Tensor) -> Tensor:
        params = [p for p in self.model.parameters() if p.requires_grad]
        for param in params:
            if param.grad is None:
                param.grad = torch.zeros_like(param)
        torch._foreach_zero_([param.grad for param in params])
        inputs = self.model.data_preprocessor({'inputs': pixels}, True)
        # Heads concatenate the labels of the samples: one that holds all of
        # them does as well, and costs no loop over images.
        samples = [BaseDataElement(gt_label=labels)]
        with torch.autocast(self.device.type, DTYPE, cache_enabled=False):
            found = self.model(inputs['inputs'], samples, mode='loss')
            loss, _ = self.model.parse_losses(found)
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def accuracy(self, images: Images, batch: int = 1000) -> float:
        """Evaluate, in percent, what is predicted when nobody exits."""
        right = torch.zeros((), device=self.device)
        with evaluating(self.model):
            for start in range(0, len(images), batch):
                part = slice(start, start + batch)
                data = {'inputs': images.pixels[part]}
                inputs = self.model.data_preprocessor(data)['inputs']
                logits = self.model(inputs, mode='tensor')
                right += (logits.argmax(-1) == images.labels[part]).sum()
        self.model.train()
        return 100 * right.item() / max(len(images), 1)

    def save(self, path: str | Path) -> None:
        """Write weights and what a training needs to go on, atomically."""
        content = {
            'state_dict': self.model.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'steps_done': self.steps_done,
        }
        write_plain(path, content)

    def load(self, path: str | Path) -> None:
        """Go on from a file that :meth:`save` wrote."""
        found = torch.load(path, self.device, weights_only=True)
        self.model.load_state_dict(found['state_dict'])
        self.optimizer.load_state_dict(found['optimizer'])
        self.steps_done = found['steps_done']
        self._recorded = None


def _mode(model: nn.Module) -> tuple:
    """What a recording depends on beside shapes: switches of the modules."""
    scopes = (m for m in model.modules() if isinstance(m, CoarseToFine))
    return (*(scope.selection for scope in scopes), model.training)
