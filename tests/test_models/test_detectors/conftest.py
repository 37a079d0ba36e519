import pytest


@pytest.fixture(scope='session')
def coco(tmp_path_factory):
    from det_builders import write_coco

    return write_coco(tmp_path_factory.mktemp('coco'))
