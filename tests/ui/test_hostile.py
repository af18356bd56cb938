"""A model's answer can say anything; none of it runs, loads or leads astray."""

import collections
import json
import time

from mock_server import Answer
from playwright.sync_api import expect

HOSTILE = r"""
<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1"><svg/onload=window.hacked=1>
<iframe src="javascript:parent.hacked = 1"></iframe><style>body { display: none }</style><base href="https://evil.example/">

[a](javascript:window.hacked=1) [b](data:text/html,<script>1</script>) [c](&#106;avascript:1) [d](/v1/models) [e](//evil.example)
![pixel](https://evil.example/pixel.gif) <https://fine.example/>

$\href{javascript:window.hacked=1}{x}$ $\htmlId{app}{x}$ $\class{page}{y}$ $\includegraphics{https://evil.example/x.png}$
$$\def\a{\a\a}\a$$

```html
<script>window.hacked = 1</script>
```

```"onmouseover="window.hacked=1
// check‮ ;eslaf = nimda⁦ admin
```

| <img src=x onerror=window.hacked=1> |
|---|
| <script>window.hacked = 1</script> |

Z̸̢͔̈ͫ͐a̷l̵g̶o ‮desrever
"""


def test_nothing_runs(chat, server):
    server.script = lambda _: Answer([HOSTILE[i : i + 11] for i in range(0, len(HOSTILE), 11)])
    chat.ask("<img src=x onerror='window.hacked = 1'>")
    expect(chat.find(".bubble")).to_have_text("<img src=x onerror='window.hacked = 1'>")
    expect(chat.answer).to_contain_text("<script>window.hacked = 1</script>")
    assert chat.page.evaluate("window.hacked") is None
    found = chat.page.evaluate("""() => [...document.querySelectorAll('.message *')].flatMap((e) => [
        ...(/^(script|img|iframe|style|base|object|embed|form|svg|link|meta)$/i.test(e.localName) && !e.classList.contains('icon')
            ? [e.outerHTML] : []),
        ...[...e.attributes].filter((a) => /^on|^src|^srcset|^action|^id$/.test(a.name)).map((a) => a.name + '=' + a.value)])""")
    assert found == []
    assert [a.get_attribute("href") for a in chat.find(".message a").all()] == [
        "https://evil.example/",
        "https://evil.example/pixel.gif",
        "https://fine.example/",
    ]
    for link in chat.find(".message a").all():
        assert link.get_attribute("target") == "_blank" and "noopener" in link.get_attribute("rel")
    expect(chat.find(".message .control").first).to_have_text("U+202E")
    assert chat.page.evaluate("document.body.getBoundingClientRect().height") > 100


def test_the_policy_of_the_page_stops_what_gets_through(chat):
    """Should an element slip in, the browser itself refuses: scripts, handlers, markup from text, other servers."""
    chat.page.evaluate("""() => {
        const script = document.body.appendChild(document.createElement('script'));
        const a = document.body.appendChild(document.createElement('a'));
        for (const attempt of [
            () => script.append('window.hacked = 1'),
            () => { script.textContent = 'window.hacked = 1'; },
            () => a.setAttribute('onclick', 'window.hacked = 1'),
            () => { a.href = 'javascript:window.hacked = 1'; },
            () => a.click(),
            () => document.body.insertAdjacentHTML('beforeend', '<b id="markup">x</b>'),
        ]) try { attempt(); } catch {}
    }""")
    refused = chat.page.evaluate("fetch('https://evil.example/').then(() => 'sent', () => 'refused')")
    assert refused == "refused" and chat.page.evaluate("window.hacked") is None
    chat.expect("#markup").to_have_count(0)
    end = time.monotonic() + 60
    while len(chat.faults) < 6 and time.monotonic() < end:  # what the browser reports comes when it comes
        chat.page.wait_for_timeout(50)
    assert len(chat.faults) >= 6, chat.faults
    chat.faults = collections.deque(maxlen=0)


def test_a_long_answer_stays_smooth(chat, server):
    """400 blocks in small chunks: what was drawn is not drawn again."""
    text = "".join(
        f"Paragraph {i} with **bold** and `code`.\n\n- a\n- b\n\n```python\nprint({i})\n```\n\n" for i in range(400)
    )
    server.script = lambda _: Answer([text[i : i + 40] for i in range(0, len(text), 40)])
    chat.page.evaluate("""() => {
        window.first = null;
        window.replaced = 0;
        new MutationObserver(() => {
            const now = document.querySelector('article.assistant .block');
            if (window.first && now !== window.first && document.querySelector('[aria-busy]')) window.replaced++;
            window.first ??= now;
        }).observe(document.body, {childList: true, subtree: true});
    }""")
    chat.ask("much")
    expect(chat.answer.locator(".block")).to_have_count(1200)
    assert chat.page.evaluate("window.replaced") == 0


def test_a_long_conversation(chat, tmp_path):
    """Of 400 messages only the last are drawn; earlier ones come in as the reader goes up."""
    messages = [
        {
            "id": str(i),
            "parent": str(i - 1) if i else None,
            "role": "assistant" if i % 2 else "user",
            "content": f"Message **{i}**\n\n" * 5,
            "finish": "stop",
        }
        for i in range(400)
    ]
    body = {
        "format": "baize-chats",
        "version": 1,
        "conversations": [{"title": "long", "leaf": "399", "messages": messages}],
    }
    chat.page.keyboard.press("Control+,")
    chat.page.get_by_role("tab", name="General").click()
    chat.find("input[type=file]").set_input_files(
        {"name": "x.json", "mimeType": "application/json", "buffer": json.dumps(body).encode()}
    )
    chat.page.keyboard.press("Escape")
    chat.find(".entry .title").click()
    expect(chat.find("article").last).to_contain_text("Message 399")
    chat.expect("article").to_have_count(40)
    chat.find(".thread").hover()
    end = time.monotonic() + 120
    while chat.find("article").count() < 400 and time.monotonic() < end:
        chat.page.mouse.wheel(0, -4000)
        chat.page.wait_for_timeout(20)
    chat.expect("article").to_have_count(400)
    chat.page.evaluate("document.querySelector('.thread').scrollTop = 0")
    expect(chat.find("article").first).to_be_in_viewport()
