"""FP8 weights: each published layout computes what its values mean, and what is wrong with a folder is said."""

import fp8_model
import numpy
import pytest
from fp8_model import QUANTIZERS, tensors, write

IDS = ",".join(map(str, range(3, 43)))  # more rows than the kernels for few take


def logits(baize, folder, *options):
    return numpy.array(baize.json("logits", folder, "--ids", IDS, *options)["logits"])


def nmse(got, want):
    return ((got - want) ** 2).sum() / (want**2).sum()


@pytest.mark.parametrize(("layout", "scale_type"), [*((layout, "F32") for layout in QUANTIZERS), ("channel", "BF16")])
@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_logits_are_those_of_the_values(baize, tmp_path, layout, scale_type, backend):
    fp8, plain = tensors(layout, scale_type)
    folder, same = write(tmp_path / "fp8", fp8, QUANTIZERS[layout][0]), write(tmp_path / "plain", plain)
    exact = ["--backend", backend, "--compute", "f32"]
    want = logits(baize, same, *exact)
    assert nmse(logits(baize, folder, *exact), want) < 1e-10
    assert nmse(logits(baize, folder, *exact, "--chunks", "1,3,17,19"), want) < 1e-10
    if backend == "cpu":
        assert nmse(logits(baize, folder, "--backend", backend), want) < 1e-5


# Experts, one by one and in stacks; latent attention, whose matrices are cut and turned; fused matrices.
@pytest.mark.parametrize(("case", "layout"), [("qwen3_moe", "channel"), ("granitemoe", "channel"), ("granitemoe", "tensor"),
                                              ("deepseek_v3", "block"), ("phi3", "channel")])
def test_other_families(baize, tmp_path, goldens, case, layout):
    fp8, plain, config = fp8_model.convert(goldens / case, layout)
    folder = write(tmp_path / "fp8", fp8, QUANTIZERS[layout][0], config)
    same = write(tmp_path / "plain", plain, None, config)
    exact = ["--backend", "cpu", "--compute", "f32"]
    assert nmse(logits(baize, folder, *exact), logits(baize, same, *exact)) < 1e-10


def test_inspect_names_the_format(baize, tmp_path):
    for layout, name in (("channel", "fp8"), ("block", "fp8/128")):
        folder = write(tmp_path / layout, tensors(layout)[0], QUANTIZERS[layout][0])
        weights = {w["name"]: w["format"] for w in baize.json("inspect", folder, "--backend", "cpu")["weights"]}
        assert weights["layers.0.attn.q"] == weights["layers.1.ffn.down"] == name and weights["head"] == "f32"


def test_plain_weights_are_quantised_while_they_are_loaded(baize, tmp_path):
    _, plain = tensors("channel")
    want, random = dict(plain), numpy.random.default_rng(3)
    for name, n, k in fp8_model.linears():
        w = plain[f"{name}.weight"][1] * random.uniform(0.8, 1.2, (n, k)).astype(numpy.float32)
        plain[f"{name}.weight"] = ("F32", w)
        scales = numpy.abs(w).max(axis=1, keepdims=True) / numpy.float32(448)
        want[f"{name}.weight"] = ("F32", (fp8_model.E4M3[fp8_model.encode(w / scales)] * scales).astype(numpy.float32))
    folder, same = write(tmp_path / "plain", plain), write(tmp_path / "want", want)
    exact = ["--backend", "cpu", "--compute", "f32"]
    target, original = logits(baize, same, *exact), logits(baize, folder, *exact)
    got = logits(baize, folder, *exact, "--quantize", "fp8")
    assert nmse(got, target) < 1e-5 < nmse(got, original)  # a tie may round the other way
    before, after = (baize.json("inspect", folder, "--backend", "cpu", *more) for more in ([], ["--quantize", "fp8"]))
    formats = {w["name"]: w["format"] for w in after["weights"]}
    assert formats["layers.1.ffn.up"] == "fp8" and formats["head"] == formats["embed"] == "f32"
    saved = 3 * sum(n * k for _, n, k in fp8_model.linears())
    scales = 16 * sum(n for _, n, _ in fp8_model.linears())
    assert before["memory"]["weights"] - after["memory"]["weights"] == saved - scales


Q = "model.layers.0.self_attn.q_proj"


def change(fp8, **changes):
    """The tensors with some left out (None) or replaced; names follow the first matrix's."""
    changed = fp8 | {f"{Q}.{name}": value for name, value in changes.items()}
    return {name: value for name, value in changed.items() if value is not None}


def nan_weights(fp8):
    codes = fp8[f"{Q}.weight"][1].copy()
    codes[5, 7] = 0x7F
    return change(fp8, weight=("F8_E4M3", codes))


FP8, CHANNEL = "F8_E4M3", numpy.full((192, 1), 0.5, numpy.float32)
WRONG = {  # what is changed, and words of the sentence
    "no scale": (lambda t: change(t, weight_scale=None), None, ["q_proj.weight", "weight_scale"]),
    "scales of other rows": (lambda t: change(t, weight_scale=("F32", CHANNEL[:7])), None, ["[7, 1]", "[192, 192]"]),
    "scales of columns": (lambda t: change(t, weight_scale=("F32", CHANNEL.T)), None, ["[1, 192]", "[192, 192]"]),
    "no finite scale": (lambda t: change(t, weight_scale=("F32", CHANNEL * numpy.inf)), None, ["weight_scale", "finite"]),
    "NaN weight": (nan_weights, None, ["row 5", "NaN"]),
    "a vector": (lambda t: change(t, weight=(FP8, numpy.zeros(192, numpy.uint8))), None, ["[192]"]),
    "an empty matrix": (lambda t: change(t, weight=(FP8, numpy.zeros((0, 192), numpy.uint8))), None, ["[0, 192]"]),
    "whole numbers": (lambda t: change(t, weight_scale=("I32", CHANNEL.astype(numpy.int32))), None, ["weight_scale"]),
    "other method": (dict, {"quant_method": "quark"}, ['"quark"', "compressed-tensors"]),
    "wide blocks": (dict, {"quant_method": "fp8", "weight_block_size": [64, 64]}, ["64 x 64", "128"]),
    "no blocks": (dict, {"quant_method": "fp8", "weight_block_size": [0, 128]}, ["weight_block_size", "[0,128]"]),
    "no config": (dict, {}, ["quantization_config"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_folders_get_a_sentence(baize, tmp_path, wrong):
    damage, quantizer, words = WRONG[wrong]
    folder = write(tmp_path / "wrong", damage(tensors("channel")[0]), QUANTIZERS["channel"][0] if quantizer is None else quantizer)
    done = baize.run("logits", folder, "--ids", "1,2", "--backend", "cpu")
    assert done.returncode not in (0, -6, -11) and done.stderr.startswith("baize: ") and done.stderr.count("\n") == 1, done
    assert all(word in done.stderr for word in words), done.stderr


def test_table_of_all_values():
    """The helper's own table, against values written down in the format's paper (Micikevicius et al. 2022)."""
    assert fp8_model.E4M3[[0x01, 0x07, 0x08, 0x38, 0x7E, 0xFE]].tolist() == [2**-9, 0.875 * 2**-6, 2**-6, 1, 448, -448]
