import pytest
from builders import classification

pytest.importorskip('mmpretrain', reason='needs mmpretrain')


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    return classification.write_photos(tmp_path_factory.mktemp('photos'))
