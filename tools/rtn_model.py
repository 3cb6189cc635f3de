"""Round to nearest on a min-max grid: the definition, in numpy, of what eqat's rtn writes."""
import numpy as np


def quantize(w, bits, group):
    """w [N, K] f32 -> codes [N, K], zeros [N, K/group], scales [N, K/group] (f32 of fp16 values).

    The range of a group is widened to contain 0, so that the zero is one of the codes. Zeros come
    from the scale in f32, as at the start of training; codes from the scale as it is stored.
    """
    top = np.float32(2**bits - 1)
    groups = w.reshape(w.shape[0], -1, group)
    low = np.minimum(groups.min(-1), np.float32(0))
    high = np.maximum(groups.max(-1), np.float32(0))
    least = np.float32(2.0**-14 if bits == 8 else 1e-4)
    exact = np.maximum((high - low) / top, least)
    zero = np.clip(np.rint(-low / exact), 0, top)
    scale = exact.astype(np.float16).astype(np.float32)
    code = np.clip(np.rint(groups / scale[..., None]) + zero[..., None], 0, top)
    return code.astype(np.uint8).reshape(w.shape), zero.astype(np.uint8), scale
