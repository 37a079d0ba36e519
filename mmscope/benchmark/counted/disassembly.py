"""What instructions a GPU's machine code has, by kind.

Triton brings the disassembler.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter

# Tokens between two states that are saved.
CHUNK = 16
# The first pattern that an instruction begins with.
KINDS = {
    'exponentials': r'MUFU',
    'multiply-adds': r'FFMA|FMUL|FADD|HFMA2|FMNMX|FSEL|HADD2|HMUL2|FFMA2',
    'matrix': r'HMMA',
    'exchanges': r'SHFL|REDUX|LDSM|STSM|LDS|STS|BAR|BSYNC|BSSY|WARPSYNC',
    'loads': r'LDG|LDL|LDC|ULDC|LDCU|LD\b',
    'stores': r'STG|STL|ST\b',
    'conversions': r'F2F|I2F|F2I|I2FP|PRMT|F2FP|SHF|SHL|LOP3|USHF|ULOP3|R2UR',
    'predicates': r'ISETP|FSETP|PLOP3|P2R|R2P|UISETP|UPLOP3|SEL|USEL',
    'addresses': r'IADD3|IMAD|LEA|UIADD3|UIMAD|ULEA|VIADD|IADD',
}
OTHER = 'other'


def run_tool(name: str, *arguments: str) -> str:
    """Run one of Triton's tools; return what it prints."""
    from triton import knobs

    path = getattr(knobs.nvidia, name).path
    done = subprocess.run(
        [path, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def instructions_of(text: str) -> tuple[list[str], dict[str, int]]:
    """Return a disassembly's instructions, and the place of each label."""
    found: list[str] = []
    labels = {}
    for line in text.splitlines():
        if match := re.match(r'\s*(\.L_x_\d+):', line):
            labels[match[1]] = len(found)
        elif match := re.match(r'\s*/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;', line):
            found.append(match[1])
    return found, labels


def jumps_of(
    found: list[str], labels: dict[str, int]
) -> list[tuple[int, int]]:
    """Return from where to where the instructions jump."""
    targets = (re.search(r'\bBRA\b.*(\.L_x_\d+)', line) for line in found)
    return [(i, labels[m[1]]) for i, m in enumerate(targets) if m]


def kind_of(instruction: str) -> str:
    """Return which of ``KINDS`` a disassembled instruction is."""
    name = re.sub(r'^@!?U?P\w+\s+', '', instruction)
    kinds = (k for k, pattern in KINDS.items() if re.match(pattern, name))
    return next(kinds, OTHER)


def count_loops(
    found: list[str], jumps: list[tuple[int, int]], rare: float
) -> list[Counter]:
    """Count the innermost loops; a skipped run of stores weighs ``rare``."""
    loops = [(to, at + 1) for at, to in jumps if to <= at]
    inner = [
        a
        for a in loops
        if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)
    ]
    counts = []
    for begin, end in inner:
        weights = dict.fromkeys(range(begin, end), 1.0)
        for at, to in jumps:
            body = found[at + 1 : to]
            stores = sum(kind_of(line) == 'stores' for line in body)
            if begin <= at < to <= end and stores >= CHUNK / 2:
                weights |= dict.fromkeys(range(at + 1, to), rare)
        counts.append(Counter())
        for i, weight in weights.items():
            counts[-1][kind_of(found[i])] += weight
    return counts
