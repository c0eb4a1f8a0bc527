"""Open every page of the built site in headless Chromium and collect what goes wrong there."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bonexage_utils.errors import BoneXageError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
BROKEN_IMAGES = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 99))"
SETTLE_SECONDS, START_SECONDS, WIDTH, TALLEST = 0.4, 20, 1280, 12_000


def find_chromium() -> str:
    """The browser's program, or what to install."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if not found and MAC.exists():
        found = str(MAC)
    if not found:
        raise BoneXageError("no Chromium found: `sudo apt-get install chromium` on Debian, or install Chrome")
    return found


class Tab:
    """One tab, spoken to through Chromium's DevTools protocol."""

    def __init__(self, address: str) -> None:
        import websocket  # comes with JupyterLab

        self._socket = websocket.create_connection(address, timeout=30)
        self._number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; events met on the way are kept."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                return message.get("result", {})
            self.events.append(message)

    def open(self, address: str) -> None:
        """Load a page and give its scripts a moment."""
        self.events.clear()
        self.ask("Page.navigate", url=address)
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit:
            self.ask("Runtime.evaluate", expression="1")  # any answer brings the events that came before it
            if any(event.get("method") == "Page.loadEventFired" for event in self.events):
                break
            time.sleep(0.02)
        time.sleep(SETTLE_SECONDS)

    def problems(self) -> list[str]:
        """What went wrong on the page that is open."""
        answer = self.ask("Runtime.evaluate", expression=BROKEN_IMAGES, returnByValue=True)
        found = [f"image cannot be shown: {name}" for name in answer.get("result", {}).get("value", [])]
        for event in self.events:
            method, data = event.get("method"), event.get("params", {})
            if method == "Network.requestWillBeSent":
                address = data["request"]["url"]
                if not address.startswith(("file:", "data:", "blob:")):
                    found.append(f"asks the network for {address[:120]}")
            elif method == "Network.loadingFailed" and not data.get("canceled"):
                found.append(f"request failed: {data.get('errorText')}")
            elif method == "Runtime.exceptionThrown":
                found.append(f"script error: {data['exceptionDetails'].get('text')}")
            elif method == "Runtime.consoleAPICalled" and data.get("type") == "error":
                found.append(f"console error: {data['args'][:1]}")
            elif method == "Log.entryAdded" and data["entry"].get("level") == "error":
                found.append(f"console error: {data['entry'].get('text')} {data['entry'].get('url', '')}")
        return found

    def photograph(self, path: Path) -> None:
        """The page from top to bottom, as PNG."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        # A window as tall as the page: what sticks to the window would otherwise be drawn in odd places.
        tall = {"width": WIDTH, "height": min(int(size["height"]), TALLEST), "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **tall)
        shot = self.ask("Page.captureScreenshot", format="png")
        self.ask("Emulation.clearDeviceMetricsOverride")
        path.write_bytes(base64.b64decode(shot["data"]))


def visit_site(site: Path, out: Path) -> list[str]:
    """Visit every page of `site` from the disk, put a screenshot of each into `out`; problems come back."""
    pages = sorted(site.glob("*.html"))
    if not pages:
        raise BoneXageError(f"no pages in {site}: run `make course` first")
    out.mkdir(parents=True, exist_ok=True)
    problems = []
    with tempfile.TemporaryDirectory(prefix="bonexage-browser-", ignore_cleanup_errors=True) as profile:
        # No sandbox: it needs rights that containers do not give, and the pages are our own.
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        flags += [f"--window-size={WIDTH},1000", "--remote-debugging-port=0", "--remote-allow-origins=*"]
        flags += [f"--user-data-dir={profile}"]
        command = [find_chromium(), *flags, "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            tab = Tab(_first_tab(Path(profile) / "DevToolsActivePort", process))
            for page in pages:
                tab.open(page.resolve().as_uri())
                found = tab.problems()
                tab.photograph(out / f"{page.stem}.png")
                print(f"{page.name}: {'ok' if not found else f'{len(found)} problems'}", flush=True)
                problems += [f"{page.name}: {problem}" for problem in found]
        finally:
            process.terminate()
            process.wait(timeout=10)
    return problems


def _first_tab(port_file: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the tab that Chromium opened; it writes its port into a file once it listens."""
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        if port_file.is_file() and (lines := port_file.read_text().splitlines()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json", timeout=10) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return tabs[0]["webSocketDebuggerUrl"]
        time.sleep(0.1)
    raise BoneXageError("Chromium did not start: run it by hand once to see why")
