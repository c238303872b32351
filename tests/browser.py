"""Headless Chromium for tests, through chromedriver's W3C WebDriver protocol, which is JSON over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "AXE",
    "CHROMEDRIVER",
    "CHROMIUM",
    "KEYS",
    "MISSING",
    "NO_AXE",
    "NO_BROWSER",
    "Browser",
    "browsing",
    "violations",
]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
MISSING = not (CHROMIUM and CHROMEDRIVER)
NO_BROWSER = "no browser: needs chromium and chromedriver (Debian: chromium, chromium-driver)"
#: Where npm puts axe-core: `npm install axe-core` at the root of the repository, or what AXE_CORE says.
AXE = Path(os.environ.get("AXE_CORE", Path(__file__).parent.parent / "node_modules/axe-core/axe.min.js"))
NO_AXE = "no axe-core: `npm install axe-core` puts it here, or AXE_CORE says where it is"

KEYS = {
    "Tab": "\ue004",
    "Enter": "\ue007",
    "Shift": "\ue008",
    "Control": "\ue009",
    "PageUp": "\ue00e",
    "PageDown": "\ue00f",
    "End": "\ue010",
    "Home": "\ue011",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
}


class Browser:
    """One session of Chromium."""

    def __init__(self, port: int, profile: Path) -> None:
        self.root = f"http://127.0.0.1:{port}/session"
        flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        flags += "disable-component-update disable-sync disable-dev-shm-usage"
        options = {
            "binary": CHROMIUM,
            "args": [*(f"--{flag}" for flag in flags.split()), f"--user-data-dir={profile}"],
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self.root += f"/{self.call('', capabilities={'alwaysMatch': wanted})['sessionId']}"

    def call(self, path: str, **body: object) -> object:
        request = urllib.request.Request(
            f"{self.root}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def close(self) -> None:
        urllib.request.urlopen(urllib.request.Request(self.root, method="DELETE"), timeout=30).close()

    def open(self, url: str) -> None:
        self.call("/url", url=url)

    def run(self, script: str, *args: object) -> object:
        return self.call("/execute/sync", script=script, args=list(args))

    def wait(self, script: str, *args: object) -> object:
        """Run a script that calls its last argument with the result, when there is one."""
        return self.call("/execute/async", script=script, args=list(args))

    def log(self, kind: str) -> list[dict]:
        return self.call("/se/log", type=kind)

    def devtools(self, command: str, **parameters: object) -> dict:
        return self.call("/goog/cdp/execute", cmd=command, params=parameters)

    def press(self, *keys: str) -> None:
        """Press and release keys one after another; "Control+a" holds the first."""
        steps = []
        for key in keys:
            chord = [KEYS.get(name, name) for name in key.split("+")] if len(key) > 1 else [key]
            steps += [{"type": "keyDown", "value": name} for name in chord]
            steps += [{"type": "keyUp", "value": name} for name in reversed(chord)]
        self.call("/actions", actions=[{"type": "key", "id": "keyboard", "actions": steps}])

    def touch(self, *places: tuple[float, float]) -> None:
        """Put a finger on the first place in the window, move it over the others, and lift it."""
        spots = [{"type": "pointerMove", "duration": 50, "x": round(x), "y": round(y)} for x, y in places]
        steps = [
            spots[0],
            {"type": "pointerDown", "button": 0},
            *spots[1:],
            {"type": "pointerUp", "button": 0},
        ]
        finger = {"type": "pointer", "id": "finger", "parameters": {"pointerType": "touch"}, "actions": steps}
        self.call("/actions", actions=[finger])

    def emulate(self, width: int, scheme: str = "light", media: str = "", height: int = 844) -> None:
        """Show pages as on a screen so wide, in a colour scheme, or on paper."""
        phone = {"deviceScaleFactor": 2, "mobile": width < 500}
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, **phone)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", media=media, features=features)

    def emulate_nothing(self) -> None:
        """Show pages as they are again."""
        self.devtools("Emulation.clearDeviceMetricsOverride")
        self.devtools("Emulation.setEmulatedMedia", media="", features=[])


@contextlib.contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """Start a browser with a new profile in a folder, and end it after the block."""
    driver = subprocess.Popen([CHROMEDRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        started = (re.search(r"started successfully on port (\d+)", line) for line in driver.stdout)
        port = next(int(found[1]) for found in started if found)
        with contextlib.closing(Browser(port, profile)) as session:
            yield session
    finally:
        driver.terminate()
        driver.wait(timeout=30)
        driver.stdout.close()


def violations(page: Browser) -> list[object]:
    """Return what axe-core finds on the open page against WCAG 2.2, levels A and AA, and in which elements."""
    page.run(AXE.read_text(encoding="utf-8") + "; return 0")
    script = """const [rules, done] = arguments;
        axe.run(document, { runOnly: rules }).then((found) => done(found.violations.map((v) => [v.id, v.help,
            v.nodes.map((n) => [n.html.slice(0, 120), n.any.map((c) => c.message).join("; ").slice(0, 200)])])),
            (problem) => done(String(problem)));"""
    return page.wait(script, ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"])
