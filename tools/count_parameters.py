#!/usr/bin/env python3
"""Counts the parameters of the checkpoints in bench/configs with the transformers library.

    python3 tools/count_parameters.py [NAME...]

Builds each model on torch's meta device, where tensors have shapes but no memory, adds up its parameters (tied ones
once), and writes the sums as "counted_by_transformers" into bench/configs/sources.json; null where the library does not
know the architecture. Only the language model is counted: images and sound are parts that the configs leave out.
Needs torch and transformers (CPU builds do); a second or two a model.
"""
import copy
import json
import pathlib
import sys

import torch
import transformers

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "bench" / "configs"


def load(path):
    """The config of one file as the library reads it: its text part where it has one, and unquantised shapes."""
    raw = json.loads(path.read_text())
    raw.pop("quantization_config", None)
    inner = raw.get("text_config")
    if isinstance(inner, dict):
        if "tie_word_embeddings" in raw:
            inner.setdefault("tie_word_embeddings", raw["tie_word_embeddings"])
        raw = inner
        raw.pop("quantization_config", None)
    raw = copy.deepcopy(raw)
    return transformers.AutoConfig.for_model(raw.pop("model_type"), **raw)


def count(path):
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(load(path))
    model.tie_weights()
    # A Python object a parameter: a tied one appears once.
    return sum(parameter.numel() for parameter in {id(p): p for p in model.parameters()}.values())


def main(names):
    transformers.logging.set_verbosity_error()
    sources_path = FOLDER / "sources.json"
    sources = json.loads(sources_path.read_text())
    for name in names or sorted(sources):
        try:
            total = count(FOLDER / f"{name}.json")
        except Exception as error:  # whatever the library has against a config is worth reading, and the next one counts
            total = None
            print(f"{name}: not counted: {str(error).splitlines()[0]}", file=sys.stderr)
        sources[name]["counted_by_transformers"] = total
        published = sources[name]["parameters"]
        print(f"{name:36} {total or '-':>16} published {published or '-':>16}", flush=True)
    sources_path.write_text(json.dumps(sources, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
