"""Token ids and texts equal those of the Python package `tokenizers`, for real vocabularies and trained ones."""

import json
import random
import unicodedata

import numpy as np
import pytest
import sentencepiece
from gguf import GGUFReader
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from text_samples import SPECIAL, TEXTS, random_texts
from text_tool import (CONTROL, NORMAL, TOKENIZERS, UNKNOWN, TextError, bpe_vocab, default_model, is_byte, read_json,
                       scored_vocab)  # fmt: skip

NAMES = ["llama2", "llama3_1", "qwen3", "gemma3", "gptoss", "deepseek_v3"]
GGUF_PRE = {"llama3_1": "llama-bpe", "qwen3": "qwen2", "gptoss": "gpt-4o", "deepseek_v3": "deepseek-v3"}
GGUF_SCORED = ["llama2", "gemma3"]
SAMPLES = TEXTS + SPECIAL + random_texts(200)


@pytest.fixture(scope="module")
def references():
    cache = {}

    def reference(name):
        if name not in cache:
            cache.clear()  # each takes hundreds of megabytes
            cache[name] = Tokenizer.from_file(str(TOKENIZERS / name / "tokenizer.json"))
        return cache[name]

    return reference


def check_encode(tool, reference, samples=SAMPLES, plain=(False, True)):
    for as_plain in plain:
        reference.encode_special_tokens = as_plain
        for text in samples:
            assert tool.encode(text, plain=as_plain) == reference.encode(text, add_special_tokens=False).ids, repr(text)
    reference.encode_special_tokens = False


def lossy_text(reference, ids, show_special):
    """What decoding should give, from the spelling of each token; for vocabularies with bytes as <0x41>."""
    added = reference.get_added_tokens_decoder()
    kept = [id for id in ids if show_special or not (id in added and added[id].special)]
    texts = [reference.id_to_token(id) for id in kept]
    joined = b"".join(bytes([int(t[3:5], 16)]) if is_byte(t) else t.replace("▁", " ").encode() for t in texts)
    if "Strip" in str(reference.decoder) and joined.startswith(b" "):
        joined = joined[1:]
    return joined.decode("utf-8", errors="replace")


def check_decode(tool, reference, vocab_size, samples=SAMPLES):
    rng = random.Random(5)
    lists = [reference.encode(text, add_special_tokens=False).ids for text in samples]
    lists += [[rng.randrange(vocab_size) for _ in range(rng.randint(1, 12))] for _ in range(200)]
    for ids in lists:
        for show in (False, True):
            expected = reference.decode(ids, skip_special_tokens=not show)
            if "\ufffd" in expected and "ByteFallback" in str(reference.decoder):
                # The package replaces all of a run of byte tokens if a part of it is no character.
                expected = lossy_text(reference, ids, show)
            assert tool.decode(ids, show_special=show) == expected, ids


@pytest.mark.parametrize("name", NAMES)
def test_folder(tool, references, name):
    info = tool.call("load", folder=str(TOKENIZERS / name))
    reference = references(name)
    assert info["vocab_size"] == reference.get_vocab_size()
    check_encode(tool, reference)
    check_decode(tool, reference, info["vocab_size"])


@pytest.mark.parametrize("name", NAMES)
def test_gguf(tool, references, name, tmp_path):
    data = read_json(name)
    vocab = bpe_vocab(data, GGUF_PRE[name]) if name in GGUF_PRE else scored_vocab(data)
    samples = SAMPLES
    if name == "gemma3":
        vocab["add_space_prefix"] = False
        # GGUF spells the tokens for runs of spaces with spaces, so runs of U+2581 in a text are not those tokens.
        samples = [text for text in SAMPLES if "▁▁" not in text]
    info = tool.load_vocab(vocab, tmp_path)
    print(f"{name}: loaded in {info['milliseconds']:.0f} ms")
    reference = references(name)
    assert info["vocab_size"] == reference.get_vocab_size()
    check_encode(tool, reference, samples)
    check_decode(tool, reference, info["vocab_size"], samples)


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens(tool, references, name):
    info = tool.call("load", folder=str(TOKENIZERS / name))
    config = json.loads((TOKENIZERS / name / "tokenizer_config.json").read_text(encoding="utf-8"))
    reference = references(name)
    added = {id for id, token in reference.get_added_tokens_decoder().items() if token.special}
    assert info["special"] == sorted(added)
    content = lambda token: token["content"] if isinstance(token, dict) else token  # noqa: E731
    assert info["bos"] == (config.get("bos_token") and reference.token_to_id(content(config["bos_token"])))
    assert info["eos"] == reference.token_to_id(content(config["eos_token"])) and info["end_tokens"] == [info["eos"]]
    begins = [info["bos"]] if config.get("add_bos_token") else reference.encode("").ids
    for text in ["", "Hello", "<s>Hello"]:
        ids = reference.encode(text, add_special_tokens=False).ids
        assert tool.encode(text, add_special=True) == begins + ids
    assert info["adds_bos"] == bool(begins)
    for id in sorted(added)[:20]:
        token = tool.call("token", id=id)
        assert token == reference.id_to_token(id) and tool.call("id", token=token) == id
    assert tool.call("id", token="no such token") == -1


def test_bad_text(tool):
    tool.call("load", folder=str(TOKENIZERS / "llama2"))
    for bad, at in [("ff", 0), ("61c3", 1), ("e4bda0e4bd", 3), ("eda080", 0), ("6161f5808080", 2), ("c080", 0)]:
        with pytest.raises(TextError) as error:
            tool.call("encode", hex=bad)
        assert error.value.args[1] == "invalid_argument" and f"byte {at};" in error.value.args[0]
    assert tool.decode([-1, 10**9]) == ""  # ids without a token add nothing


CORPUS = TEXTS * 3 + random_texts(400, seed=11)


def train_wordpiece(corpus=CORPUS):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=900, special_tokens=special))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def train_unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=900, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def train_bpe():
    """A BPE with a word suffix, which only the library's own model reads."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@pytest.mark.parametrize("train", [train_wordpiece, train_unigram, train_bpe])
def test_trained_folder(tool, tmp_path, train):
    train().save(str(tmp_path / "tokenizer.json"))
    reference = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))  # scores as the file says them: near ties hang on the last bit
    # What transformers ignores must not cut or pad the ids.
    data = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    data["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    info = tool.call("load", folder=str(tmp_path))
    check_encode(tool, reference)
    if train is not train_bpe:  # its decoder, none, puts a space before every token
        check_decode(tool, reference, info["vocab_size"])
    for text in TEXTS:
        assert tool.encode(text, add_special=True) == reference.encode(text).ids


def test_wordpiece_gguf(tool, tmp_path):
    corpus = [text for text in CORPUS if "▁" not in text]  # GGUF marks the beginning of a word by this character
    reference = train_wordpiece(corpus)
    ids = reference.get_vocab()
    tokens = sorted(ids, key=ids.get)
    special = {"[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"}
    spelt = [t if t in special else t[2:] if t.startswith("##") else "▁" + t for t in tokens]
    types = [CONTROL if t in special else NORMAL for t in tokens]
    tool.load_vocab({"model": "bert", "tokens": spelt, "types": types, "bos": 2, "sep": 3, "unk": 1}, tmp_path)
    check_encode(tool, reference, [text for text in SAMPLES if "▁" not in text])
    check_decode(tool, reference, len(tokens))
    for text in [text for text in TEXTS if "▁" not in text]:
        assert tool.encode(text, add_special=True) == reference.encode(text).ids


def test_unigram_gguf(tool, tmp_path):
    reference = train_unigram()
    reference.normalizer = normalizers.Sequence([])  # GGUF says it by a character map only, see test_sentencepiece
    vocab = json.loads(reference.to_str())["model"]["vocab"]
    vocab = [(piece, float(np.float32(score))) for piece, score in vocab]  # GGUF's precision
    reference.model = models.Unigram(vocab, unk_id=2, byte_fallback=False)
    types = [CONTROL, CONTROL, UNKNOWN] + [NORMAL] * (len(vocab) - 3)
    arrays = {"tokens": [piece for piece, _ in vocab], "scores": [score for _, score in vocab], "types": types}
    tool.load_vocab({"model": "t5", "remove_extra_whitespaces": False, **arrays}, tmp_path)
    check_encode(tool, reference, [text for text in SAMPLES if "</s>" not in text and "<unk>" not in text])
    assert tool.encode("</s>") == [1] and 1 not in tool.encode("</s>", plain=True)
    check_decode(tool, reference, len(vocab))
    for text in TEXTS:
        assert tool.encode(text, add_special=True) == reference.encode(text).ids


def train_sentencepiece(folder, **options):
    lines = [line for text in CORPUS for line in text.replace("\0", "").splitlines() if line]
    (folder / "corpus.txt").write_text("\n".join(lines), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"), model_prefix=str(folder / "model"), minloglevel=2, hard_vocab_limit=False, **options)  # fmt: skip
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((folder / "model.model").read_bytes())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "model.model"))
    arrays = {
        "tokens": [piece.piece for piece in model.pieces],
        "scores": [piece.score for piece in model.pieces],
        "types": [piece.type for piece in model.pieces],  # the numbers are GGUF's
        "charsmap": list(model.normalizer_spec.precompiled_charsmap),
    }
    return processor, arrays


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_bpe(tool, tmp_path, prefix):
    processor, arrays = train_sentencepiece(
        tmp_path, model_type="bpe", vocab_size=1200, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=prefix, split_digits=True, allow_whitespace_only_pieces=True)  # fmt: skip
    tool.load_vocab({"model": "llama", "add_space_prefix": prefix, "unk": 0, **arrays}, tmp_path)
    for text in [text for text in SAMPLES if "\0" not in text]:
        assert tool.encode(text, plain=True) == processor.encode(text), repr(text)
        ids = processor.encode(text)
        assert tool.decode(ids) == processor.decode(ids)
    assert tool.encode("x", add_special=True) == [1, *processor.encode("x")]


def test_sentencepiece_unigram(tool, tmp_path):
    processor, arrays = train_sentencepiece(
        tmp_path, model_type="unigram", vocab_size=900, byte_fallback=False, normalization_rule_name="nmt_nfkc",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, unk_surface="")  # fmt: skip
    tool.load_vocab({"model": "t5", "add_space_prefix": True, "remove_extra_whitespaces": True, **arrays}, tmp_path)
    scores = [(piece, float(np.float32(score))) for piece, score in zip(arrays["tokens"], arrays["scores"])]
    reference = Tokenizer(models.Unigram(scores, unk_id=2, byte_fallback=False))
    reference.normalizer = normalizers.Precompiled(bytes(arrays["charsmap"]))
    reference.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    for text in SAMPLES:
        if "</s>" in text or "<unk>" in text:  # the package finds control tokens in ordinary text
            continue
        assert tool.encode(text, plain=True) == reference.encode(text).ids, repr(text)
    for text in SAMPLES:
        # The package normalizes several combining marks on one letter in its own way, and sums scores in higher precision,
        # which decides between the many equal ways to cut a long run of one character.
        if "\0" not in text and not any(unicodedata.combining(c) or c * 30 in text for c in text):
            assert tool.encode(text, plain=True) == processor.encode(text), repr(text)
    assert tool.encode("x", add_special=True) == [*processor.encode("x"), 1]


def test_default_model(tool, tmp_path):
    """The vocabulary of the default model, against one put together from its arrays with the Python package."""
    reader = GGUFReader(default_model())
    field = lambda key: reader.fields[f"tokenizer.{key}"].contents()  # noqa: E731
    tokens, types, merges = field("ggml.tokens"), field("ggml.token_type"), field("ggml.merges")
    bos, eos = field("ggml.bos_token_id"), field("ggml.eos_token_id")
    arrays = {"tokens": tokens, "types": types, "merges": merges, "bos": bos, "eos": eos}
    templates = {"default": field("chat_template")}
    info = tool.load_vocab({"model": field("ggml.model"), "pre": field("ggml.pre"), **arrays, "chat_templates": templates}, tmp_path)

    pairs = [tuple(merge.split(" ")) for merge in merges]
    reference = Tokenizer(models.BPE({text: id for id, text in enumerate(tokens)}, pairs))
    reference.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])
    reference.decoder = decoders.ByteLevel()
    reference.add_special_tokens([text for text, type in zip(tokens, types) if type == CONTROL])
    check_encode(tool, reference)
    check_decode(tool, reference, len(tokens))
    assert tokens[info["eos"]] == "<|im_end|>" and info["eos"] in info["end_tokens"]
    prompt = tool.call("render", messages=[{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
