"""Round to nearest: the definition, in numpy, of what eqat's rtn writes from each start."""
import numpy as np

SCALES, SHRINK, GROW, REFINEMENTS = 33, np.float32(0.4), np.float32(1.05), 3


class Grid:
    """Codes 0 .. top of `bits` bits. On a symmetric grid all zeros are the middle code and scales
    have either sign."""

    def __init__(self, bits, symmetric):
        self.bits, self.symmetric = bits, symmetric
        self.top, self.middle = np.float32(2**bits - 1), np.float32(2**(bits - 1))
        self.least = np.float32(2.0**-14 if bits == 8 else 1e-4)

    def clamp(self, scale):
        if not self.symmetric:
            return np.clip(scale, self.least, np.float32(1e4))
        return np.copysign(np.clip(np.abs(scale), self.least, np.float32(1e4)), scale)


def minmax(groups, grid):
    """Scales and zeros that span the range of groups [..., g], widened to contain 0, so that the
    zero is one of the codes; on a symmetric grid the largest magnitude gets the code 0."""
    if grid.symmetric:
        at = np.abs(groups).argmax(-1)[..., None]
        scale = grid.clamp(-np.take_along_axis(groups, at, -1)[..., 0] / grid.middle)
        return scale, np.full_like(scale, grid.middle)
    low = np.minimum(groups.min(-1), np.float32(0))
    high = np.maximum(groups.max(-1), np.float32(0))
    scale = grid.clamp((high - low) / grid.top)
    return scale, np.clip(np.rint(-low / scale), 0, grid.top)


def candidates(groups, grid):
    """(scales, zeros) that the search tries, in its order; zeros of 8 bits near the range's own."""
    low = np.minimum(groups.min(-1), np.float32(0))
    high = np.maximum(groups.max(-1), np.float32(0))
    first = np.maximum(-low, high) / grid.middle if grid.symmetric else (high - low) / grid.top
    grow = GROW * grid.middle / (grid.middle - 1) if grid.symmetric else GROW
    zeros = [grid.middle] if grid.symmetric else np.arange(grid.top + 1, dtype=np.float32)
    if grid.bits == 8 and not grid.symmetric:
        span = np.where(high > low, high - low, 1)
        zeros = [np.clip(np.rint(-low / span * grid.top) + k, 0, grid.top) for k in (-1, 0, 1)]
    step = (grow - SHRINK) / np.float32(SCALES - 1)
    for sign in (1, -1)[:1 + grid.symmetric]:
        for i in range(SCALES):
            scale = np.maximum((SHRINK + step * np.float32(i)) * first, grid.least)
            for zero in zeros:
                yield np.float32(sign) * scale, np.broadcast_to(zero, scale.shape)


def grid_error(groups, weights, scale, zero, grid):
    """The weighted squared error of each group, and the best scale for its codes."""
    q = np.rint(np.clip(groups / scale[..., None], -zero[..., None], (grid.top - zero)[..., None]))
    d = q * scale[..., None] - groups
    error, cross, square = ((weights * a * b).sum(-1, dtype=np.float64)
                            for a, b in ((d, d), (groups, q), (q, q)))
    return error, np.where(square > 0, cross / np.where(square > 0, square, 1), scale)


def search(groups, weights, grid):
    """Scales and whole zeros of least error sum weights (w^ - w)^2; weights broadcast to groups."""
    scale, zero = (np.zeros(groups.shape[:-1], np.float32) for _ in range(2))
    least = np.full(scale.shape, np.inf, np.float32)
    for s, z in candidates(groups, grid):
        u = groups * (1 / s)[..., None]
        d = np.clip(np.rint(u), -z[..., None], (grid.top - z)[..., None]) - u
        loss = (weights * (d * d)).sum(-1) * (s * s)
        better = loss < least
        scale, zero, least = (np.where(better, a, b) for a, b in
                              ((s, scale), (z, zero), (loss, least)))
    error, best = grid_error(groups, weights, scale, zero, grid)
    active = np.ones(scale.shape, bool)
    for _ in range(REFINEMENTS):
        s = grid.clamp(best.astype(np.float32))
        lower, best = grid_error(groups, weights, s, zero, grid)
        active &= lower < error
        scale, error = np.where(active, s, scale), np.where(active, lower, error)
    if grid.symmetric and grid.bits == 8:  # that of ggml's Q8_0, for weights that come from there
        s = grid.clamp(np.abs(groups).max(-1) / np.float32(127))
        better = grid_error(groups, weights, s, zero, grid)[0] < error
        scale = np.where(better, s, scale)
    return scale, zero


def quantize(w, bits, group, symmetric=False, weights=None):
    """w [N, K] f32 -> codes [N, K], zeros [N, K/group], scales [N, K/group] (f32 of fp16 values).

    weights: None for the min-max start, or [K], the weight of each column in the search. Zeros come
    from the scale in f32, as at the start of training; codes from the scale as it is stored.
    """
    group = w.shape[1] if group == -1 else group
    grid, groups = Grid(bits, symmetric), w.reshape(w.shape[0], -1, group)
    exact, zero = (minmax(groups, grid) if weights is None else
                   search(groups, weights.astype(np.float32).reshape(-1, group), grid))
    scale = exact.astype(np.float16).astype(np.float32)
    code = np.clip(np.rint(groups / scale[..., None]) + zero[..., None], 0, grid.top)
    return code.astype(np.uint8).reshape(w.shape), zero.astype(np.uint8), scale
