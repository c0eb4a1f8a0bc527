"""Open pages in headless Chromium as their readers do, and collect what goes wrong there."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bonexage_utils.errors import BoneXageError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
BROKEN_IMAGES = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 99))"
TOO_WIDE = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
SETTLE_SECONDS, START_SECONDS, WIDTH, HEIGHT, TALLEST = 0.4, 20, 1280, 1000, 12_000
KEYS = {"Tab": 9, "Enter": 13, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39,
        "ArrowDown": 40}
# axe-core, the rules that a page must keep for readers with a disability; pip's wrapper carries the script.
AXE_VARIABLE, AXE_PACKAGE, AXE_FILE = "BONEXAGE_AXE", "axe_playwright_python", "axe.min.js"
WITHOUT_AXE = f"no axe-core: pip install --no-deps axe-playwright-python, or name {AXE_FILE} in {AXE_VARIABLE}"
AXE_RUN = """axe.run(%s, {resultTypes: ["violations"], %s}).then(found => found.violations
    .filter(rule => ["serious", "critical"].includes(rule.impact)).map(rule =>
    `${rule.impact}, ${rule.id}: ${rule.help}; at ${rule.nodes.map(node => node.target).slice(0, 5).join(", ")}`))"""


def find_chromium() -> str:
    """The browser's program, or what to install."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if not found and MAC.exists():
        found = str(MAC)
    if not found:
        raise BoneXageError("no Chromium found: `sudo apt-get install chromium` on Debian, or install Chrome")
    return found


def find_axe() -> Path | None:
    """The script of axe-core: the file that BONEXAGE_AXE names, or that of pip's axe-playwright-python."""
    if named := os.environ.get(AXE_VARIABLE):
        return Path(named)
    package = importlib.util.find_spec(AXE_PACKAGE)
    return Path(package.origin).parent / AXE_FILE if package and package.origin else None


class Tab:
    """One tab, spoken to through Chromium's DevTools protocol."""

    def __init__(self, address: str) -> None:
        import websocket  # comes with JupyterLab

        self._socket = websocket.create_connection(address, timeout=60)
        self._number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setFocusEmulationEnabled", enabled=True)  # as if somebody sat before it

    def _send(self, method: str, **parameters: Any) -> int:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        return self._number

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; events met on the way are kept. A page that asks whether it may be
        left may."""
        number = self._send(method, **parameters)
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                return message.get("result", {})
            self.events.append(message)
            if message.get("method") == "Page.javascriptDialogOpening":
                self._send("Page.handleJavaScriptDialog", accept=True)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page; of a promise, what it keeps."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if details := answer.get("exceptionDetails"):
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = START_SECONDS) -> Any:
        """The value of an expression once it is true. Raises TimeoutError where it stays false."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if value := self.evaluate(expression):
                return value
            time.sleep(0.1)
        raise TimeoutError(f"after {seconds} s still not: {expression}")

    def press(self, key: str, times: int = 1) -> None:
        """Press a key of KEYS and let it go again."""
        facts = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        for _ in range(times):
            self.ask("Input.dispatchKeyEvent", type="keyDown", **facts, **({"text": "\r"} if key == "Enter" else {}))
            self.ask("Input.dispatchKeyEvent", type="keyUp", **facts)

    def drag(self, places: Iterable[tuple[float, float]]) -> None:
        """Press the mouse at the first of these places (x, y), px, move it through the others and let it go."""
        kind = "mousePressed"
        for x, y in places:
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
            kind = "mouseMoved"
        self.ask("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)

    def resize(self, width: int = WIDTH, height: int = HEIGHT, zoom: float = 1) -> None:
        """Make the window so wide and high, in px at `zoom` 1; magnified, less of the page fits into it."""
        size = {"width": round(width / zoom), "height": round(height / zoom)}
        self.ask("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=zoom, mobile=False)

    def darken(self, dark: bool = True) -> None:
        """Ask for the dark theme, as a reader does in her system, and by the button of the site's pages."""
        wanted = "dark" if dark else "light"
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": wanted}])
        self.evaluate("document.documentElement.dataset.theme && "
                      f"(document.documentElement.dataset.theme = document.documentElement.dataset.mode = '{wanted}')")
        time.sleep(SETTLE_SECONDS)  # colours change over a moment

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

    def problems(self, *homes: str) -> list[str]:
        """What went wrong on the page that is open; `homes` are addresses that it may ask."""
        found = [f"image cannot be shown: {name}" for name in self.evaluate(BROKEN_IMAGES)]
        for event in self.events:
            method, data = event.get("method"), event.get("params", {})
            if method == "Network.requestWillBeSent":
                address = data["request"]["url"]
                if not address.startswith(("file:", "data:", "blob:", *homes)):
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

    def barriers(self, axe: Path, rule: str | None = None, part: str = "html") -> list[str]:
        """The serious and critical rules of axe-core, or `rule` alone, that the page as it stands breaks in the `part`
        that a selector names, and where."""
        self.evaluate(axe.read_text(encoding="utf-8"))
        return self.evaluate(AXE_RUN % (json.dumps(part), f"runOnly: ['{rule}']" if rule else ""))

    def photograph(self, path: Path) -> None:
        """The page from top to bottom, as PNG."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        # A window as tall as the page: what sticks to the window would otherwise be drawn in odd places.
        self.resize(height=min(int(size["height"]), TALLEST))
        shot = self.ask("Page.captureScreenshot", format="png")
        self.ask("Emulation.clearDeviceMetricsOverride")
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium() -> Iterator[Tab]:
    """A tab of a browser that begins and ends with the block, and knows nothing of earlier ones."""
    with tempfile.TemporaryDirectory(prefix="bonexage-browser-", ignore_cleanup_errors=True) as profile:
        # No sandbox: it needs rights that containers do not give, and the pages are our own.
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]
        flags += [f"--window-size={WIDTH},{HEIGHT}", "--remote-debugging-port=0", "--remote-allow-origins=*"]
        flags += [f"--user-data-dir={profile}"]
        command = [find_chromium(), *flags, "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield Tab(_first_tab(Path(profile) / "DevToolsActivePort", process))
        finally:
            process.terminate()
            process.wait(timeout=10)


def look_at(tab: Tab, page: Path, axe: Path | None) -> list[str]:
    """What is wrong with a page from the disk: by itself, light, dark, and magnified to 200 %."""
    tab.darken(False)
    tab.resize()
    tab.open(page.resolve().as_uri())
    found = tab.problems()
    if axe:
        found += tab.barriers(axe)
        tab.darken()
        found += [f"dark: {barrier}" for barrier in tab.barriers(axe, "color-contrast")]
        tab.darken(False)
    tab.resize(zoom=2)
    if (over := tab.evaluate(TOO_WIDE)) > 0:
        found.append(f"at 200 %, {over} px wider than the window")
    tab.ask("Emulation.clearDeviceMetricsOverride")
    return found


def visit_site(site: Path, out: Path) -> list[str]:
    """Visit every page of `site` from the disk, put a screenshot of each into `out`; problems come back."""
    pages = sorted(site.glob("*.html"))
    if not pages:
        raise BoneXageError(f"no pages in {site}: run `make course` first")
    out.mkdir(parents=True, exist_ok=True)
    if not (axe := find_axe()):
        print(WITHOUT_AXE)
    problems = []
    with chromium() as tab:
        for page in pages:
            found = look_at(tab, page, axe)
            tab.photograph(out / f"{page.stem}.png")
            print(f"{page.name}: {'ok' if not found else f'{len(found)} problems'}", flush=True)
            problems += [f"{page.name}: {problem}" for problem in found]
    return problems


def _first_tab(port_file: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the tab that Chromium opened; it writes its port into a file once it listens."""
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        if port_file.is_file() and (lines := port_file.read_text(encoding="utf-8").splitlines()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json", timeout=10) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return tabs[0]["webSocketDebuggerUrl"]
        time.sleep(0.1)
    raise BoneXageError("Chromium did not start: run it by hand once to see why")
