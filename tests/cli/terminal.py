"""A pseudo-terminal with a program in it, and patience to wait for what it shows."""

import os
import pty
import re
import select
import subprocess
import time


class Terminal:
    """Runs a command in a terminal of its own. Everything it shows, stdout and stderr, ends up in `screen`."""

    def __init__(self, command, env):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(list(map(str, command)), stdin=slave, stdout=slave, stderr=slave,
                                        env=env | {"TERM": "dumb"}, start_new_session=True,
                                        preexec_fn=lambda: self._own_terminal(slave))
        os.close(slave)
        self.screen, self.seen = "", 0

    @staticmethod
    def _own_terminal(slave):
        import fcntl
        import termios
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)  # so that Ctrl-C in it becomes a signal

    def send(self, text):
        os.write(self.master, text.encode())

    def line(self, text):
        self.send(text + "\r")

    def prompt(self):
        """Waits until the program asks for the next line: keys sent before it does might be shown twice."""
        self.expect(r">>> \Z")

    def expect(self, pattern, timeout=300):
        """Waits for `pattern` behind what was expected before; returns the match."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.search(pattern, self.screen[self.seen:])
            if match:
                self.seen += match.end()
                return match
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.screen[self.seen:]!r}"
            if select.select([self.master], [], [], left)[0]:
                assert self._read(), f"the program ended before it showed {pattern!r}: {self.screen[self.seen:]!r}"

    def _read(self):
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the program ended and its side is closed
            return False
        self.screen += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def wait(self, timeout=300):
        """Waits for the program's end; returns its exit code."""
        deadline = time.monotonic() + timeout
        while select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0] and self._read():
            pass
        return self.process.wait(timeout=max(1, deadline - time.monotonic()))

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
