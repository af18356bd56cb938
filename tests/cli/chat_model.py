"""A tiny model that can chat: the golden llama with a tokenizer of single characters and a chat template."""

import json
import shutil
import string

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ["<pad>", "<s>", "</s>"]
# As byte-level vocabularies spell them: printable ASCII, the space, the line break and the escape character.
CHARACTERS = [c for c in string.printable if c.isprintable() and c != " "] + ["\u0120", "\u010a", "\u011b"]
ESCAPE = len(SPECIAL) + len(CHARACTERS) - 1  # its token id
MERGES = [("t", "h")]  # some formats want at least one
TEMPLATE = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}\n{% endfor %}{% if enable_thinking %}think {% endif %}a:"


def make_tokenizer(vocab_size):
    """Almost only tokens of one character; the rest of the vocabulary is special tokens that are no text."""
    text = CHARACTERS + [a + b for a, b in MERGES]
    no_text = [f"<extra{i}>" for i in range(vocab_size - len(SPECIAL) - len(text))]
    tokens = SPECIAL + text + no_text
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL + no_text)
    return tokenizer


def make_chat_model(folder, golden, template=TEMPLATE, **config_changes):
    """Fills `folder` with the golden case's weights, a tokenizer and the chat template."""
    folder.mkdir(exist_ok=True)
    config = json.loads((golden / "config.json").read_text()) | config_changes
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(golden / "model.safetensors", folder)
    make_tokenizer(config["vocab_size"]).save(str(folder / "tokenizer.json"))
    tokenizer_config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    return folder


def only_text(vocab_size=128):
    """Options that let only printable characters be drawn."""
    others = [i for i in range(vocab_size) if i < len(SPECIAL) or i >= ESCAPE]
    return ["--logit-bias", ",".join(f"{i}=-1000" for i in others)]
