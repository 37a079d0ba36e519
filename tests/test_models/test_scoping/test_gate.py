import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmscope.models import MambaScope, observe
from mmscope.models.heads.confidence import (
    map_confidence,
    multi_label_confidence,
    softmax_confidence,
)
from mmscope.models.scoping import (
    Gate,
    HostGate,
    at_threshold,
    attach_gate,
    check_temperature,
    check_threshold,
    exit_mask,
    find_backbone,
)

ARCH = {'embed_dims': 16, 'num_layers': 2}
HEAD = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 4}


def logit(p):
    return math.log(p / (1 - p))


@pytest.mark.parametrize('value', [0, 0.0, 0.5, 1, 2.5, np.float32(0.25)])
def test_numbers_from_zero_on_are_thresholds(value):
    assert check_threshold(value) == float(value)


@pytest.mark.parametrize('value', [-0.1, float('nan'), '0.8', True, [0.5]])
def test_what_is_not_a_threshold_is_named(value):
    with pytest.raises(ValueError, match='exit_threshold must be None or'):
        check_threshold(value)


def test_multi_label_confidences_equal_the_formula():
    logits = torch.tensor([[logit(0.9), logit(0.6), logit(0.2)]])
    assert multi_label_confidence(logits).item() == pytest.approx(0.75)
    least = multi_label_confidence(logits, 'min_present')
    assert least.item() == pytest.approx(0.6)
    entropy = -sum(
        p * math.log2(p) + (1 - p) * math.log2(1 - p) for p in (0.9, 0.6, 0.2)
    )
    actual = multi_label_confidence(logits, 'entropy').item()
    assert actual == pytest.approx(1 - entropy / 3, abs=1e-6)


@pytest.mark.parametrize('kind', ['mean_present', 'min_present'])
def test_nothing_predicted_present_has_no_confidence(kind):
    logits = torch.full((2, 4), -3.0)
    assert multi_label_confidence(logits, kind).tolist() == [0.0, 0.0]


def test_entropy_stays_finite_for_certain_predictions():
    logits = torch.tensor([[200.0, -200.0]])
    assert multi_label_confidence(logits, 'entropy').item() == 1.0


def test_softmax_confidences_equal_the_formula():
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    assert softmax_confidence(logits).item() == pytest.approx(0.7)
    entropy = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    actual = softmax_confidence(logits, 'entropy').item()
    assert actual == pytest.approx(1 - entropy / math.log(3), abs=1e-6)


def test_confidence_equal_to_the_threshold_exits():
    confidence = torch.tensor([0.25, 0.5, 0.75])
    assert exit_mask(confidence, 0.5).tolist() == [False, True, True]
    assert exit_mask(torch.tensor([1.0]), 1.0).item()
    assert not exit_mask(torch.tensor([1.0]), 1.0 + 1e-9).item()


def test_everybody_exits_at_zero_even_where_nothing_is_known():
    confidence = torch.tensor([0.0, -1e-7, math.nan])
    assert exit_mask(confidence, 0.0).all()
    assert exit_mask(confidence, 0.5).tolist() == 3 * [False]


@pytest.mark.parametrize(
    'confidence', [softmax_confidence, multi_label_confidence]
)
def test_no_rounding_puts_an_entropy_below_zero(confidence):
    for number in range(2, 300):
        assert confidence(torch.zeros(1, number), 'entropy').item() >= 0


class Waits(TorchDispatchMode):
    """Counts what would wait for a GPU."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aten = torch.ops.aten
        if func in (aten.index.Tensor, aten.index_put_.default):
            self.number += any(
                x.dtype == torch.bool for x in args[1] if x is not None
            )
        self.number += func in (
            aten._local_scalar_dense.default,
            aten.nonzero.default,
        )
        return func(*args, **(kwargs or {}))


def test_a_gated_forward_waits_once_for_who_exits():
    model = Classifier().eval()
    attach_gate(model, 0.0)
    imgs = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        model.backbone(imgs)
        sure = model.backbone.last_exit.confidence
        model.backbone.exit_threshold = sure.median().item()
        with Waits() as waits:
            model.backbone(imgs)
    assert 0 < model.backbone.last_exit.exited.sum() < 4
    assert waits.number == 1


class Classifier(nn.Module):
    """A host of the plainest kind: backbone and head."""

    def __init__(self):
        super().__init__()
        self.backbone = MambaScope(arch=ARCH, img_size=64)
        self.head = LogitHead()


class LogitHead(nn.Module):
    meaning = 'softmax'

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 5)

    def forward(self, feats):
        return self.fc(feats[-1])


class Wrapper(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module


def test_attaching_changes_neither_state_dict_nor_parameter_order():
    model = Classifier()
    keys = list(model.state_dict())
    params = [id(p) for p in model.parameters()]
    modules = [name for name, _ in model.named_modules()]
    attach_gate(Wrapper(Wrapper(model)), 0.5)
    assert list(model.state_dict()) == keys
    assert [id(p) for p in model.parameters()] == params
    assert [name for name, _ in model.named_modules()] == modules
    assert model.backbone.exit_threshold == 0.5


def test_a_deep_copy_of_a_gated_classifier_asks_its_own_head():
    model = Classifier().eval()
    attach_gate(model, 0.0)
    twin = copy.deepcopy(model)
    assert twin.backbone.gate.head is twin.head
    assert twin.head is not model.head
    with torch.no_grad():
        twin.head.fc.weight.zero_()
        twin.head.fc.bias.zero_()
        twin.backbone(torch.randn(1, 3, 64, 64))
    # Five equal logits.
    confidence = twin.backbone.last_exit.confidence.item()
    assert confidence == pytest.approx(0.2)


def test_a_replaced_head_or_neck_counts_at_once():
    model = Classifier().eval()
    attach_gate(model, 0.0)
    model.head, model.neck = LogitHead(), None
    cls = torch.randn(2, 16)
    assert torch.equal(model.backbone.gate.logits(cls), model.head((cls,)))
    model.neck = lambda feats: tuple(2 * x for x in feats)
    expected = model.head((2 * cls,))
    assert torch.equal(model.backbone.gate.logits(cls), expected)


def test_a_copied_backbone_alone_goes_on_asking_its_host():
    model = Classifier()
    attach_gate(model, 0.0)
    twin = copy.deepcopy(model.backbone)
    assert twin.gate.owner is model


def test_a_head_whose_outputs_nobody_knows_is_refused_when_wired():
    model = Classifier()
    model.head = nn.Linear(16, 5)
    with pytest.raises(ValueError, match=r"a Linear predicts.*'softmax'"):
        attach_gate(model, 0.5)


def test_a_multi_label_head_is_judged_as_one():
    model = Classifier().eval()
    model.head.meaning = 'multi_label'
    attach_gate(model, 0.0)
    with torch.no_grad():
        model.head.fc.weight.zero_()
        model.head.fc.bias.copy_(torch.tensor([9.0, 9.0, 9.0, -9.0, -9.0]))
        model.backbone(torch.randn(1, 3, 64, 64))
    # Softmax would give a third.
    assert model.backbone.last_exit.confidence.item() > 0.99


@pytest.mark.parametrize('with_exit_head', [False, True])
def test_an_unknown_kind_of_confidence_is_refused(with_exit_head):
    model = Classifier()
    if with_exit_head:
        head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 4}
        model.backbone = MambaScope(arch=ARCH, img_size=64, exit_head=head)
    with pytest.raises(ValueError, match="got 'nonsense'"):
        attach_gate(model, 0.5, 'nonsense')


def test_another_threshold_holds_for_a_while_also_after_an_error():
    model = Classifier()
    attach_gate(model, 0.5)
    with at_threshold(Wrapper(model), 0.0) as backbone:
        assert backbone.exit_threshold == 0.0
        with at_threshold(model, None):
            assert backbone.exit_threshold is None
        assert backbone.exit_threshold == 0.0
    assert backbone.exit_threshold == 0.5
    with pytest.raises(ZeroDivisionError), at_threshold(model, 2.0):
        raise ZeroDivisionError
    assert backbone.exit_threshold == 0.5
    with pytest.raises(ValueError, match='exit_threshold must be'):
        with at_threshold(model, -1.0):
            pass


def test_none_leaves_the_threshold_of_the_backbone():
    model = Classifier()
    attach_gate(model, 0.5)
    attach_gate(model)
    assert model.backbone.exit_threshold == 0.5


def test_a_host_without_a_coarse_stage_is_refused():
    with pytest.raises(ValueError, match='needs a two-stage backbone'):
        find_backbone(nn.Sequential(nn.Linear(2, 2)))


def test_a_host_without_any_predictor_is_refused():
    model = Classifier()
    del model.head
    with pytest.raises(ValueError, match='no classification head'):
        attach_gate(model, 0.5)


def test_a_gate_without_predictor_refuses_to_decide():
    model = MambaScope(arch=ARCH, img_size=64, exit_threshold=0.5).eval()
    with pytest.raises(RuntimeError, match='nothing predicts'):
        model(torch.randn(1, 3, 64, 64))


def test_an_untrained_exit_head_refuses_to_decide():
    head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 4}
    model = MambaScope(arch=ARCH, img_size=64, exit_head=head).eval()
    attach_gate(model, 0.5)
    imgs = torch.randn(1, 3, 64, 64)
    with pytest.raises(RuntimeError, match='never trained'):
        model(imgs)
    for threshold in (0.0, 1.5):
        attach_gate(model, threshold)
        model(imgs)


def sharded(model):
    """As MMEngine's wrapper is: of torch's class, with another name."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    class MMFullyShardedDataParallel(FullyShardedDataParallel):
        def __init__(self, module):
            nn.Module.__init__(self)
            self._fsdp_wrapped_module = module

    return MMFullyShardedDataParallel(model)


def test_sharded_weights_are_refused():
    model = Classifier()
    attach_gate(sharded(model))
    with pytest.raises(RuntimeError, match='sharded weights'):
        attach_gate(sharded(model), 0.5)
    # Whoever gave the threshold.
    model.backbone.exit_threshold = 0.5
    with pytest.raises(RuntimeError, match='sharded weights'):
        attach_gate(sharded(model))


def test_shards_cannot_wait_for_each_image_s_own_number_of_regions():
    model = Classifier()
    model.backbone.score_metric = 'detail'
    model.backbone.refine_coverage = 0.9
    with pytest.raises(RuntimeError, match='refine_coverage=0.9 .*sharded'):
        attach_gate(sharded(model))
    attach_gate(model)


def test_a_replaced_exit_head_decides_at_once():
    head = {'type': 'mmscope.MultiLabelExitHead', 'num_classes': 4}
    model = MambaScope(arch=ARCH, img_size=64, exit_head=head).eval()
    attach_gate(model, 0.5)
    model.exit_head.num_updates += 1
    other = MambaScope(arch=ARCH, img_size=64, exit_head=head).exit_head
    model.exit_head = other
    assert model.gate.head is other
    assert copy.deepcopy(model).gate.head is not other
    with pytest.raises(RuntimeError, match='never trained'):
        model(torch.randn(1, 3, 64, 64))


def scope(**head):
    model = MambaScope(arch=ARCH, img_size=64, exit_head={**HEAD, **head})
    for counter in ('num_updates', 'num_map_updates'):
        if hasattr(model.exit_head, counter):
            getattr(model.exit_head, counter).fill_(1)
    return model.eval()


@torch.no_grad()
def test_a_map_gate_decides_by_the_coarse_cells():
    model = scope(confidence='map')
    torch.nn.init.normal_(model.exit_head.fc_map.weight, std=0.5)
    imgs = torch.randn(3, 3, 64, 96)
    coarse = model.forward_coarse(imgs)
    assert coarse.tokens.shape[1] == 6
    wanted = map_confidence(model.exit_head.map_logits(coarse.tokens))
    with at_threshold(model, wanted.median().item()):
        model(imgs)
    assert torch.allclose(model.last_exit.confidence, wanted)
    assert model.last_exit.exited.sum() == 2


def test_an_image_kind_does_not_run_the_map():
    model = scope(map_loss_weight=0.4)
    model.exit_head.fc_map.register_forward_hook(lambda *_: 1 / 0)
    with torch.no_grad(), at_threshold(model, 0.5):
        model(torch.randn(1, 3, 64, 64))
    attach_gate(model, 0.5, 'map')
    with pytest.raises(ZeroDivisionError):
        model(torch.randn(1, 3, 64, 64))


def test_an_untrained_map_refuses_to_decide():
    model = scope(confidence='map')
    model.exit_head.num_map_updates.fill_(0)
    with at_threshold(model, 0.5), pytest.raises(RuntimeError, match='never'):
        model(torch.randn(1, 3, 64, 64))


def test_a_map_is_asked_of_heads_that_have_one():
    with pytest.raises(ValueError, match='exit_head.map_loss_weight'):
        attach_gate(scope(), confidence='map')
    with pytest.raises(ValueError, match="got 'map'"):
        attach_gate(Classifier(), confidence='map')


@pytest.mark.parametrize('value', [0, -1.0, math.nan, math.inf, '2', True])
def test_what_is_not_a_temperature_is_named(value):
    with pytest.raises(ValueError, match='temperature must be a finite'):
        check_temperature(value)
    model = scope()
    with pytest.raises(ValueError, match='temperature must be a finite'):
        attach_gate(model, temperature=value)
    with pytest.raises(ValueError, match='temperature must be a finite'):
        model.gate.temperature = value
    assert model.gate.temperature == 1.0


@torch.no_grad()
@pytest.mark.parametrize('kind', ['mean_present', 'entropy', 'map'])
def test_confidence_is_that_of_logits_over_the_temperature(kind):
    model = scope(map_loss_weight=0.4)
    torch.nn.init.normal_(model.exit_head.fc_map.weight, std=0.5)
    torch.nn.init.normal_(model.exit_head.fc.weight, std=0.5)
    attach_gate(model, confidence=kind)
    cls, tokens = torch.randn(5, 16), torch.randn(5, 4, 16)
    before = model.gate.confidence(cls, tokens)
    attach_gate(model, temperature=2.0)
    actual = model.gate.confidence(cls, tokens)
    for part in (model.exit_head.fc, model.exit_head.fc_map):
        part.weight /= 2
        part.bias /= 2
    attach_gate(model, temperature=1.0)
    assert torch.allclose(actual, model.gate.confidence(cls, tokens))
    assert (actual != before).any()


@torch.no_grad()
@pytest.mark.parametrize('decides', ['mean_present', 'map'])
def test_a_temperature_is_of_the_logits_that_decide(decides):
    model = scope(map_loss_weight=0.4)
    torch.nn.init.normal_(model.exit_head.fc_map.weight, std=0.5)
    torch.nn.init.normal_(model.exit_head.fc.weight, std=0.5)
    tokens = torch.randn(5, 16), torch.randn(5, 4, 16)
    kinds = ('mean_present', 'entropy', 'map')
    attach_gate(model, confidence=decides)
    plain = model.gate.judge(*tokens, kinds)
    attach_gate(model, temperature=0.1)
    scaled = model.gate.judge(*tokens, kinds)
    moved = {k for k in kinds if not torch.equal(plain[k], scaled[k])}
    assert moved == ({'map'} if decides == 'map' else set(kinds) - {'map'})


def test_a_temperature_stays_until_told_and_when_copied():
    for model in (Classifier(), scope()):
        backbone = attach_gate(model, temperature=2.5)
        attach_gate(model, 0.5, 'entropy')
        assert backbone.gate.temperature == 2.5
        assert find_backbone(copy.deepcopy(model)).gate.temperature == 2.5
        attach_gate(model, temperature=0.5)
        assert backbone.gate.temperature == 0.5
        assert backbone.gate.kind == 'entropy'


def test_a_scope_alone_has_nothing_that_a_kind_could_judge():
    alone = MambaScope(arch=ARCH, img_size=64)
    attach_gate(alone, 0.0)
    for options in ({'confidence': 'nonsense'}, {'temperature': 2.0}):
        with pytest.raises(ValueError, match='have nothing to judge'):
            attach_gate(alone, **options)
    model = Classifier()
    attach_gate(model)
    # The scope of a host goes on asking that host.
    attach_gate(model.backbone, confidence='entropy')
    assert model.backbone.gate.owner is model
    assert model.backbone.gate.kind == 'entropy'


def test_a_gate_says_which_head_it_asks():
    with pytest.raises(TypeError, match='abstract'):
        Gate(LogitHead())


@pytest.mark.parametrize('kind', ['max_prob', 'entropy'])
def test_a_softmax_over_one_class_is_refused(kind):
    model = Classifier()
    model.head.num_classes = 1
    with pytest.raises(ValueError, match='a softmax over one class is 1'):
        HostGate(model, kind)
    with pytest.raises(ValueError, match='a softmax over one class is 1'):
        softmax_confidence(torch.zeros(2, 1), kind)
    # Nobody may have said it before the logits come.
    model = Classifier()
    model.head.fc = nn.Linear(16, 1)
    with pytest.raises(ValueError, match='a softmax over one class is 1'):
        attach_gate(model)
    assert scope(num_classes=1, confidence='entropy').gate.kind == 'entropy'


def test_one_detached_record_is_handed_out():
    model = scope()
    imgs = torch.randn(1, 3, 64, 64, requires_grad=True)
    with observe(model) as records, observe(model) as others:
        model(imgs)
    assert records[0] is others[0] is model.last_exit
    assert not records[0].importance.requires_grad


@pytest.mark.parametrize('kind', ['map', 'mean_present'])
def test_a_gate_asks_for_the_training_of_its_own_part_alone(kind):
    head = {**HEAD, 'confidence': kind, 'map_loss_weight': 0.4}
    model = MambaScope(arch=ARCH, img_size=64, exit_head=head).eval()
    gate, count = attach_gate(model).gate, model.exit_head.num_updates
    with pytest.raises(RuntimeError, match='never trained'):
        gate.check_trained()
    if kind == 'map':
        count = model.exit_head.num_map_updates
    count += 1
    gate.check_trained()
    assert not model.exit_head.is_trained
    assert [k for k in gate.kinds if gate.is_trained(k)] == [
        k for k in gate.kinds if (k == 'map') == (kind == 'map')
    ]
