"""Print what sums over channels on the matrix unit lose, without a GPU.

    python tools/analysis_tools/tf32_sums.py [--dim 768] [--seqlen 197]

The backward of a bfloat16 scan sums the gradients of B and C over channels:
32 of a program, then the programs' parts in float32. Here the terms are those
of a scan's gradient; their sums in float32 ('before') and with each term cut
to tf32 as the matrix unit reads it ('after') are compared with float64's by
relative root mean square, as they are and after the last step, to bfloat16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmscope.cli.arguments import tool_parser
from mmscope.evaluation.tables import Column, format_table
from mmscope.testing import doubled, relative_rms, scan_inputs

PROGRAM = 32
# Of a float32's 23 bits of fraction tf32 has 10.
CUT_BITS = 13
COLUMNS = (
    Column('name', 'gradient of'),
    Column('sums', 'sums'),
    Column('float32', 'error of float32', '.2e'),
    Column('bfloat16', 'error after bfloat16', '.2e'),
)


def cut(x: Tensor) -> Tensor:
    """Cut float32 to tf32, toward zero."""
    return (x.view(torch.int32) >> CUT_BITS << CUT_BITS).view(torch.float32)


def channel_terms(inputs: dict[str, Tensor], grad: Tensor) -> dict:
    """Compute what each channel adds to the gradients of B and C.

    Args:
        inputs (dict[str, Tensor]): One sequence's; all but u, delta, A, B, C
            and delta_bias are left out.
        grad (Tensor): Gradient of the output, (seqlen, dim).

    Returns:
        dict: 'B' and 'C', (seqlen, d_state, dim).
    """
    u, delta, B, C = (inputs[k][0] for k in ('u', 'delta', 'B', 'C'))
    step = F.softplus(delta + inputs['delta_bias'])[:, None]
    decay, drive = (step * inputs['A'].mT).exp(), step * u[:, None]
    state, carry = torch.zeros_like(decay[0]), torch.zeros_like(decay[0])
    terms = {'B': torch.empty_like(decay), 'C': torch.empty_like(decay)}
    for t in range(len(u)):
        state = decay[t] * state + drive[t] * B[t][:, None]
        terms['C'][t] = state * grad[t]
    for t in reversed(range(len(u))):
        found = carry + C[t][:, None] * grad[t]
        terms['B'][t] = found * drive[t]
        carry = decay[t] * found
    return terms


def in_programs(terms: Tensor) -> Tensor:
    """Sum the channels of each program, then the programs."""
    return terms.unflatten(-1, (-1, PROGRAM)).sum(-1).sum(-1)


def compare(dim: int, seqlen: int, d_state: int) -> list[dict]:
    """Make the rows of the table."""
    sizes = dict(batch=1, seqlen=seqlen, dim=dim, d_state=d_state)
    inputs = scan_inputs(**sizes, dtype=torch.bfloat16)
    grad = torch.randn(seqlen, dim, generator=torch.Generator().manual_seed(1))
    truth = channel_terms(doubled(inputs), grad.double())
    inputs = {name: x.float() for name, x in inputs.items()}
    rows = []
    for name, terms in channel_terms(inputs, grad).items():
        exact = truth[name].sum(-1)
        for sums, used in (('before', terms), ('after', cut(terms))):
            found = in_programs(used)
            rounded = found.bfloat16()
            rows.append(
                dict(
                    name=name,
                    sums=sums,
                    float32=relative_rms(found, exact),
                    bfloat16=relative_rms(rounded, exact),
                )
            )
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Run the tool."""
    parser = tool_parser(__doc__)
    parser.add_argument('--dim', type=int, default=768)
    parser.add_argument('--seqlen', type=int, default=197)
    args = parser.parse_args(arguments)
    if args.dim % PROGRAM:
        parser.error(f'--dim must be a multiple of {PROGRAM}, got {args.dim}')
    print(format_table(compare(args.dim, args.seqlen, 16), COLUMNS))
