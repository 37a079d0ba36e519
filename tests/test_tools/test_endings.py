"""Commands that run for long end with one line when they are stopped."""

import os
import signal

import pytest
from builders.tools import load_tool

LONG = {
    **dict.fromkeys(('train', 'test', 'infer', 'hold_out'), 'parse_args'),
    **dict.fromkeys(('benchmark', 'demo', 'many_images'), 'parse_args'),
    **dict.fromkeys(('check_data', 'show_scope'), 'parse_args'),
    'show_reduction': 'picture_parser',
    'sweep_threshold': 'parse_sweep_args',
}


@pytest.mark.parametrize('name', LONG)
def test_a_command_that_is_stopped_ends_with_a_line_and_its_status(
    name, monkeypatch, capsys
):
    tool = load_tool(name)

    def stop(*args, **options):
        # Otherwise the signal would end the tests.
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(tool, LONG[name], stop)
    with pytest.raises(SystemExit) as ended:
        tool.main([])
    assert ended.value.code == 143
    assert capsys.readouterr().err.startswith('stopped by SIGTERM')
