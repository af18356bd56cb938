"""Texts that tokenizers tend to get wrong, shared by the tests of this folder."""

import random

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t\tx",
    "Hello world",
    " Hello  world ",
    "Hello\nworld\n\n\nagain\r\n\r\n  indented",
    "   three leading and three trailing   ",
    "don't I'LL they'Ve we'RE it's 'tis O'Neill 'S's",
    "1 22 333 4444 55555 1234567890 3.14159 1,000,000 0x1F ½ ² ٣٤٥ 一二三 Ⅷ",
    "price: $12.50 (USD) — 20% off! [link](https://example.com/a_b?c=d&e=f#g)",
    "The quick brown fox jumps over the lazy dog.",
    "camelCaseAndPascalCase HTTPServer XMLHttpRequest iPhone GPT4o",
    "def f(x):\n    return {'a': [1, 2, 3], \"b\": x**2}  # comment\n\n\nclass A(B):\n\tpass\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 0.5f; }  // ok\n",
    "SELECT * FROM t WHERE a >= 10 AND b LIKE '%x%';",
    "你好，世界！这是一个测试。今天天气不错，我们去公园吧。",
    "日本語のテキスト、カタカナ、ひらがな、漢字。全角１２３ＡＢＣ",
    "한국어 문장입니다. 띄어쓰기도 있어요!",
    "Привет, мир! Как дела? Ёлка",
    "مرحبا بالعالم! كيف حالك؟ ١٢٣",
    "שלום עולם",
    "नमस्ते दुनिया, यह एक परीक्षण है।",
    "สวัสดีชาวโลก",
    "Xin chào thế giới, tiếng Việt có dấu",
    "Ελληνικά κείμενο με τόνους",
    "naïve café résumé coöperate Åse Øre ß ﬁ ﬂ",
    "cafe\u0301 A\u030a \u1e9b\u0323 \u212b \u2126 ﬀ Ⅳ ①",  # decomposed and compatibility characters
    "👋🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇯🇵 ✈️ ❤️ 😀😃😄",
    "math: ∑_{i=1}^{n} x_i ≤ ∞, α→β, √2 ≈ 1.414, 𝐀𝐁𝐂 𝔸",
    "zero\u200bwidth\u200djoiner\u200c soft\u00adhyphen\u00a0nbsp\u2003em\u3000ideographic\ufeffbom",
    "control \x00 \x01 \x07 \x1b[31mred\x1b[0m \x7f \u0085 next",
    "line\u2028separator\u2029paragraph\x0b\x0c",
    "a" * 300,
    "ab" * 200 + "!" * 100,
    " " * 100,
    "\n" * 40 + " \n" * 20,
    "\t" * 33 + "x" + " " * 17 + "y",
    "-" * 80 + "=" * 81 + "_" * 79,
    "▁underline▁space ▁ ▁▁",
    "Ġbyte ĊLevel âĢĻ letters",
    "<0x41> <0xE4> <0xff>",
    "mixed你好mixed日本語mixed한국어mixed",
    "𐍈 𒀀 𠀀 \U0001f9ff \U000e0041 \U0010ffff",
    "\ufffd replacement \ufffe\uffff",
    "a b  c   d    e     f      g       h",
    "...???!!!,,,;;;:::'''\"\"\"```~~~@@@###$$$%%%^^^&&&***((()))",
    "e.g. i.e. U.S.A. Ph.D. 9.30 a.m. No.1 v1.2.3-rc.4+build5",
    "https://例え.jp/パス?q=値#断片 user@example.org C:\\Windows\\System32",
]

# Spellings of control tokens inside a text.
SPECIAL = [
    "<s>hello</s>",
    "a <s> b </s>  c<unk>",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    "<bos><start_of_turn>user\nHi<end_of_turn>\n",
    "<|start|>assistant<|channel|>analysis<|message|>hm<|end|><|return|>",
    "<｜begin▁of▁sentence｜><｜User｜>你好<｜Assistant｜><｜end▁of▁sentence｜>",
    "<think>\nx\n</think>\n\n<tool_call>\n{}\n</tool_call>",
    "<|im_end|", "im_end|>", "<|im_end|><|im_end|>", " <|im_end|> ", "<unused7><unused77>", "[multimodal]<mask>",
]  # fmt: skip


def random_texts(count, seed=7):
    """Random mixtures of scripts, spaces and digits."""
    rng = random.Random(seed)
    alphabets = [
        "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "     ", "\n\r\t ", ".,;:!?'\"()[]{}<>|/\\-_=+*&^%$#@~`",
        "äöüßéèñçøåÆŒ", "абвгдежзиклмноп", "你好世界中文测试文本的是了在", "ひらがなカタカナ", "한국어문장", "😀👍🏽🎉❤️\u200d", "\u0301\u0308\u0327", "αβγδεζηθ", "١٢٣٤", "नमस्तेदु",
    ]  # fmt: skip
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(rng.randint(1, 30)):
            alphabet = rng.choice(alphabets)
            parts.append("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 8))))
        texts.append("".join(parts))
    return texts
