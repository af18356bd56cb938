"""The chat page in a browser, as its user sees it, and the program that serves it."""

import re
import subprocess
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import expect

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_MODEL = "smollm2:135m"

TEXTS = "() => [...document.querySelectorAll('article')].map((a) => [...a.querySelectorAll('.bubble, .markdown')].at(-1)?.innerText)"
ANSWERED = """(text) => {
    const [question, answer] = [...document.querySelectorAll('article')].slice(-2);
    return answer?.matches('.assistant:not([aria-busy])') && question.querySelector('.bubble')?.textContent.trim() === text;
}"""

# Waits until everything that was to be stored so far is: transactions on the same conversations take turns.
STORED = """() => new Promise((done, failed) => {
    const opening = indexedDB.open('baize');
    opening.onerror = failed;
    opening.onsuccess = () => {
        const change = opening.result.transaction('conversations', 'readwrite');
        const all = change.objectStore('conversations').getAll();
        change.oncomplete = () => { opening.result.close(); done(JSON.stringify(all.result)); };
        change.onerror = change.onabort = failed;
    };
})"""
PATIENCE_MS = 120_000  # a busy machine is slow, not wrong

expect.set_options(timeout=PATIENCE_MS)


class Chat:
    """A page as its user sees it. Anything that goes wrong in the browser fails the test when it ends."""

    def __init__(self, chromium, url, **options):
        options = {"locale": "en-US", "viewport": {"width": 1200, "height": 800}} | options
        self.url, self.context, self.faults = url, chromium.new_context(**options), []
        self.context.on("page", self.watch)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.page.goto(url)
        self.expect("#composer").to_be_visible()

    def watch(self, page):
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda r: r.url.startswith((self.url, "data:", "blob:")) or self.faults.append(f"request: {r.url}"),
        )
        page.on(
            "console",
            lambda m: (
                m.type == "error"
                and "Failed to load resource" not in m.text
                and self.faults.append(f"console: {m.text}")
            ),
        )

    def close(self):
        self.context.close()
        assert not self.faults, self.faults

    def reload(self):
        """Loads the page anew, once it has stored what is on show."""
        self.page.evaluate(STORED)
        self.page.reload()

    def stored(self, text):
        """Waits until a stored conversation holds `text`."""
        end = time.monotonic() + PATIENCE_MS / 1000
        while text not in self.page.evaluate(STORED):
            assert time.monotonic() < end, f"{text!r} is not stored"
            self.page.wait_for_timeout(100)

    def find(self, selector):
        return self.page.locator(selector)

    def expect(self, selector):
        return expect(self.page.locator(selector))

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def type(self, text):
        self.page.locator("#composer").fill(text)
        self.page.keyboard.press("Enter")

    def ask(self, text):
        """Sends a message and waits until its answer is there."""
        self.type(text)
        self.page.wait_for_function(ANSWERED, arg=text.strip())
        self.settled()

    def settled(self):
        """Waits until nothing is being answered. What began the answer must be on show already."""
        self.expect("article.assistant >> nth=-1").not_to_have_attribute("aria-busy", "true")
        expect(self.page.get_by_role("button", name="Stop")).to_have_count(0)

    @property
    def answer(self):
        return self.page.locator("article.assistant").last

    def texts(self):
        """What the messages on show say, without their buttons."""
        return self.page.evaluate(TEXTS)

    def expect_texts(self, *texts):
        """Waits until the messages on show say `texts`."""
        expect(self.page.locator("article")).to_have_count(len(texts))
        for i, text in enumerate(texts):
            expect(self.page.locator("article").nth(i).locator(".bubble, .markdown").last).to_have_text(text)


class RealServer:
    """`baize serve` with the default model on a free port."""

    def __init__(self, baize, *options):
        command = [baize.program, "serve", DEFAULT_MODEL, "--host", "127.0.0.1", "--port", "0", *options]
        self.process = subprocess.Popen(command, env=baize.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.search(r" at (http://[^ ]+)$", line.strip())
        assert found, f"no server: {line}"
        self.url = found[1] + "/"

    def get(self, path, **headers):
        return urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=120)

    def close(self):
        self.process.terminate()
        self.process.communicate(timeout=120)
        assert self.process.returncode == 0
