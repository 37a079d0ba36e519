"""Long sequences: everything grows with the tokens, nothing with their square.

On ``meta``, so that 4096 fine tokens, as many as a detector's image has, cost
no time here.
"""

from dataclasses import replace

import pytest
import torch

from mmscope.analysis.op_trace import OpTrace
from mmscope.models import MambaScope, VisionMamba, is_two_stage

ARCH = {'embed_dims': 16, 'num_layers': 2}
KINDS = (VisionMamba, MambaScope)
SHORT, LONG = 512, 1024
CUBIC = 'aten.upsample_bicubic2d'


def on_meta(kind, side):
    with torch.device('meta'):
        # The meta device has no fast backend; asking for none is no warning.
        return kind(
            arch=ARCH,
            img_size=side,
            out_type='featmap',
            scan_backend='reference',
        ).eval()


def traced(backbone, side):
    """Run both stages for a square image of any size."""
    imgs = backbone.pos_embed.new_zeros(1, 3, side, side)
    with torch.no_grad(), OpTrace(backbone) as trace:
        if is_two_stage(backbone):
            backbone.forward_fine(imgs, backbone.forward_coarse(imgs))
        else:
            backbone(imgs)
    return trace.calls


def growth(kind):
    """Compare 4096 fine tokens with 1024."""
    short, long = (traced(on_meta(kind, s), s) for s in (SHORT, LONG))

    def ratio(measure):
        return measure(long) / measure(short)

    return {
        'values': ratio(lambda calls: sum(c.elements for c in calls)),
        'largest': ratio(lambda calls: max(c.elements for c in calls)),
        'costs': ratio(lambda calls: sum(c.cost or 0 for c in calls)),
        'calls': ratio(len),
    }


@pytest.mark.parametrize('kind', KINDS)
def test_four_times_the_tokens_take_four_times_the_memory_and_work(kind):
    found = growth(kind)
    # No loop over tokens; no tensor of tokens by tokens.
    assert found.pop('calls') == 1
    assert found == pytest.approx(dict.fromkeys(found, 4), rel=0.05)


def test_tokens_by_tokens_would_be_seen(monkeypatch):
    encode = VisionMamba.encode

    def attend(self, sequence, *args):
        x = sequence.tokens
        x = (x @ x.transpose(1, 2)) @ x
        return encode(self, replace(sequence, tokens=x), *args)

    monkeypatch.setattr(VisionMamba, 'encode', attend)
    for kind in KINDS:
        found = growth(kind)
        assert found['values'] > 4.5
        assert found['largest'] > 10
        assert found['costs'] > 4.5


@pytest.mark.parametrize('kind', KINDS)
def test_positions_are_not_interpolated_at_the_size_of_the_model(kind):
    backbone = on_meta(kind, 64)
    own, other = (
        [call.op for call in traced(backbone, side)].count(CUBIC)
        for side in (64, 96)
    )
    assert own == 0
    # One embedding for each grid that is looked at.
    assert other == (2 if kind is MambaScope else 1)


@pytest.mark.parametrize('kind', KINDS)
def test_positions_of_another_size_are_interpolated_once_on_loading(kind):
    # As a detector loads ImageNet's weights.
    small, large = (kind(arch=ARCH, img_size=side) for side in (64, 128))
    with torch.no_grad(), OpTrace(small) as trace:
        large.load_state_dict(small.state_dict())
    calls = [call.op for call in trace.calls].count(CUBIC)
    assert calls == (2 if kind is MambaScope else 1)
    assert CUBIC not in {call.op for call in traced(large.eval(), 128)}
