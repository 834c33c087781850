"""A headless Chromium, driven through chromedriver with the WebDriver protocol."""
import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"tab": "\ue004", "enter": "\ue007", "escape": "\ue00c", "shift": "\ue008", "space": " ", "left": "\ue012", "up": "\ue013",
        "right": "\ue014", "down": "\ue015", "end": "\ue010", "home": "\ue011"}


def is_available():
    return CHROMIUM is not None and CHROMEDRIVER is not None


class Browser:
    """One window. Elements are named by CSS selectors."""

    def __init__(self, timeout_s=20):
        self.timeout_s = timeout_s
        self.driver = subprocess.Popen([CHROMEDRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        port = None
        while port is None:  # the line that says so comes first or second
            port = re.search(r"started successfully on port (\d+)", self.driver.stdout.readline())
        self.address = f"http://127.0.0.1:{port.group(1)}/session"
        options = {"binary": CHROMIUM, "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                                "--hide-scrollbars", "--window-size=1280,900"]}
        capabilities = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.call("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
        self.address += "/" + session["sessionId"]

    def close(self):
        self.call("DELETE", "")
        self.driver.terminate()
        self.driver.wait()
        self.driver.stdout.close()

    def call(self, method, path, content=None):
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.address + path, body, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, address):
        self.call("POST", "/url", {"url": address})

    def run(self, script, *arguments):
        """The value of a JavaScript function body."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, what, condition):
        """Waits until a JavaScript expression is true."""
        deadline = time.monotonic() + self.timeout_s
        while not self.run(f"return Boolean({condition})"):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {self.timeout_s} s; status: {self.text('#status')!r}, "
                                     f"error: {self.text('#error')!r}, console: {self.console()}")
            time.sleep(0.05)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.textContent", selector)

    def count(self, selector):
        return self.run("return document.querySelectorAll(arguments[0]).length", selector)

    def is_visible(self, selector):
        return self.run("return document.querySelector(arguments[0])?.checkVisibility() ?? false", selector)

    def element(self, selector):
        return "/element/" + self.call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.call("POST", self.element(selector) + "/click", {})

    def write(self, selector, text):
        """Replaces the text of a field."""
        element = self.element(selector)
        self.call("POST", element + "/clear", {})
        self.call("POST", element + "/value", {"text": text})

    def choose_file(self, selector, path):
        self.call("POST", self.element(selector) + "/value", {"text": str(path)})

    def press(self, *names, holding=None):
        """Presses keys one after another; text stands for its letters."""
        keys = [key for name in names for key in ([KEYS[name]] if name in KEYS else name)]
        actions = [action for key in keys for action in ({"type": "keyDown", "value": key}, {"type": "keyUp", "value": key})]
        if holding:
            actions = [{"type": "keyDown", "value": KEYS[holding]}, *actions, {"type": "keyUp", "value": KEYS[holding]}]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def drag(self, selector, begin, end, kind="mouse"):
        """Moves the pressed pointer between two points, given as shares of an element's width and height."""
        self.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        time.sleep(0.2)  # phones scroll in a thread of their own
        box = self.run("const box = document.querySelector(arguments[0]).getBoundingClientRect();"
                       "return [box.left, box.top, box.width, box.height]", selector)
        points = [{"type": "pointerMove", "duration": 50, "x": round(box[0] + x * box[2]), "y": round(box[1] + y * box[3])}
                  for x, y in (begin, end)]
        actions = [points[0], {"type": "pointerDown", "button": 0}, points[1], {"type": "pointerUp", "button": 0}]
        self.call("POST", "/actions", {"actions": [{"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": actions}]})

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def set_screen(self, width, height, is_phone=False, is_dark=False):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone)
        self.devtools("Emulation.setTouchEmulationEnabled", enabled=is_phone)
        features = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"},
                    {"name": "prefers-reduced-motion", "value": "reduce"}]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def console(self):
        """What the console has shown since the last call: errors, also those of the Content-Security-Policy."""
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"}) if entry["level"] in ("SEVERE", "WARNING")]

    def save_screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))
