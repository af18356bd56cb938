"""Writes the committed seeds of the gguf and safetensors fuzzers with the formats' own Python packages."""

from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from safetensors.numpy import save_file

SEEDS = Path(__file__).resolve().parent / "seeds"


def write_gguf(name: str, fill) -> None:
    writer = GGUFWriter(SEEDS / "gguf" / name, "llama")
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def every_value(w: GGUFWriter) -> None:
    w.add_uint8("u8", 1), w.add_int8("i8", -1), w.add_uint16("u16", 2), w.add_int16("i16", -2)
    w.add_uint32("u32", 3), w.add_int32("i32", -3), w.add_uint64("u64", 4), w.add_int64("i64", -4)
    w.add_float32("f32", 0.5), w.add_float64("f64", 0.25), w.add_bool("bool", True), w.add_string("text", "text")
    w.add_array("ints", [1, 2, 3]), w.add_array("floats", [0.5, 1.5]), w.add_array("nested", [[1, 2], [3]])
    w.add_token_list(["<s>", "a", "b"]), w.add_token_scores([0.0, -1.0, -2.0]), w.add_token_types([3, 1, 1])


def every_type(w: GGUFWriter) -> None:
    w.add_custom_alignment(64)
    for qtype in (T.Q4_0, T.Q5_1, T.Q8_0, T.MXFP4, T.IQ4_NL, T.Q2_K, T.Q4_K, T.Q6_K):
        size = GGML_QUANT_SIZES[qtype][1]
        w.add_tensor(f"w.{qtype.name}", np.zeros((2, size), np.uint8), raw_dtype=qtype)


def plain_types(w: GGUFWriter) -> None:
    w.add_tensor("a", np.zeros((2, 3), np.float32))
    w.add_tensor("b", np.zeros((1, 2, 3), np.float16))
    w.add_tensor("c", np.zeros(4, np.uint16).view(np.uint8), raw_dtype=T.BF16)


def main() -> None:
    for folder in ("gguf", "safetensors"):
        (SEEDS / folder).mkdir(parents=True, exist_ok=True)
    write_gguf("values.gguf", every_value)
    write_gguf("blocks.gguf", every_type)
    write_gguf("plain.gguf", plain_types)
    arrays = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(5, np.float16), "ids": np.arange(3)}
    save_file(arrays, SEEDS / "safetensors" / "mixed.safetensors", metadata={"format": "pt"})
    edges = {"x": np.zeros((0, 4), np.float32), "s": np.array(1, np.float32)}
    save_file(edges, SEEDS / "safetensors" / "edges.safetensors")
    save_file({}, SEEDS / "safetensors" / "empty.safetensors")


if __name__ == "__main__":
    main()
