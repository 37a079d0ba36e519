import pytest


@pytest.fixture(scope='session')
def coco(tmp_path_factory):
    from builders.detection import write_coco

    return write_coco(tmp_path_factory.mktemp('coco'))


@pytest.fixture(scope='session')
def spread_confidences():
    """Make the exit head tell these images apart, as training would."""
    import torch

    @torch.no_grad()
    def spread(model, inputs):
        backbone, head = model.backbone, model.backbone.exit_head
        coarse = backbone.forward_coarse(inputs)
        cls = coarse.cls
        centred = cls - cls.mean(0)
        direction = torch.linalg.svd(centred)[2][0]
        direction = direction / (centred @ direction).std()
        head.fc.weight.copy_(direction.expand_as(head.fc.weight))
        head.fc.bias.copy_(3.0 - head.fc.weight @ cls.mean(0))
        head.num_updates += 1
        return backbone.gate.confidence(cls, coarse.tokens).sort().values

    return spread


@pytest.fixture(scope='session')
def assert_same_detections():
    """Compare the results of one image to the tolerance of a batch."""
    import torch

    def same(result, other):
        one, two = result.pred_instances, other.pred_instances
        assert len(one) == len(two) > 0
        assert torch.equal(one.labels, two.labels)
        assert torch.allclose(one.scores, two.scores, atol=1e-5)
        assert torch.allclose(one.bboxes, two.bboxes, atol=1e-3)
        if 'masks' in one:
            assert one.masks.shape == two.masks.shape
            assert (one.masks != two.masks).float().mean() < 1e-3

    return same
