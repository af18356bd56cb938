"""Random weights in every GGUF type that Baize computes with: random bits, with scales that give a wanted spread."""

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import IQ4_NL, MXFP4, quantize

IQ4_SPREAD = float(np.std(IQ4_NL.kvalues))
MXFP4_SPREAD = float(np.std(MXFP4.kvalues))
U64_RMS = 36.5  # root mean square of 0..63
U16_RMS = 8.8  # of 0..15
S64_RMS, S256_RMS = 18.5, 73.9  # of -32..31 and -128..127

# Types whose blocks are random but for one f16 scale: its offset, and the spread of a weight when the scale is 1.
ONE_SCALE = {
    T.Q4_0: (0, 4.64), T.Q5_0: (0, 9.25), T.Q8_0: (0, S256_RMS), T.IQ4_NL: (0, IQ4_SPREAD),
    T.Q3_K: (108, S64_RMS * 2.35), T.Q6_K: (208, S256_RMS * S64_RMS), T.IQ4_XS: (0, S64_RMS * IQ4_SPREAD),
}  # fmt: skip
# Types with a minimum: offsets of scale and minimum, the middle of the integers, and the spread when the scale is 1.
SCALE_AND_MIN = {
    T.Q4_1: (0, 2, -7.5, 4.61), T.Q5_1: (0, 2, -15.5, 9.23), T.Q2_K: (80, 82, 1.5, U16_RMS * 1.118),
    T.Q4_K: (0, 2, 7.5, U64_RMS * 4.61), T.Q5_K: (0, 2, 15.5, U64_RMS * 9.23),
}  # fmt: skip
PLAIN = (T.F32, T.F16, T.BF16)
TYPES = (*PLAIN, *ONE_SCALE, *SCALE_AND_MIN, T.MXFP4)

# What llama.cpp takes instead when a row is no multiple of the block.
FALLBACK = {T.Q2_K: T.Q4_0, T.Q3_K: T.Q4_0, T.Q4_K: T.Q5_0, T.Q5_K: T.Q5_1, T.Q6_K: T.Q8_0, T.IQ4_XS: T.IQ4_NL}


def fitting_type(qtype: T, k: int) -> T:
    """`qtype`, or the nearest type whose blocks divide a row of k weights."""
    while k % GGML_QUANT_SIZES[qtype][0]:
        qtype = FALLBACK.get(qtype, T.F16)
    return qtype


def row_bytes(qtype: T, k: int) -> int:
    elems, size = GGML_QUANT_SIZES[qtype]
    return k // elems * size


def random_rows(qtype: T, rows: int, k: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    """[rows, row_bytes] of uint8: weights of about zero mean and the standard deviation `spread`."""
    if qtype in PLAIN:
        values = rng.standard_normal((rows, k), np.float32) * np.float32(spread)
        return quantize(values, qtype).view(np.uint8).reshape(rows, -1)
    elems, size = GGML_QUANT_SIZES[qtype]
    count = rows * k // elems
    blocks = rng.integers(0, 256, (count, size), np.uint8)
    scales = spread * rng.uniform(0.5, 1.4, count) * rng.choice((-1.0, 1.0), count)

    def put(offset: int, values: np.ndarray) -> None:
        blocks[:, offset : offset + 2] = values.astype(np.float16)[:, None].view(np.uint8)

    if qtype in ONE_SCALE:
        offset, unit = ONE_SCALE[qtype]
        put(offset, scales / unit)
    elif qtype in SCALE_AND_MIN:
        offset, min_offset, middle, unit = SCALE_AND_MIN[qtype]
        put(offset, scales / unit)
        put(min_offset, scales / unit * middle)
        _equal_scales_and_mins(qtype, blocks)
    else:  # MXFP4: a power of two, the integers doubled
        exponent = np.round(np.log2(np.abs(scales) / MXFP4_SPREAD)) + 128
        blocks[:, 0] = exponent.clip(1, 254)
    return blocks.reshape(rows, -1)


def _equal_scales_and_mins(qtype: T, blocks: np.ndarray) -> None:
    """Gives each group of a super-block the same integer scale and minimum, so that its weights have zero mean."""
    if qtype == T.Q2_K:
        blocks[:, :16] = (blocks[:, :16] & 15) * 17
    elif qtype in (T.Q4_K, T.Q5_K):
        blocks[:, 8:12] = blocks[:, 4:8]
        blocks[:, 12:16] = (blocks[:, 12:16] & 15) * 17
