"""The scan's backends over random shapes and arguments."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmscope.ops import available_backends, selective_scan

BACKENDS = [b for b in available_backends('cpu') if b != 'reference']


@st.composite
def scans(draw):
    batch, seqlen = draw(st.integers(0, 3)), draw(st.integers(0, 40))
    dim, d_state = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def new(*shape):
        return torch.randn(*shape, generator=rng)

    return dict(
        u=new(batch, seqlen, dim),
        delta=new(batch, seqlen, dim),
        A=-new(dim, d_state).exp(),
        B=new(batch, seqlen, d_state),
        C=new(batch, seqlen, d_state),
        D=new(dim) if draw(st.booleans()) else None,
        z=new(batch, seqlen, dim) if draw(st.booleans()) else None,
        delta_bias=new(dim),
        delta_softplus=True,
        reverse=draw(st.booleans()),
        gaps=torch.randint(0, 4, (batch, seqlen), generator=rng)
        if draw(st.booleans())
        else None,
    )


@pytest.mark.parametrize('backend', BACKENDS)
@settings(max_examples=60, deadline=None)
@given(scans())
def test_a_backend_computes_what_the_reference_does(backend, inputs):
    found = selective_scan(**inputs, backend=backend)
    wanted = selective_scan(**inputs, backend='reference')
    assert found.shape == inputs['u'].shape
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(scans(), st.integers(0, 40))
def test_what_comes_later_changes_nothing_before(inputs, cut):
    inputs['reverse'] = False
    cut = min(cut, inputs['u'].shape[1])
    per_token = ('u', 'delta', 'B', 'C', 'z', 'gaps')
    short = {
        name: value[:, :cut]
        if name in per_token and value is not None
        else value
        for name, value in inputs.items()
    }
    torch.testing.assert_close(
        selective_scan(**short, backend='reference'),
        selective_scan(**inputs, backend='reference')[:, :cut],
    )
