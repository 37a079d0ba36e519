"""Images wait for the model, and the model for images, no longer than told."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mmscope.inference.intake import Intake, NotReady, Ticket
from mmscope.inference.reading import ImageReader


class SlowReader:
    """Decodes for three seconds."""

    @staticmethod
    def must_decode(image):
        return True

    def __call__(self, number, image):
        time.sleep(3)
        return {}


def test_waiting_for_an_image_and_for_its_decoding_share_the_time():
    intake = Intake(SlowReader(), num_workers=1, ahead=2)
    late = threading.Timer(1.0, intake.put, (Ticket(0), np.zeros(1)))
    try:
        late.start()
        start = time.monotonic()
        with pytest.raises(NotReady):
            intake.get(1.2)
        assert 1.0 < time.monotonic() - start < 2.0
    finally:
        late.join()
        intake.close()


def decode(method, pids, outlived):
    """Have a process that decodes, and perhaps one that was forked later.

    Args:
        method (str): How the first one starts.
        pids (Connection): Gets theirs.
        outlived (bool): Whether there is the second.
    """
    multiprocessing.set_start_method(method, force=True)
    intake = Intake(ImageReader(), num_workers=1, ahead=4)
    found = [child.pid for child in multiprocessing.active_children()]
    if outlived:
        context = multiprocessing.get_context('fork')
        other = context.Process(target=time.sleep, args=(60,))
        other.start()
        found.append(other.pid)
    pids.send(found)
    time.sleep(60)
    intake.close()


@pytest.mark.skipif(
    not os.path.exists('/proc/self/cwd'), reason='looks for ends in /proc'
)
@pytest.mark.parametrize(
    ('method', 'outlived'),
    [
        ('fork', False),
        ('fork', True),
        # It imports PyTorch anew.
        pytest.param('spawn', True, marks=pytest.mark.slow),
    ],
)
def test_a_process_ends_with_its_parent_that_is_killed(method, outlived):
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context('fork')
    parent = context.Process(target=decode, args=(method, theirs, outlived))
    parent.start()
    assert ours.poll(60)
    decoder, *others = ours.recv()
    parent.kill()
    parent.join()
    try:
        deadline = time.monotonic() + 20
        # One that nobody waits for has no folder of its own any more.
        while Path(f'/proc/{decoder}/cwd').exists():
            assert time.monotonic() < deadline, 'it goes on'
            time.sleep(0.05)
    finally:
        for pid in others:
            os.kill(pid, signal.SIGKILL)
