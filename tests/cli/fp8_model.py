"""Tiny llama folders with FP8 weights in each layout that is published, and the same weights as plain floats.

Written without the program's help: e4m3 values are made from the definition of the format, quantised weights are found
in the table of all values, and files are written byte by byte."""

import json
import struct

import numpy

HIDDEN, FF, VOCAB, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 192, 320, 96, 2, 4, 2, 48
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FF,
    "vocab_size": VOCAB, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 128,
    "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
E4M3 = numpy.array([(-1) ** (c >> 7) * ((c & 7) / 8 * 2.0**-6 if c >> 3 & 15 == 0 else (1 + (c & 7) / 8) * 2.0 ** ((c >> 3 & 15) - 7))
                    for c in range(256)])
E4M3[[0x7F, 0xFF]] = numpy.nan
POSITIVE = E4M3[:0x7F]
BLOCK = 128


def encode(values):
    """The nearest codes of values of at most 448."""
    size = numpy.abs(values)
    above = numpy.searchsorted(POSITIVE, size).clip(1, len(POSITIVE) - 1)
    nearest = numpy.where(size - POSITIVE[above - 1] < POSITIVE[above] - size, above - 1, above)
    return (nearest + 128 * (values < 0)).astype(numpy.uint8)


def linears():
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for name, n, k in (("self_attn.q_proj", q, HIDDEN), ("self_attn.k_proj", kv, HIDDEN),
                           ("self_attn.v_proj", kv, HIDDEN), ("self_attn.o_proj", HIDDEN, q), ("mlp.gate_proj", FF, HIDDEN),
                           ("mlp.up_proj", FF, HIDDEN), ("mlp.down_proj", HIDDEN, FF)):
            yield f"{at}{name}", n, k


def spread(scales, n, k):
    """The scales of a matrix, one a weight."""
    scales = numpy.asarray(scales, numpy.float32)
    if scales.size == 1:
        return numpy.full((n, k), scales.reshape(()))
    if scales.shape == (n, 1):
        return numpy.broadcast_to(scales, (n, k))
    return scales.repeat(BLOCK, 0)[:n].repeat(BLOCK, 1)[:, :k]


def largest(w, layout):
    """The largest magnitudes that share a scale, in the shape of the scales."""
    if layout == "tensor":
        return numpy.abs(w).max().reshape(())
    if layout == "channel":
        return numpy.abs(w).max(axis=1, keepdims=True)
    n, k = w.shape
    rows, columns = -(-n // BLOCK), -(-k // BLOCK)
    return numpy.array([[numpy.abs(w[r * BLOCK : r * BLOCK + BLOCK, c * BLOCK : c * BLOCK + BLOCK]).max()
                         for c in range(columns)] for r in range(rows)])


QUANTIZERS = {
    "tensor": ({"quant_method": "fp8", "activation_scheme": "static"}, "weight_scale"),
    "channel": ({"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
                 "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                     "num_bits": 8, "type": "float", "strategy": "channel", "dynamic": False}}}}, "weight_scale"),
    "fbgemm": ({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, "weight_scale"),
    "block": ({"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]},
              "weight_scale_inv"),
}


def bf16(values):
    """Rounded to bfloat16 towards zero, which loses nothing that matters here."""
    return (numpy.asarray(values, numpy.float32).view(numpy.uint32) >> 16).astype(numpy.uint16)


def tensors(layout, scale_type="F32"):
    """The tensors of a checkpoint, {name: (type, array)}, and of one with the same weights as F32."""
    random = numpy.random.default_rng(7)
    fp8, plain = {}, {}

    def both(name, values):
        fp8[name] = plain[name] = ("F32", values.astype(numpy.float32))

    both("model.embed_tokens.weight", random.normal(size=(VOCAB, HIDDEN)))
    both("lm_head.weight", random.normal(size=(VOCAB, HIDDEN)) * 0.1)
    both("model.norm.weight", random.uniform(0.5, 1.5, HIDDEN))
    for layer in range(LAYERS):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            both(f"model.layers.{layer}.{norm}.weight", random.uniform(0.5, 1.5, HIDDEN))
    for name, n, k in linears():
        # Rows, and stretches of columns, of very different size: a scale at the wrong place shows.
        w = random.normal(size=(n, k)) * 2.0 ** random.integers(-4, 2, (n, 1)) * 2.0 ** (numpy.arange(k) // 64 % 3) * 0.05
        scales = (largest(w, "channel" if layout == "fbgemm" else layout) / 448 * 1.01).astype(numpy.float32)
        stored = scales
        if scale_type == "BF16":
            stored = bf16(scales)
            scales = (stored.astype(numpy.uint32) << 16).view(numpy.float32)
        codes = encode((w / spread(scales, n, k)).clip(-448, 448))
        fp8[f"{name}.weight"] = ("F8_E4M3", codes)
        fp8[f"{name}.{QUANTIZERS[layout][1]}"] = (scale_type, stored)
        if layout == "tensor":
            fp8[f"{name}.input_scale"] = ("F32", numpy.float32(0.01))
        plain[f"{name}.weight"] = ("F32", (E4M3[codes].astype(numpy.float32) * spread(scales, n, k)).astype(numpy.float32))
    return fp8, plain


def convert(golden, layout):
    """The golden case's tensors with its matrices, and stacks of them, in FP8, and the same values as F32."""
    raw = (golden / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    fp8, plain = {}, {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        data = raw[8 + length + begin : 8 + length + end]
        values = (numpy.frombuffer(data, numpy.uint16).astype(numpy.uint32) << 16).view(numpy.float32).reshape(entry["shape"])
        stays = values.ndim < 2 or "layers." not in name or name.endswith(("gate.weight", "router.layer.weight"))
        if stays:
            fp8[name] = plain[name] = ("F32", values)
            continue
        each = values if values.ndim == 3 else values[None]
        scales = numpy.array([largest(w, layout) / 448 for w in each], numpy.float32)
        codes = numpy.array([encode((w / spread(s, *w.shape)).clip(-448, 448)) for w, s in zip(each, scales)])
        same = numpy.array([E4M3[c].astype(numpy.float32) * spread(s, *c.shape) for c, s in zip(codes, scales)], numpy.float32)
        fp8[name] = ("F8_E4M3", codes.reshape(values.shape))
        end = QUANTIZERS[layout][1].removeprefix("weight")
        fp8[name + end] = ("F32", scales if values.ndim == 3 else scales[0])
        plain[name] = ("F32", same.reshape(values.shape))
    return fp8, plain, json.loads((golden / "config.json").read_text())


def write(folder, tensors, quantizer=None, config=CONFIG):
    """A model folder of these tensors."""
    folder.mkdir(exist_ok=True)
    header, data = {}, b""
    for name, (kind, array) in tensors.items():
        raw = numpy.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": kind, "shape": list(numpy.shape(array)), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = config | ({"quantization_config": quantizer} if quantizer else {})
    (folder / "config.json").write_text(json.dumps(config))
    return folder
