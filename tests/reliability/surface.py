"""Random input to what programs call: right, a clear error, or a fault.

    python -m reliability.surface [--number 10000] [--seed 0] [--json FILE]

in the folder ``tests``. Each kind of case draws words that are mostly right
and sometimes of another type, size or value. A result is compared with what
is true of it; an error is clear if a ``raise`` of this package made it.
Cases run in processes of their own, some in each: one that ends its process
is a crash, and the next process goes on behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmscope.cli.vim_to_mmscope import convert
from mmscope.errors import _is_deliberate
from mmscope.evaluation.sweep_result import SweepResult
from mmscope.models import MambaReg, MambaScope, VisionMamba, attach_gate
from mmscope.models.backbones.weights_info import KEY
from mmscope.ops import selective_scan
from mmscope.runtime import ExitChoice
from mmscope.runtime.released import SOURCES

from .fuzz import OUTCOMES

ODD = (None, '', 'x', -1, 0, 1.5, float('nan'), float('inf'), True, [], {})
# A machine that is busy takes ten times as long.
SECONDS = 120
# Cases of a process.
CHUNK = 100
Case = Callable[[np.random.Generator], Callable[[], bool]]


def spoil(rng: np.random.Generator, words: dict, share: float = 0.6) -> dict:
    """Put odd values in the place of one or two of the words."""
    if rng.random() < share:
        for _ in range(rng.integers(1, 3)):
            words[str(rng.choice([*words]))] = ODD[rng.integers(len(ODD))]
    return words


def scan(rng: np.random.Generator) -> Callable[[], bool]:
    """A scan, compared with its recurrence in float64."""
    batch, length, dim, state = rng.integers(1, 6, 4).tolist()
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 30)))

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    words = {
        'u': draw(batch, length, dim),
        'delta': draw(batch, length, dim).abs(),
        'A': -draw(dim, state).abs(),
        'B': draw(batch, length, state),
        'C': draw(batch, length, state),
        'D': draw(dim) if rng.random() < 0.5 else None,
        'reverse': bool(rng.random() < 0.5),
        'backend': str(rng.choice(['auto', 'reference', 'cpu'])),
    }
    if rng.random() < 0.6:
        name = str(rng.choice(['u', 'delta', 'A', 'B', 'C', 'D']))
        wrong = [
            draw(*rng.integers(1, 6, rng.integers(1, 5)).tolist()),
            draw(batch, length, dim).long(),
            *ODD,
        ]
        words[name] = wrong[rng.integers(len(wrong))]
    return lambda: _same_scan(words)


def _same_scan(words: dict[str, Any]) -> bool:
    found = selective_scan(**words)
    u, delta, B, C = (words[k].double() for k in ('u', 'delta', 'B', 'C'))
    A, state, steps = words['A'].double(), 0.0, range(u.shape[1])
    truth = torch.zeros_like(u)
    for t in reversed(steps) if words['reverse'] else steps:
        decay = (delta[:, t, :, None] * A).exp()
        add = (delta[:, t] * u[:, t])[:, :, None] * B[:, t, None]
        state = decay * state + add
        truth[:, t] = (state * C[:, t, None]).sum(-1)
    if words['D'] is not None:
        truth = truth + words['D'] * u
    return torch.allclose(found.double(), truth, atol=1e-4, rtol=1e-3)


def build(rng: np.random.Generator) -> Callable[[], bool]:
    """A backbone from words, and an image of any size through it."""
    words = {
        'arch': {'embed_dims': 16, 'num_layers': 2},
        'img_size': int(rng.choice([16, 24, 32])),
        'patch_size': int(rng.choice([4, 8])),
        'out_type': str(rng.choice(['cls_token', 'featmap'])),
        'drop_path_rate': 0.0,
        'refine_ratio': float(rng.choice([0.3, 0.5, 1.0])),
        'exit_threshold': None,
        'score_metric': str(rng.choice(['max_norm', 'detail', 'random'])),
        'score_momentum': 0.9,
        'score_layers': None,
        'cls_position': None,
        'token_order': str(rng.choice(['first', 'last', 'woven'])),
        'feature_reuse': 'mlp',
        'unselected_tokens': 'embedding',
        'with_cp': False,
        'frozen_stages': -1,
    }
    if scope := rng.random() < 0.7:
        kind = MambaScope
    else:
        kind = VisionMamba
        kept = ('arch', 'img_size', 'patch_size', 'out_type', 'with_cp')
        words = {key: words[key] for key in kept}
    words = spoil(rng, words)
    shape = rng.integers(1, 70, 2).tolist()
    return lambda: _runs(kind, words, shape, scope)


def _runs(kind: type, words: dict, shape: list[int], scope: bool) -> bool:
    model = kind(**words).eval()
    with torch.no_grad():
        out = model(torch.zeros(2, 3, *shape))
    if model.out_type != 'featmap':
        return out[0].shape == (2, 16) and out[0].isfinite().all()
    return all(m.shape[:2] == (2, 16) and m.isfinite().all() for m in out)


def gate(rng: np.random.Generator) -> Callable[[], bool]:
    """Words for a gate."""
    words = spoil(
        rng,
        {
            'exit_threshold': float(rng.random()),
            'confidence': 'max_prob',
            'temperature': 1.0,
        },
    )

    def run() -> bool:
        model = MambaScope(
            arch={'embed_dims': 16, 'num_layers': 2},
            img_size=16,
            patch_size=4,
            exit_head={'type': 'mmscope.MultiLabelExitHead', 'num_classes': 3},
        )
        if words['confidence'] == 'max_prob':
            words['confidence'] = 'mean_present'
        attach_gate(model, **words)
        eta, heat = model.exit_threshold, model.gate.temperature
        return (eta is None or eta >= 0) and heat > 0

    return run


CHOICE = {
    'kind': 'mmscope.exit_threshold',
    'exit_threshold': 0.5,
    'confidence': 'max_prob',
    'target': 'max_drop',
    'limit': 0.5,
    'split': 'val',
    'expected': {'top1': 70.0, 'exit_ratio': 0.5, 'mean_cost': 1.0},
    'score': 'top1',
    'convention': 'paper',
    'num_images': 10,
    'config': 'a.py',
    'checkpoint': 'a.pth',
    'temperature': 1.0,
}


def threshold_file(rng: np.random.Generator) -> Callable[[], bool]:
    """A file of a threshold, spoilt or cut."""
    text = _text(rng, CHOICE)
    return lambda: _reads(ExitChoice.read, text)


def sweep_file(rng: np.random.Generator) -> Callable[[], bool]:
    """A file of a sweep, spoilt or cut."""
    content = {
        'score': 'top1',
        'convention': 'paper',
        'rows': [{'threshold': 0.0, 'exit_ratio': 1.0, 'top1': 50.0}],
        'confidence': {},
        'throughput': [],
        'meta': {'name': 'a'},
        'variants': [],
        'images': [],
    }
    text = _text(rng, content)
    return lambda: _reads(SweepResult.read, text)


def _text(rng: np.random.Generator, content: dict) -> str:
    words = spoil(rng, dict(content), 0.5)
    if rng.random() < 0.2:
        words.pop(str(rng.choice([*words])))
    text = json.dumps(words)
    if rng.random() < 0.2:
        text = text[: rng.integers(len(text))]
    return text


def _reads(read: Callable[[Path], object], text: str) -> bool:
    with tempfile.NamedTemporaryFile('w', suffix='.json') as file:
        file.write(text)
        file.flush()
        read(Path(file.name))
    return True


def converter(rng: np.random.Generator) -> Callable[[], bool]:
    """Released weights, some of them gone, renamed or of another shape."""
    family = [VisionMamba, MambaReg][rng.integers(2)]
    model = family(arch={'embed_dims': 16, 'num_layers': 2}, img_size=32)
    state = dict(model.state_dict())
    del state[KEY]
    kinds = ['vim', 'videomamba'] if family is VisionMamba else ['mamba_reg']
    if spoilt := rng.random() < 0.6:
        kinds = [*SOURCES]
        for _ in range(rng.integers(1, 3)):
            _spoil_weight(rng, state)
    words = {
        'target': str(rng.choice(['vim', 'mambascope', 'vitdet'])),
        'img_size': [None, 32, 48, 64, 7][rng.integers(5)],
        'kind': str(rng.choice(kinds)),
        'patch_stride': [None, 16, 8][rng.integers(3)],
    }
    return lambda: _converts(state, words, spoilt)


def _spoil_weight(rng: np.random.Generator, state: dict) -> None:
    name = str(rng.choice([*state]))
    value = state.pop(name)
    wrong = [
        {},
        {f'module.{name}': value},
        {f'{name}.x': value},
        {name: value[..., :-1]},
        {name: value[None]},
        {name: value.long()},
        {name: torch.tensor(0.0)},
        {name: value.flatten()},
    ]
    state.update(wrong[rng.integers(len(wrong))])


def _converts(state: dict, words: dict[str, Any], spoilt: bool) -> bool:
    """Whether all weights of the source are there, as they were."""
    found, unused = convert(dict(state), **words)
    state = {k.removeprefix('module.'): v for k, v in state.items()}
    kept = {
        name: value
        for name, value in state.items()
        if name not in unused and 'pos_embed' not in name
    }
    right = all(
        torch.equal(found[f'backbone.{k}'], v) for k, v in kept.items()
    )
    return right and (spoilt or not unused)


CASES: dict[str, Case] = {
    'selective_scan': scan,
    'backbones': build,
    'gates': gate,
    'threshold files': threshold_file,
    'sweep files': sweep_file,
    'converters': converter,
}


class TooLongError(Exception):
    """A case did not end."""


def judge(run: Callable[[], bool]) -> tuple[str, str]:
    """Run a case; its outcome, and what an unclear error says."""

    def late(*args: object) -> None:
        raise TooLongError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return ('right' if run() else 'silent'), ''
    except TooLongError:
        return 'hang', ''
    except Exception as error:
        if _is_deliberate(error):
            return 'clear error', ''
        return 'unclear', f'{type(error).__name__}: {str(error)[:200]}'
    finally:
        signal.alarm(0)


def case(seed: int, index: int) -> tuple[str, str]:
    """Make a case of its number, and judge it."""
    rng = np.random.default_rng([seed, index])
    return judge(CASES[[*CASES][index % len(CASES)]](rng))


def attempt(seed: int, indices: range) -> list[tuple[str, str]]:
    """Run cases in a process of its own, up to one that ends it."""
    with tempfile.NamedTemporaryFile('w+') as said:
        child = os.fork()
        if not child:
            try:
                for index in indices:
                    line = json.dumps(case(seed, index))
                    print(line, file=said, flush=True)
            finally:
                # Also of the tests that started it nothing goes on here.
                os._exit(0)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        found = [tuple(json.loads(line)) for line in said]
    if len(found) < len(indices):
        how = f'status {os.waitstatus_to_exitcode(status)}'
        found.append(('crash', how))
    return found


def main(argv: list[str] | None = None) -> None:
    """Try, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--number', type=int, default=10_000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    outcomes = {name: Counter() for name in CASES}
    faults: list[dict] = []
    found: list[tuple[str, str]] = []
    while len(found) < args.number:
        end = min(len(found) + CHUNK, args.number)
        found += attempt(args.seed, range(len(found), end))
    for index, (outcome, said) in enumerate(found):
        name = [*CASES][index % len(CASES)]
        outcomes[name][outcome] += 1
        if outcome not in OUTCOMES[:2]:
            fault = {'case': name, 'index': index, 'outcome': outcome}
            faults.append({**fault, 'said': said})
    result = {
        'command': (
            f'python -m reliability.surface --number {args.number} '
            f'--seed {args.seed}'
        ),
        'outcomes': {
            name: {key: counts[key] for key in OUTCOMES}
            for name, counts in outcomes.items()
        },
        'faults': faults,
    }
    text = json.dumps(result, indent=1) + '\n'
    (args.json.write_text if args.json else sys.stdout.write)(text)


if __name__ == '__main__':
    main()
