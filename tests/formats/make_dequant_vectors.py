"""Prints the table of tests/unit/ops_dequant_test.cc: random blocks and hashes of their weights by PyPI gguf."""

import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

from gguf_blocks import F16_SCALES, TYPES, random_blocks

WIDTH = 104  # hexadecimal digits a line


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def main() -> None:
    rng = np.random.default_rng(5)
    for qtype in TYPES:
        blocks = random_blocks(qtype, 8 if GGML_QUANT_SIZES[qtype][0] == 1 else 1, rng)
        for i, offset in enumerate(F16_SCALES.get(qtype, [])):  # scales near 1, so that the values read well
            blocks[:, offset : offset + 2] = np.array([[0.75, -0.3][i]], np.float16).view(np.uint8)
        row = blocks.reshape(1, -1)
        values = dequantize(row, qtype).astype(np.float32).ravel()
        text = row.tobytes().hex()
        lines = [f'     "{text[i : i + WIDTH]}"' for i in range(0, len(text), WIDTH)]
        first = ", ".join(f"{float(v)!r}f" for v in values[:3])
        print(f"    {{GgufType::k{qtype.name}, {len(values)}, 0x{fnv1a(values.tobytes()):016x}, {{{first}}},")
        print("\n".join(lines) + "},")


if __name__ == "__main__":
    main()
