"""The tool's JSON on real configs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/analysis_tools/get_flops.py'
CONFIGS = ROOT / 'configs/ade20k'

pytest.importorskip('mmcv', reason='needs the mmseg host')
pytest.importorskip('mmseg', reason='needs the mmseg host')


@pytest.fixture
def get_flops(capsys):
    spec = importlib.util.spec_from_file_location('get_flops', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(config, *options):
        tool.main([str(CONFIGS / config), *options])
        return capsys.readouterr().out

    return run


def test_mambascope_on_ade20k():
    # In a process of its own: nothing but the JSON may reach stdout.
    run = subprocess.run(
        [
            sys.executable,
            str(TOOL),
            str(CONFIGS / 'mambascope_ti_upernet.py'),
            *('--exit-ratio', '0.25', '--json'),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert json.loads(run.stdout) == {
        'params': 12685826,
        'coarse': 1889953920,
        'fine': 6435422208,
        'reuse': 75497472,
        'shared': 31474851840,
        'mean': 1889953920 + 3 * (6435422208 + 75497472) // 4 + 31474851840,
    }


def test_vim_never_exits(get_flops):
    config = 'vim_ti_upernet.py'
    counts = json.loads(get_flops(config, '--json', '--shape', '64', '64'))
    assert (counts['coarse'], counts['reuse']) == (0, 0)
    assert counts['params'] == 12311660
    assert counts['mean'] == counts['fine'] + counts['shared']
    with pytest.raises(SystemExit, match='neither exits nor refines'):
        get_flops(config, '--exit-ratio', '0.5')


def test_exact_convention_and_ratio_reach_the_count(get_flops):
    def count(*options):
        return json.loads(
            get_flops(
                'mambascope_ti_upernet.py',
                *('--shape', '64', '64', '--json', *options),
            )
        )

    plain, exact, sparse = (
        count(),
        count('--convention', 'exact'),
        count('--refine-ratio', '0.25'),
    )
    assert exact['coarse'] > plain['coarse'] == sparse['coarse']
    assert exact['shared'] == plain['shared'] == sparse['shared']
    assert sparse['fine'] < plain['fine'] < exact['fine']


def test_table_names_what_is_not_counted(get_flops):
    printed = get_flops('mambascope_ti_upernet.py', '--shape', '64', '64')
    assert '12.686 M' in printed
    assert 'not counted: norms' in printed


@pytest.mark.parametrize('ratio', ['1.5', '-0.1', 'nan', 'half'])
@pytest.mark.parametrize('option', ['--exit-ratio', '--refine-ratio'])
def test_what_is_no_fraction_is_refused(get_flops, option, ratio, capsys):
    with pytest.raises(SystemExit):
        get_flops('mambascope_ti_upernet.py', f'{option}={ratio}')
    assert f"in [0, 1], got '{ratio}'" in capsys.readouterr().err
