import cls_builders
import pytest

pytest.importorskip('mmpretrain', reason='needs mmpretrain')


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    return cls_builders.write_photos(tmp_path_factory.mktemp('photos'))
