#!/usr/bin/env python3
"""Makes golden cases in the form of those in tests/data/hf.tar.xz: tiny random models with the logits of `transformers`.

Usage: tests/reference/make_cases.py [--bases FOLDER] [--jobs N] [--remake] OUT [NAME...]
Writes OUT/NAME/{config.json,model.safetensors,golden.json}. A NAME is a case of variants.py (all of them by default) or,
with --remake, one of the archive's, made again from its config with other weights. FOLDER is the unpacked archive
(build/goldens/hf). What transformers itself cannot run is left out with its reason, printed and kept in OUT/skipped.txt.
Needs transformers 5.17 and torch on the CPU (`tools/setup.sh reference`), so CI does not run it; `make check-all` does.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import zlib
from multiprocessing import get_context
from pathlib import Path

import variants

ROOT = Path(__file__).resolve().parent.parent.parent
FORM = 1  # raised when the code below makes other cases of the same table: they are made anew then
PROMPT, GENERATED, LAST_ROWS, SINGLES = 20, 12, 8, 26
# Parameters whose initial values mean something (decays, time steps): they are moved a little, not drawn.
STRUCTURED = ("A_log", ".D", "dt_bias", "time_decay", "time_first", "time_mix", "recurrent_param", "hc_base", "hc_scale",
              "hc_head_base", "hc_head_scale", "alpha_p", "alpha_n")


def draw(model, generator):
    """Weights wide enough that every mechanism shows in the logits: norms are not ones, biases not zeros."""
    import torch

    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}

    def drawn(name, tensor):
        if "tid2eid" in name:  # the experts of a token id
            rows = [torch.randperm(model.config.n_routed_experts, generator=generator) for _ in range(tensor.shape[0])]
            return torch.stack(rows)[:, :tensor.shape[1]].to(tensor.dtype)
        noise = torch.randn(tensor.shape, generator=generator)
        old = tensor.detach().float()
        known = bool(torch.isfinite(old).all()) and float(old.abs().max()) < 50
        constant = known and float(old.max() - old.min()) == 0
        if known and (constant or tensor.dim() < 2 or name.endswith(STRUCTURED)):
            value = old + 0.2 * noise
        elif tensor.dim() < 2:
            value = 0.2 * noise
        elif id(tensor) in embeddings:
            value = 0.7 * noise
        else:
            value = noise * 1.3 / tensor.shape[-1] ** 0.5
        return value.to(torch.bfloat16).to(tensor.dtype)

    pads = [module for module in model.modules()
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None]
    stored = model.state_dict().keys()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(drawn(name, tensor))
        for name, buffer in model.named_buffers():
            if name in stored and name.endswith(("bias", "layer_scalar", "tid2eid")):
                buffer.copy_(drawn(name, buffer))
            elif name in stored and buffer.is_floating_point():  # follows from the config
                buffer.copy_(buffer.to(torch.bfloat16))
        for embedding in pads:  # some models zero this row whenever they are read
            embedding.weight[embedding.padding_idx] = 0


def nmse(got, want):
    return float(((got - want) ** 2).sum() / (want**2).sum())


def long_consistent(model, ids, want):
    """Whether the model's own cache, fed all but 26 tokens and then one at a time, gives the logits of a full pass; None
    where its cache cannot be driven like this."""
    import torch

    try:
        out = model(torch.tensor([ids[:-SINGLES]]), use_cache=True)
        name = next(key for key in ("past_key_values", "cache_params", "state") if getattr(out, key, None) is not None)
        rows = []
        for token in ids[-SINGLES:]:
            out = model(torch.tensor([[token]]), use_cache=True, **{name: getattr(out, name)})
            rows.append(out.logits[0, -1].float())
        return nmse(torch.stack(rows[-LAST_ROWS:]), want) < 1e-6
    except Exception:  # whatever the model's own code raises
        return None


def golden_of(model, vocab, long_tokens, generator):
    """The contents of golden.json: logits of full passes, and what the reference's own cache makes of the same text."""
    import torch
    import transformers

    ids = torch.randint(3, vocab, (PROMPT,), generator=generator).tolist()
    long_ids = torch.randint(3, vocab, (long_tokens,), generator=generator).tolist()
    full = lambda text: model(torch.tensor([text]), use_cache=False).logits[0].float()
    rounded = lambda rows: [[round(float(value), 4) for value in row] for row in rows]
    prompt, long_rows = full(ids), full(long_ids)[-LAST_ROWS:]
    if not torch.isfinite(prompt).all() or not torch.isfinite(long_rows).all():
        raise ValueError("the reference's logits are not finite")
    generated = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, PROMPT, dtype=torch.long), do_sample=False,
                               min_new_tokens=GENERATED, max_new_tokens=GENERATED)[0, PROMPT:].tolist()
    again = full(ids + generated)[PROMPT - 1:-1]
    best = again.topk(2).values
    # A padding token may have a row of zeros, for which indexers score everything the same.
    consistent = again.argmax(-1).tolist() == generated and bool((best[:, 0] - best[:, 1] > 1e-3).all()) and min(generated) > 2
    return {"input_ids": ids, "logits": rounded(prompt), "generated": generated, "consistent": consistent,
            "architecture": type(model).__name__, "params": sum(p.numel() for p in model.parameters()), "vocab": vocab,
            "transformers": transformers.__version__, "long_ids": long_ids, "long_logits": rounded(long_rows),
            "long_consistent": long_consistent(model, long_ids, long_rows)}


def read_back(target, model_class, golden):
    """Refuses a case whose files transformers itself reads as another model."""
    import torch

    model, loading = model_class.from_pretrained(target, dtype=torch.float32, attn_implementation="eager",
                                                 experts_implementation="eager", output_loading_info=True)
    wrong = {key: keys for key, keys in loading.items() if keys}
    with torch.no_grad():
        again = model.eval()(torch.tensor([golden["input_ids"]]), use_cache=False).logits[0].float()
    if wrong or nmse(again, torch.tensor(golden["logits"])) > 1e-7:
        raise ValueError(f"it reads its own files as another model {wrong or ''}")


def stable(model, golden):
    """Whether the logits stay when the last bits of the weights change: no near tie of experts or positions decides."""
    import torch

    generator = torch.Generator().manual_seed(0)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    for tensor in model.parameters():
        tensor.mul_(1 + 1e-6 * torch.randn(tensor.shape, generator=generator))
    texts = ((golden["input_ids"], golden["logits"]), (golden["long_ids"], golden["long_logits"]))
    moved = max(nmse(model(torch.tensor([ids]), use_cache=False).logits[0, -len(want):].float(), torch.tensor(want))
                for ids, want in texts)
    for name, tensor in model.named_parameters():
        tensor.copy_(before[name])
    return moved < 1e-6


def make(target, config, long_tokens, remake, attempt=0):
    """Writes one case. A remade one keeps its config.json as it is; others are drawn again where a near tie decides."""
    import torch
    import transformers

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    meant = variants.merged(config, variants.MEANT.get(target.name, {})) if remake else config
    (target / "config.json").write_text(json.dumps(meant))
    model_class = getattr(transformers, config["architectures"][0])
    settings = transformers.AutoConfig.from_pretrained(target)
    settings._attn_implementation = settings._experts_implementation = "eager"  # grouped products want round sizes
    if attempt > 4:
        raise ValueError("its last bits decide, whatever is drawn")
    seed = zlib.crc32(target.name.encode()) + attempt
    torch.manual_seed(seed)
    model = model_class(settings).float().eval()
    generator = torch.Generator().manual_seed(seed)
    draw(model, generator)
    with torch.no_grad():
        golden = golden_of(model, settings.vocab_size, long_tokens, generator)
        if not remake and not stable(model, golden):
            return make(target, config, long_tokens, remake, attempt + 1)
    model.to(torch.bfloat16).save_pretrained(target)
    if remake:
        (target / "config.json").write_text(json.dumps(config, indent=2))
    else:
        read_back(target, model_class, golden)
    (target / "generation_config.json").unlink(missing_ok=True)
    (target / "golden.json").write_text(json.dumps(golden))


def work(job):
    """In a worker: makes one case unless it is there already. Returns its name and why it was left out, or nothing."""
    target, config, long_tokens, remake = job
    stamp = target / "made_from"
    key = hashlib.sha256(json.dumps([FORM, config, long_tokens]).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == key and (target / "golden.json").exists():
        return target.name, ""
    try:
        make(target, config, long_tokens, remake)
        stamp.write_text(key)
        return target.name, ""
    except Exception as error:  # what transformers cannot run raises anything
        shutil.rmtree(target, ignore_errors=True)
        return target.name, f"{type(error).__name__}: {error}".split("\n")[0][:300]


def start_worker():
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def main():
    parser = argparse.ArgumentParser(description="see the head of this file")
    parser.add_argument("--bases", type=Path, default=ROOT / "build/goldens/hf")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--remake", action="store_true")
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    bases = {folder.name: json.loads((folder / "config.json").read_text()) for folder in sorted(arguments.bases.iterdir())}
    table = {name: (config, 96) for name, config in bases.items()} if arguments.remake else variants.cases(bases)
    unknown = [name for name in arguments.names if name not in table]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}")
    if not arguments.names and arguments.out.exists():
        for folder in arguments.out.iterdir():  # of cases that are in the table no more
            if folder.is_dir() and folder.name not in table:
                shutil.rmtree(folder)
    jobs = [(arguments.out / name, *table[name], arguments.remake) for name in arguments.names or table]
    arguments.out.mkdir(parents=True, exist_ok=True)
    with get_context("spawn").Pool(arguments.jobs, start_worker) as pool:
        skipped = [f"{name}: {why}" for name, why in pool.imap_unordered(work, jobs, chunksize=4) if why]
    (arguments.out / "skipped.txt").write_text("".join(line + "\n" for line in sorted(skipped)))
    for line in sorted(skipped):
        print(f"not made, transformers cannot run it: {line}")
    print(f"{len(jobs) - len(skipped)} cases made in {arguments.out}, {len(skipped)} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
