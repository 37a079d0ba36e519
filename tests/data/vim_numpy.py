"""ViM in NumPy, float64, one token at a time: a second, independent truth.

Written from the formulas (ViM, arXiv:2401.09417, Algorithm 1; Mamba,
arXiv:2312.00752, Eq. 2), not from our modules. Run as a script, it writes the
parity fixture:

    python tests/data/vim_numpy.py tests/data/vim_parity.npz
"""

from __future__ import annotations

import sys

import numpy as np

EMBED, DEPTH, PATCH, STATES, WIDTH, RANK = 24, 3, 8, 16, 4, 2
INNER = 2 * EMBED
IMAGE = (40, 24)


def silu(x):
    return x / (1 + np.exp(-x))


def rms_norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


def direction(x, z, sd, key, suffix):
    """One scan over (L, d_inner), gated by silu(z)."""
    a_log = sd[f'{key}A_b_log' if suffix else f'{key}A_log']
    states = a_log.shape[1]
    weight = sd[f'{key}conv1d{suffix}.weight'][:, 0]
    padded = np.concatenate([np.zeros((weight.shape[1] - 1, x.shape[1])), x])
    u = np.stack(
        [
            (padded[t : t + weight.shape[1]] * weight.T).sum(0)
            for t in range(len(x))
        ]
    )
    u = silu(u + sd[f'{key}conv1d{suffix}.bias'])
    mixed = u @ sd[f'{key}x_proj{suffix}.weight'].T
    rank = mixed.shape[1] - 2 * states
    dt = mixed[:, :rank] @ sd[f'{key}dt_proj{suffix}.weight'].T
    dt = np.log1p(np.exp(dt + sd[f'{key}dt_proj{suffix}.bias']))
    b, c = mixed[:, rank : rank + states], mixed[:, rank + states :]
    state = np.zeros_like(a_log)
    out = []
    for t in range(len(x)):
        decay = np.exp(-dt[t][:, None] * np.exp(a_log))
        state = decay * state + (dt[t] * u[t])[:, None] * b[t]
        out.append(state @ c[t] + sd[f'{key}D{suffix}'] * u[t])
    return np.stack(out) * silu(z)


def mixer(tokens, sd, key):
    x, z = np.split(tokens @ sd[f'{key}in_proj.weight'].T, 2, axis=1)
    forward = direction(x, z, sd, key, '')
    backward = direction(x[::-1], z[::-1], sd, key, '_b')[::-1]
    return (forward + backward) / 2 @ sd[f'{key}out_proj.weight'].T


def features(image, sd, patch):
    """Cls token after the final norm for one image (C, H, W)."""
    weight = sd['patch_embed.proj.weight']
    rows, columns = image.shape[1] // patch, image.shape[2] // patch
    tokens = [
        (
            image[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch]
            * weight
        ).sum((1, 2, 3))
        + sd['patch_embed.proj.bias']
        for r in range(rows)
        for c in range(columns)
    ]
    middle = len(tokens) // 2
    tokens.insert(middle, sd['cls_token'][0, 0])
    x = np.stack(tokens) + sd['pos_embed'][0]
    residual = np.zeros_like(x)
    depth = sum(key.endswith('mixer.in_proj.weight') for key in sd)
    for i in range(depth):
        residual = residual + x
        normed = rms_norm(residual, sd[f'layers.{i}.norm.weight'])
        x = mixer(normed, sd, f'layers.{i}.mixer.')
    return rms_norm(residual + x, sd['norm_f.weight'])[middle]


def random_weights(rng):
    cells = IMAGE[0] // PATCH * (IMAGE[1] // PATCH)

    def normal(*shape):
        return rng.normal(0, 0.2, shape)

    sd = {
        'cls_token': normal(1, 1, EMBED),
        'pos_embed': normal(1, cells + 1, EMBED),
        'patch_embed.proj.weight': normal(EMBED, 3, PATCH, PATCH),
        'patch_embed.proj.bias': normal(EMBED),
        'norm_f.weight': 1 + normal(EMBED),
    }
    for i in range(DEPTH):
        sd[f'layers.{i}.norm.weight'] = 1 + normal(EMBED)
        key = f'layers.{i}.mixer.'
        sd[f'{key}in_proj.weight'] = normal(2 * INNER, EMBED)
        sd[f'{key}out_proj.weight'] = normal(EMBED, INNER)
        for suffix in ('', '_b'):
            sd[f'{key}conv1d{suffix}.weight'] = normal(INNER, 1, WIDTH)
            sd[f'{key}conv1d{suffix}.bias'] = normal(INNER)
            out = RANK + 2 * STATES
            sd[f'{key}x_proj{suffix}.weight'] = normal(out, INNER)
            sd[f'{key}dt_proj{suffix}.weight'] = normal(INNER, RANK)
            sd[f'{key}dt_proj{suffix}.bias'] = normal(INNER) - 3
            sd[f'{key}A{suffix}_log'] = normal(INNER, STATES)
            sd[f'{key}D{suffix}'] = normal(INNER)
    return {k: v.astype(np.float32) for k, v in sd.items()}


def main():
    rng = np.random.default_rng(0)
    sd = random_weights(rng)
    images = rng.normal(size=(2, 3, *IMAGE)).astype(np.float32)
    exact = {k: v.astype(np.float64) for k, v in sd.items()}
    out = np.stack([features(i.astype(float), exact, PATCH) for i in images])
    np.savez_compressed(
        sys.argv[1],
        x=images,
        features=out,
        **{f'sd/{k}': v for k, v in sd.items()},
    )


if __name__ == '__main__':
    main()
