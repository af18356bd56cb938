"""GGUF files of known model shapes with random weights: for speed measurements and tests, not for talking to."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType as T, LlamaFileType, TokenType

from ggufmake.blocks import PLAIN, fitting_type, random_rows, row_bytes


@dataclass(frozen=True)
class Shape:
    arch: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    theta: float
    eps: float = 1e-5
    tied: bool = True
    qk_norm: bool = False
    rope_factor: float = 0  # of llama3 scaling, from a context of 8192; 0 without


SHAPES = {
    "llama-3.2-1b": Shape("llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072, 5e5, rope_factor=32),
    "llama-3.2-3b": Shape("llama", 28, 3072, 8192, 24, 8, 128, 128256, 131072, 5e5, rope_factor=32),
    "llama-3.1-8b": Shape("llama", 32, 4096, 14336, 32, 8, 128, 128256, 131072, 5e5, tied=False, rope_factor=8),
    "smollm2-135m": Shape("llama", 30, 576, 1536, 9, 3, 64, 49152, 8192, 1e5),
    "qwen3-0.6b": Shape("qwen3", 28, 1024, 3072, 16, 8, 128, 151936, 40960, 1e6, eps=1e-6, qk_norm=True),
    "tiny": Shape("llama", 2, 256, 512, 4, 2, 64, 1024, 4096, 1e4),
}


def tensor_shapes(s: Shape) -> list[tuple[str, tuple[int, ...], float]]:
    """(name, shape outermost first, spread) of every tensor; spread 0 marks a norm. Keeps activations near 1."""
    q, kv, residual = s.heads * s.head_dim, s.kv_heads * s.head_dim, (2 * s.layers) ** -0.5
    tensors = [("token_embd.weight", (s.vocab, s.hidden), 0.02)]
    for i in range(s.layers):
        layer = [("attn_norm", (s.hidden,), 0.0), ("ffn_norm", (s.hidden,), 0.0)]
        if s.qk_norm:
            layer += [("attn_q_norm", (s.head_dim,), 0.0), ("attn_k_norm", (s.head_dim,), 0.0)]
        layer += [
            ("attn_q", (q, s.hidden), s.hidden**-0.5),
            ("attn_k", (kv, s.hidden), s.hidden**-0.5),
            ("attn_v", (kv, s.hidden), s.hidden**-0.5),
            ("attn_output", (s.hidden, q), q**-0.5 * residual),
            ("ffn_gate", (s.ffn, s.hidden), s.hidden**-0.5),
            ("ffn_up", (s.ffn, s.hidden), s.hidden**-0.5),
            ("ffn_down", (s.hidden, s.ffn), s.ffn**-0.5 * residual),
        ]
        tensors += [(f"blk.{i}.{name}.weight", shape, spread) for name, shape, spread in layer]
    tensors.append(("output_norm.weight", (s.hidden,), 0.0))
    if not s.tied:
        tensors.append(("output.weight", (s.vocab, s.hidden), s.hidden**-0.5))
    return tensors


def weight_type(mix: str, name: str, shape: Shape, k: int) -> T:
    """The type of a weight in a mixture: a GGUF type for all of them, or llama.cpp's Q4_0, Q4_K_M or Q5_K_M."""
    base = T[mix.removesuffix("_M")]
    chosen = base
    part = name.split(".")[-2]
    is_head = part == ("token_embd" if shape.tied else "output")
    if is_head and (mix.endswith("_M") or mix == "Q4_0"):
        chosen = T.Q6_K
    elif mix.endswith("_M") and part in ("attn_v", "ffn_down"):
        layer, eighth = int(name.split(".")[1]), shape.layers // 8
        if layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2:
            chosen = T.Q6_K
    return fitting_type(chosen, k)


def rope_freq_divisors(theta: float, dims: int, factor: float, low=1.0, high=4.0, context=8192) -> np.ndarray:
    """What llama3 scaling divides each rotary frequency by, f32 [dims / 2]. Source: Llama 3.1's reference code."""
    frequency = 1.0 / theta ** (np.arange(0, dims, 2, dtype=np.float32) / dims)
    turns = context * frequency / (2 * np.pi)  # full turns within the original context
    smooth = ((turns - low) / (high - low)).clip(0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def write_random(path: Path, shape: Shape, mix: str, seed: int = 1, split: int = 0) -> None:
    """Writes the file; `split` > 0 starts a new part after so many tensors."""
    rng = np.random.default_rng(seed)
    writer = GGUFWriter(path, shape.arch, split_max_tensors=split)
    add_metadata(writer, shape, mix)
    add_vocabulary(writer, shape.vocab)
    tensors = tensor_shapes(shape)
    for name, dims, spread in tensors:
        if spread:
            qtype = weight_type(mix, name, shape, dims[-1])
            size = row_bytes(qtype, dims[-1])
            writer.add_tensor_info(name, (dims[0], size), np.dtype(np.uint8), dims[0] * size, raw_dtype=qtype)
        else:
            writer.add_tensor_info(name, dims, np.dtype(np.float32), 4 * dims[0])
    if shape.rope_factor:
        writer.add_tensor_info("rope_freqs.weight", (shape.head_dim // 2,), np.dtype(np.float32), 2 * shape.head_dim)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, dims, spread in tensors:  # one at a time: the whole model need not fit in memory
        if spread:
            data = random_rows(weight_type(mix, name, shape, dims[-1]), *dims, spread, rng)
        else:
            data = 1 + 0.1 * rng.standard_normal(dims, np.float32)
        writer.write_tensor_data(data)
    if shape.rope_factor:
        writer.write_tensor_data(rope_freq_divisors(shape.theta, shape.head_dim, shape.rope_factor))
    writer.close()


def add_metadata(w: GGUFWriter, s: Shape, mix: str) -> None:
    w.add_name(f"random {s.arch} {s.hidden}x{s.layers} {mix}")
    w.add_block_count(s.layers)
    w.add_context_length(s.context)
    w.add_embedding_length(s.hidden)
    w.add_feed_forward_length(s.ffn)
    w.add_head_count(s.heads)
    w.add_head_count_kv(s.kv_heads)
    w.add_key_length(s.head_dim)
    w.add_value_length(s.head_dim)
    w.add_layer_norm_rms_eps(s.eps)
    w.add_rope_freq_base(s.theta)
    w.add_rope_dimension_count(s.head_dim)
    w.add_vocab_size(s.vocab)
    file_type = "ALL_F32" if mix == "F32" else f"MOSTLY_{mix}"
    if file_type in LlamaFileType.__members__:
        w.add_file_type(LlamaFileType[file_type])
    if T[mix.removesuffix("_M")] not in PLAIN:
        w.add_quantization_version(2)


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in the order of the bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def synthetic_bpe(size: int) -> tuple[list[str], list[str]]:
    """`size` byte-level BPE tokens (the 256 bytes first) and the merges that make all others."""
    tokens, merges = byte_symbols(), []
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    known = set(tokens)
    starts, level = ["Ġ", *letters], ["Ġ", *letters]
    while len(tokens) < size:
        longer = []
        for left in level:
            for right in letters:
                if len(tokens) == size:
                    return tokens, merges
                if left + right in known:
                    continue
                known.add(left + right)
                tokens.append(left + right)
                merges.append(f"{left} {right}")
                longer.append(left + right)
        level = longer or starts
    return tokens, merges


def add_vocabulary(w: GGUFWriter, size: int) -> None:
    """A byte-level BPE vocabulary that encodes any text, with Llama 3's kind of special tokens at its end."""
    n_special = 256 if size >= 2048 else 16
    tokens, merges = synthetic_bpe(size - n_special)
    names = {0: "begin_of_text", 1: "end_of_text", 6: "start_header_id", 7: "end_header_id", 9: "eot_id"}
    first = len(tokens)
    tokens += [f"<|{names.get(i, f'reserved_{i}')}|>" for i in range(n_special)]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("llama-bpe")
    w.add_token_list(tokens)
    w.add_token_types([TokenType.NORMAL] * first + [TokenType.CONTROL] * n_special)
    w.add_token_merges(merges)
    w.add_bos_token_id(first)
    w.add_eos_token_id(first + 9)
    w.add_add_bos_token(True)
    w.add_chat_template(
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}"
        "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    )


def shape_with(name: str, **changes) -> Shape:
    """A named shape with some sizes changed."""
    return replace(SHAPES[name], **{key: value for key, value in changes.items() if value is not None})
