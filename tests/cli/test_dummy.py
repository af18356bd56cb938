"""Real configurations without weights: `--load dummy` on bench/configs, whose parameters are known from elsewhere."""

import functools
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bench/configs"
SOURCES = json.loads((CONFIGS / "sources.json").read_text())
# What a configuration alone does not tell Baize, with the reason.
# What others have published of these checkpoints, each with its source and its words.
PUBLISHED = json.loads((ROOT / "tests/data/published.json").read_text())
UNEQUAL = dict(line.split(": ", 1) for line in (ROOT / "tests/data/configs_unequal.txt").read_text().splitlines()
               if line and not line.startswith("#"))


def test_every_configuration_has_a_source():
    files = {file.stem for file in CONFIGS.glob("*.json")} - {"sources"}
    assert files == set(SOURCES)
    assert set(UNEQUAL) <= files
    for name, entry in SOURCES.items():
        assert entry["source"], name


@functools.cache
def inspected(baize, name, context=None):
    """What `inspect --json` says of a configuration, or the process that failed."""
    length = ["--ctx", str(context)] if context else []
    done = baize.run("inspect", CONFIGS / f"{name}.json", "--load", "dummy", "--backend", "cpu", "--json", *length)
    return done if done.returncode else json.loads(done.stdout)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_parameters_are_those_that_were_counted_elsewhere(baize, name, figures):
    said = inspected(baize, name)
    difference = UNEQUAL.get(name, "0").split(",")[0]
    if difference == "refused":
        assert not isinstance(said, dict), "no longer refused"
        return
    assert isinstance(said, dict), said.stderr
    token = said["token"][0]
    figures.append(f"{name}: {said['parameters']:,} parameters, {said['cache']['bytes_per_token']:,} bytes of cache and "
                   f"{token['flops'] / 1e9:.3g} GFLOP a token")
    counted = SOURCES[name]["counted_by_transformers"] or SOURCES[name]["parameters"]
    assert counted is None or said["parameters"] == counted + int(difference)
    assert said["token"][0]["flops"] > said["parameters"] // 1000


def figure(said, entry):
    """What `inspect --json` says of the published figure `entry`."""
    if entry["what"] == "kv_bytes":  # the parts that grow with the text, or those of windows and recurrences, or both
        cache = said["cache"]
        growing, windows = cache["bytes_per_token"] * entry["tokens"], cache["window_bytes"]
        return {"growing": growing, "windows": windows, "both": growing + windows}[entry["part"]] * entry["bits"] / 16
    if entry["what"] == "flops_per_token":
        return next(token["flops"] for token in said["token"] if token["length"] == entry["tokens"])
    if entry["what"] == "parameters":
        return said["parameters"]
    # Active parameters: those that one token reads, and the embedding table where they count it.
    dims = said["spec"]["dims"]
    table, read = dims["vocab"] * dims["hidden"], said["token"][0]["weight_bytes"] // 2
    if entry["part"] == "all":
        return read + (0 if said["spec"]["head"]["tied"] else table)
    return read - (table if entry["part"] == "without both tables" else 0)


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda e: f"{e['config']}-{e['what']}-{e['value']:g}")
def test_cache_and_work_of_a_token_are_those_published(baize, entry):
    said = inspected(baize, entry["config"], entry["tokens"] if entry["what"] == "flops_per_token" else None)
    assert isinstance(said, dict), said.stderr
    assert figure(said, entry) == pytest.approx(entry["value"], rel=entry["precision"], abs=1)


def test_a_configuration_runs(baize):
    tiny = ROOT / "tests/data/dummy_llama.json"
    runs = [baize.run("generate", tiny, "--load", "dummy", "--dummy-format", form, "--ids", "1,2,3", "--max-tokens", "5",
                  "--temperature", "0", "--backend", "cpu", "--json") for form in ("bf16", "q4_k_m", "bf16")]
    for done in runs:
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["ids"]) == 5
    assert runs[0].stdout == runs[2].stdout


def test_a_model_too_large_for_the_machine_is_still_inspected(baize):
    done = baize.run("inspect", CONFIGS / "llama-3.3-70b.json", "--load", "dummy", "--backend", "cpu")
    assert done.returncode == 0, done.stderr
    assert "70,553,706,496 parameters" in done.stdout
    assert re.search(r"of [\d.]+ GB free: it does not fit here", done.stdout)
    ran = baize.run("generate", CONFIGS / "llama-3.3-70b.json", "--load", "dummy", "--backend", "cpu", "--ids", "1")
    assert ran.returncode != 0 and "does not fit" in ran.stderr


@pytest.mark.parametrize(("arguments", "words"), [
    (["--load", "random"], "--load must be one of auto|dummy"),
    (["--load", "dummy", "--dummy-format", "q3"], "--dummy-format must be one of"),
    (["--backend", "cpu", "--load", "dummy", "--gpu-memory", "50%"], "--gpu-memory limits a GPU's memory"),
])
def test_wrong_options(baize, arguments, words):
    done = baize.run("inspect", ROOT / "tests/data/dummy_llama.json", *arguments)
    assert done.returncode != 0
    assert words in done.stderr


def test_dummies_need_a_configuration(baize, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    done = baize.run("inspect", file, "--load", "dummy", "--backend", "cpu")
    assert done.returncode != 0 and "is no configuration" in done.stderr
