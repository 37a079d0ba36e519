"""The two stages of a scope as parts of their own, in another form."""

import pytest
import torch
from torch.utils._pytree import tree_flatten

from mmscope.models import CoarseBranch, FineBranch
from mmscope.testing import assert_close

TORCH = tuple(map(int, torch.__version__.split('.')[:2]))
needs_torch_2_4 = pytest.mark.skipif(
    TORCH < (2, 4), reason='operators of others need torch >= 2.4'
)


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert_close('output', a, b, torch.float32)


def assert_exported(scope, imgs, path):
    """Both branches give in ``torch.export`` what they give eagerly."""
    coarse, fine = CoarseBranch(scope), FineBranch(scope)
    output, state = coarse(imgs)
    torch.export.save(torch.export.export(coarse, (imgs,)), path)
    exported = torch.export.load(path).module()
    loaded_output, loaded_state = exported(imgs)
    assert_same(loaded_output, output)
    assert_same(loaded_state.values(), state.values())
    exported = torch.export.export(fine, (imgs, state)).module()
    # Other images choose other regions in the same graph.
    for batch in (imgs, imgs.flip(-1)):
        state = coarse(batch)[1]
        assert_same(exported(batch, state), fine(batch, state))


def assert_compiles(model, run, inputs, train, least):
    """Without a graph break, to equal outputs and at least so many gradients.

    ``run`` is the model or a branch of it.
    """
    model.train(train)
    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend='aot_eager')
    results = []
    for call in (run, compiled):
        model.zero_grad()
        with torch.set_grad_enabled(train):
            outputs = tree_flatten(call(*inputs))[0]
        if train:
            sum(x.square().mean() for x in outputs).backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        results.append((outputs, grads))
    (expected, grads), (actual, compiled_grads) = results
    assert_same(actual, expected)
    assert (len(grads) >= least) == train
    for a, b in zip(compiled_grads, grads, strict=True):
        # Of some weights the terms cancel to a hundredth.
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
