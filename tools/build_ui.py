#!/usr/bin/env python3
"""Builds the chat page: tools/build_ui.py [FOLDER] leaves index.html and index.html.gz in ui/dist and copies them to FOLDER.

Does nothing that is done already: packages are installed when package-lock.json changed, the page is built when a source
did, by content, so that every build folder of a checkout shares one build. Standard library only.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UI = ROOT / "ui"
MADE = ("index.html", "index.html.gz")
OLDEST_NODE = (20, 19)
HELP = "tools/setup.sh build installs it; -DBAIZE_UI=OFF builds without the chat page"


def environment():
    """The environment with a Node.js on PATH that is new enough: the system's, else the one of tools/setup.sh."""
    for path in (os.environ["PATH"], f"{ROOT / '.node/bin'}{os.pathsep}{os.environ['PATH']}"):
        if not shutil.which("node", path=path) or not shutil.which("npm", path=path):
            continue
        env = os.environ | {"PATH": path}
        text = subprocess.run(["node", "--version"], env=env, capture_output=True, text=True).stdout.strip()
        if tuple(int(n) for n in text.lstrip("v").split(".")[:2] if n.isdigit()) >= OLDEST_NODE:
            return env
    sys.exit(f"build_ui: the chat page needs Node.js {'.'.join(map(str, OLDEST_NODE))} or newer and npm; {HELP}")


def digest(files):
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.relative_to(UI)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def once(stamp, value, outputs, what, command, env):
    """Runs npm's command unless the stamp says that its outputs are of these inputs."""
    if stamp.exists() and stamp.read_text() == value and all(o.exists() for o in outputs):
        return
    print(f"build_ui: {what}", flush=True)
    done = subprocess.run(["npm", *command, "--silent"], cwd=UI, env=env, stdin=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"build_ui: npm {' '.join(command)} failed in ui/; {HELP}")
    stamp.write_text(value)


def main():
    settings = [*UI.glob("*.ts"), *UI.glob("*.json"), UI / "index.html", UI / ".npmrc"]
    sources = digest([*settings, *(f for f in (UI / "src").rglob("*") if f.is_file())])
    packages = digest([UI / "package.json", UI / "package-lock.json"])
    dist = UI / "dist"
    with open(UI / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (
            (dist / ".sources").exists()
            and (dist / ".sources").read_text() == sources
            and all((dist / f).exists() for f in MADE)
        ):
            env = environment()
            once(
                UI / "node_modules/.packages", packages, [UI / "node_modules/vite"], "installing packages", ["ci"], env
            )
            once(dist / ".sources", sources, [dist / f for f in MADE], "building the page", ["run", "build"], env)
        if len(sys.argv) > 1:
            folder = Path(sys.argv[1])
            folder.mkdir(parents=True, exist_ok=True)
            for name in MADE:
                shutil.copyfile(dist / name, folder / name)


if __name__ == "__main__":
    main()
