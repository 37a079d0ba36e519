"""Images wait for the model, and the model for images, no longer than told."""

import threading
import time

import numpy as np
import pytest

from mmscope.inference.intake import Intake, NotReady, Ticket


class SlowReader:
    """Decodes for a second."""

    @staticmethod
    def must_decode(image):
        return True

    def __call__(self, number, image):
        time.sleep(1)
        return {}


def test_waiting_for_an_image_and_for_its_decoding_share_the_time():
    intake = Intake(SlowReader(), num_workers=1, ahead=2)
    late = threading.Timer(0.25, intake.put, (Ticket(0), np.zeros(1)))
    try:
        late.start()
        start = time.monotonic()
        with pytest.raises(NotReady):
            intake.get(0.3)
        assert 0.25 < time.monotonic() - start < 0.5
    finally:
        late.join()
        intake.close()
