"""Random valid blocks of every weight type that Baize reads, for tests: any bit pattern whose scales are finite."""

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

# Byte offsets of the f16 scales in a block of each type.
F16_SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.MXFP4: [],
}
PLAIN = [T.F32, T.F16, T.BF16]
TYPES = [*PLAIN, *F16_SCALES]


def random_blocks(qtype: T, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` blocks as uint8 [count, bytes]. Scales are of both signs and cover the whole f16 range, subnormals and
    zeros included; infinities and NaNs are excluded because NaN payloads are not defined. For MXFP4 every exponent
    whose products are finite."""
    size = GGML_QUANT_SIZES[qtype][1]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in F16_SCALES.get(qtype, []):
        scales = rng.integers(0, 0x7C00, count, dtype=np.uint16) | rng.choice([0, 0x8000], count).astype(np.uint16)
        scales[rng.random(count) < 0.05] = 0
        blocks[:, offset : offset + 2] = scales[:, None].view(np.uint8)
    if qtype == T.MXFP4:
        blocks[:, 0] = rng.integers(0, 252, count)
    if qtype in PLAIN:
        bits = {T.F32: np.uint32, T.F16: np.uint16, T.BF16: np.uint16}[qtype]
        values = {T.F32: 0x7F800000, T.F16: 0x7C00, T.BF16: 0x7F80}[qtype]
        signs = rng.choice([0, 1], count).astype(bits) << bits(bits().itemsize * 8 - 1)
        blocks = (rng.integers(0, values, count, dtype=bits) | signs)[:, None].view(np.uint8)
    return blocks
