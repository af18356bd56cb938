#!/usr/bin/env python3
"""Makes GGUF files with PyPI gguf.

  make_gguf.py random OUT.gguf --shape llama-3.2-1b --mix Q4_K_M     random weights in a known model's shape
  make_gguf.py from-hf FOLDER OUT.gguf --type BF16                   a Hugging Face folder with safetensors, converted

`random` writes valid blocks with scales that keep activations near 1, and a byte-level BPE vocabulary. --mix is any
weight type that Baize computes with, for all matrices, or one of llama.cpp's mixtures Q4_0 (head in Q6_K), Q4_K_M and
Q5_K_M. Sizes can be changed one by one. `from-hf` writes no vocabulary. With --split N, N tensors go into each part.
"""

import argparse
from dataclasses import fields
from pathlib import Path

from gguf.constants import GGMLQuantizationType as T

from ggufmake.blocks import TYPES
from ggufmake.from_hf import convert
from ggufmake.random_model import SHAPES, Shape, shape_with, write_random

# What PyPI gguf can quantise to.
CONVERTED = (T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.MXFP4)
SIZES = [f.name for f in fields(Shape) if f.type is int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    random = commands.add_parser("random", help="random weights in a known shape")
    random.add_argument("out", type=Path)
    random.add_argument("--shape", choices=SHAPES, default="llama-3.2-1b")
    random.add_argument("--mix", choices=[*(t.name for t in TYPES), "Q4_K_M", "Q5_K_M"], default="Q4_0")
    random.add_argument("--seed", type=int, default=1)
    for size in SIZES:
        random.add_argument(f"--{size.replace('_', '-')}", type=int)
    hf = commands.add_parser("from-hf", help="convert a Hugging Face folder")
    hf.add_argument("folder", type=Path)
    hf.add_argument("out", type=Path)
    hf.add_argument("--type", choices=[t.name for t in CONVERTED], default="BF16", help="of all matrices")
    for command in (random, hf):
        command.add_argument("--split", type=int, default=0, metavar="N", help="tensors a part")
    a = parser.parse_args()
    if a.command == "random":
        shape = shape_with(a.shape, **{size: getattr(a, size) for size in SIZES})
        write_random(a.out, shape, a.mix, a.seed, a.split)
    else:
        convert(a.folder, a.out, T[a.type], a.split)


if __name__ == "__main__":
    main()
