"""The pre-tokenizer table: every entry loads and keeps the text, and the common ones cut where they should."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models

from text_samples import SPECIAL, TEXTS
from text_tool import NORMAL, TextError

# Cuts of one text, from the public regexes of the models, worked out by hand. "·" parts the words.
SENTENCE = "Hello, it's 12345 tests!\n\n  OKay ok²"
CUTS = {
    "gpt-2": "Hello·,· it·'s· 12345· tests·!·\n\n ·· OKay· ok·²",
    "smollm": "Hello·,· it·'s· ·1·2·3·4·5· tests·!·\n\n · OKay· ok·²",
    "llama-bpe": "Hello·,· it·'s· ·123·45· tests·!\n\n· · OKay· ok·²",
    "qwen2": "Hello·,· it·'s· ·1·2·3·4·5· tests·!\n\n· · OKay· ok·²",
    "deepseek-v3": "Hello·,· it·'s· ·123·45· tests·!\n\n· · OKay· ok·²",
    "deepseek-coder": "Hello·,· it·'·s· ·1·2·3·4·5· tests·!·\n·\n· · OKay· ok·²",
    "gpt-4o": "Hello·,· it's· ·123·45· tests·!\n\n· · OKay· ok·²",
    "tekken": "Hello·,· it·'s· ·1·2·3·4·5· tests·!\n\n· · OKay· ok·²",
    "seed-coder": "Hello·,· it·'s· ·1·2·3·4·5· tests·!·\n\n· · OKay· ok·²",
    "kimi-k2": "Hello·,· it's· ·123·45· tests·!\n\n· · OKay· ok·²",
    "exaone-moe": "Hello·,· it·'s· ·1·2·3·4·5· tests·!\n·\n· · OKay ok·²",
    "bloom": "Hello·,· it's· 12345· tests·!\n\n · OKay· ok²",
    "minicpm5": "Hello·,· it·'s· ·123·45· tests·!\n\n· · OKay· ok·²",
}  # fmt: skip
MORE = [
    ("default", SENTENCE[:-1], "Hello·,· it·'·s· ·123·45· tests·!·\n\n · OKay· ok"),
    ("superbpe", "a 1234567 b 12", "a ·1·234·567· b ·12"),
    ("afmoe", "x1234567中文 y", "x·1·234·567·中文· y"),
    ("tiny_aya", "a 1234567.", "a· ·1·234·567·."),
    ("kimi-k2", "中文abc漢字 ABCdef", "中文·abc·漢字· ABCdef"),
    ("deepseek-v3", "中文ABC,def /x ひらがなカタカナ", "中文·ABC·,def· /·x· ·ひらがなカタカナ"),
    ("deepseek-llm", "abc中文 é1 2，好\n ", "abc·中文· é·1· ·2·，·好·\n· "),
    ("gpt-4o", "XMLHttpRequest iPhone a/b/\n", "XMLHttp·Request· i·Phone· a·/b·/\n"),
    ("llama-bpe", "don'T I'LL\r\n \t x", "don·'T· I·'LL·\r\n· \t· x"),
    ("falcon", "9999999...", "999·999·9·..."),
    ("viking", "a1b2 c.", "a·1·b·2· c·."),
    ("jais-2", "a          b", "a·        · · b"),
    ("chameleon", "xIMGIMGABZ a\n", "x·IMGIMGABZ· a·\n"),
    ("youtu", "한국어中文ㄅ！x12", "한국어·中文·ㄅ·！·x·1·2"),
    ("laguna", "a\n\nb", "a·\n\n·b"),
    ("bailingmoe", "it's\n\n\nx", "it·'s·\n\n\n·x"),
]


@pytest.fixture(scope="module")
def table(tool):
    return tool.call("pre_tokenizers")


def words(pre_tokenizer, text):
    """Words of the text. Bytes become letters on the way, so a word is decoded back."""
    data = {"model": {"type": "BPE", "vocab": {}, "merges": []}, "pre_tokenizer": pre_tokenizer, "added_tokens": []}
    cut = Tokenizer.from_str(json.dumps(data)).pre_tokenizer.pre_tokenize_str(text)
    return [decoders.ByteLevel().decode([word]) for word, _ in cut]


@pytest.mark.parametrize("name, text, expected", [*((n, SENTENCE, cuts) for n, cuts in CUTS.items()), *MORE])
def test_cuts(table, name, text, expected):
    assert words(table[name], text) == [word for word in expected.split("·") if word]


def byte_letters():
    """The letters of the 256 bytes, in the order of the bytes."""
    letters = {b: chr(b) for b in [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]}
    for byte in range(256):
        letters.setdefault(byte, chr(0x100 + len([b for b in letters if b < byte and letters[b] >= "\u0100"])))
    return [letters[byte] for byte in range(256)]


def test_every_entry(tool, table, tmp_path):
    letters = byte_letters()
    tokens = letters + ["Ġt", "he", "ĠĠ", "the", "Ġthe"]
    merges = ["Ġ t", "h e", "Ġ Ġ", "t he", "Ġt he"]
    vocab = {"model": "gpt2", "tokens": tokens, "types": [NORMAL] * len(tokens), "merges": merges}
    assert len(table) > 80
    for name, pre_tokenizer in table.items():
        if pre_tokenizer is None:
            continue  # not byte-level; the gemma vocabularies of test_tokenizers.py are such
        tool.load_vocab({**vocab, "pre": name}, tmp_path)
        data = {"model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": merges}}
        reference = Tokenizer.from_str(json.dumps({**data, "pre_tokenizer": pre_tokenizer, "added_tokens": []}))
        for text in TEXTS + SPECIAL:
            ids = tool.encode(text)
            if "e\u0301" not in text:  # some normalize
                assert ids == reference.encode(text).ids
                assert tool.decode(ids) == text, (name, text)


def test_unknown_name(tool, tmp_path):
    with pytest.raises(TextError) as error:
        tool.load_vocab({"model": "gpt2", "pre": "quen2", "tokens": ["a"], "merges": ["a a"]}, tmp_path)
    assert error.value.args[1] == "unsupported" and "'quen2'" in error.value.args[0] and "qwen2" in error.value.args[0]
