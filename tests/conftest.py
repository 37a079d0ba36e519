import gc
import logging
import os
import signal
import sys
from pathlib import Path

import pytest

# Tests share the cores, and fork: OpenMP waits for ever in the fork of a
# process that had several threads. Read when torch is imported.
os.environ['OMP_NUM_THREADS'] = '1'
# Helpers of several rooms, importable as `builders`.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure():
    # A runner prints its config five times, laid out by yapf: seconds where
    # a path is longer than a line.
    import yapf.yapflib.yapf_api as yapf_api

    yapf_api.FormatCode = lambda text, **options: (text, False)


def pytest_collection_finish():
    # MMEngine collects all garbage whenever a data set is built: a second
    # where three hosts are imported.
    gc.collect()
    gc.freeze()


@pytest.fixture
def interruptible():
    """Ctrl-C raises, also where tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def said(caplog):
    """What the logger of the host says."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.WARNING, logger.name)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    from builders.segmentation import write_scenes

    return write_scenes(tmp_path_factory.mktemp('scenes'))
