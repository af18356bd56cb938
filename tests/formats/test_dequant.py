"""Every weight type's dequantisation equals PyPI gguf's quants.dequantize, bit for bit, on random valid blocks."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

from gguf_blocks import TYPES, random_blocks

ROOT = Path(__file__).resolve().parents[2]
TOOL = Path(os.environ.get("BAIZE", ROOT / "build" / "baize")).parent / "tests" / "dequant_tool"
BLOCKS_A_ROW, ROWS = 8, 256


@pytest.mark.parametrize("qtype", TYPES, ids=lambda t: t.name)
def test_equals_gguf(qtype):
    elems, size = GGML_QUANT_SIZES[qtype]
    blocks = random_blocks(qtype, ROWS * BLOCKS_A_ROW, np.random.default_rng(int(qtype)))
    rows = blocks.reshape(ROWS, BLOCKS_A_ROW * size)
    expected = dequantize(rows, qtype).astype(np.float32)
    run = subprocess.run(
        [TOOL, str(int(qtype)), str(elems * BLOCKS_A_ROW)], input=rows.tobytes(), capture_output=True, check=True
    )
    got = np.frombuffer(run.stdout, np.float32).reshape(expected.shape)
    assert np.isfinite(expected).all() and len(np.unique(expected)) > 100  # the blocks say something
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))
