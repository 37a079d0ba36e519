import sys
from pathlib import Path

import pytest

# Helpers of several rooms, importable as `builders`.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    from builders.segmentation import write_scenes

    return write_scenes(tmp_path_factory.mktemp('scenes'))
