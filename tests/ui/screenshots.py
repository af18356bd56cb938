#!/usr/bin/env python3
"""Takes the README's pictures of the chat page: tests/ui/screenshots.py URL [FOLDER], from a running `baize serve smollm2:135m`.

Every answer is the model's own. Needs chromium and cwebp (Debian's package webp); writes FOLDER (docs/images)/chat-*.webp.
"""

import json
import subprocess
import sys
from pathlib import Path

from browser_chat import ROOT, Chat
from playwright.sync_api import sync_playwright

SLEEP = "List five tips for a good night's sleep."
REVERSE = "Write a short Python function that reverses a string."
OTHERS = ["Explain why the sky is blue, in three sentences.", "What is photosynthesis?"]


def settings(**change):
    return f"localStorage.setItem('baize.preferences', {json.dumps(json.dumps(change))})"


def shoot(chat, folder, name):
    chat.page.wait_for_timeout(400)
    png = folder / f"{name}.png"
    chat.page.screenshot(path=png)
    webp = png.with_suffix(".webp")
    subprocess.run(["cwebp", "-quiet", "-q", "82", "-m", "6", png, "-o", webp], check=True)
    png.unlink()
    print(webp, webp.stat().st_size)


def ask(chat, text, **defaults):
    chat.page.evaluate(settings(defaults=defaults))
    chat.page.goto(chat.url)
    chat.page.reload()
    chat.expect("#composer").to_be_visible()
    chat.type(text)
    chat.page.wait_for_selector("article .figures:not(.live)", timeout=120_000)


def main():
    url, folder = sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        chat = Chat(chromium, url, viewport={"width": 1180, "height": 740}, device_scale_factor=2)
        for text in OTHERS:
            ask(chat, text, max_tokens=60, seed=7)
        ask(chat, SLEEP, max_tokens=300, seed=7)
        ask(chat, REVERSE, max_tokens=200, seed=3, temperature=0.2)
        chat.find("#composer").blur()
        shoot(chat, folder, "chat-light")
        chat.page.emulate_media(color_scheme="dark")
        shoot(chat, folder, "chat-dark")
        chat.page.evaluate(settings(language="zh", theme="dark"))
        chat.page.reload()
        chat.expect("article").to_have_count(2)
        chat.page.keyboard.press("Control+,")
        shoot(chat, folder, "chat-settings-zh")
        chat.close()
        chat = Chat(
            chromium, url, viewport={"width": 390, "height": 780}, device_scale_factor=2, is_mobile=True, has_touch=True
        )
        ask(chat, SLEEP, max_tokens=300, seed=7)
        shoot(chat, folder, "chat-phone")
        chat.close()


if __name__ == "__main__":
    main()
