#!/usr/bin/env python3
"""Makes smollm2_greedy.json: what transformers, reading the default model's GGUF file in f32, generates greedily.

Usage: make_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf > smollm2_greedy.json
Needs torch, transformers and gguf (made with torch 2.11.0, transformers 5.17.0, gguf 0.19.0).
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW_TOKENS = 64
PROMPTS = [
    ("chat", "Why is the sky blue?"),
    ("chat", "Write a short poem about a lighthouse keeper who collects clocks."),
    ("chat", "List the first ten prime numbers and say why 1 is not one of them."),
    ("text", "The history of the printing press begins in"),
    ("text", "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n"),
]


def main():
    path = Path(sys.argv[1])
    source = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
    cases = []
    for kind, text in PROMPTS:
        if kind == "chat":
            text = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        prompt = torch.tensor([ids])
        # No end tokens: all 64 ids count. The margin between the two best logits says how safe a choice is.
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW_TOKENS, do_sample=False,
                             eos_token_id=[], pad_token_id=0, output_logits=True, return_dict_in_generate=True)
        best = torch.stack(out.logits)[:, 0].topk(2).values
        cases.append({"text": text, "ids": ids, "greedy": out.sequences[0, len(ids):].tolist(),
                      "smallest_margin": round(float((best[:, 0] - best[:, 1]).min()), 5)})
        print(repr(tokenizer.decode(cases[-1]["greedy"])), cases[-1]["smallest_margin"], file=sys.stderr)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    head = json.dumps({"file": path.name, "sha256": digest, "transformers": transformers.__version__})
    print(head[:-1] + ', "cases": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]}")


if __name__ == "__main__":
    main()
