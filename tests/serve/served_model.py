"""A tiny model that is trained once, dalle-serve processes that serve it, and what dalle-sample generates with it."""
import base64
import contextlib
import http.client
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import zlib

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "tools"))
import png  # noqa: E402

BIN = pathlib.Path(sys.argv[1]).resolve()
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SIDE = 32  # of the model's images
CODES = 64  # of an image


def run(tool, *arguments):
    result = subprocess.run([BIN / tool, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    if result.returncode != 0:
        raise RuntimeError(f"{tool}: {result.stderr}")


def rgba_png(width, height, pixel):
    """A PNG image with the RGBA values pixel(x, y)."""
    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (png.SIGNATURE + png.chunk(b"IHDR", header) + png.chunk(b"IDAT", zlib.compress(rows)) + png.chunk(b"IEND", b""))


def enlarged(rows, factor):
    """Rows of RGB values in which each pixel is repeated in both directions."""
    wide = [b"".join(row[3 * x:3 * x + 3] * factor for x in range(len(row) // 3)) for row in rows]
    return [row for row in wide for _ in range(factor)]


def rows_of(b64_json):
    return png.rgb_rows(base64.b64decode(b64_json))


# An image to keep parts of, and a mask that keeps its upper half.
IMAGE = png.png(SIDE, SIDE, bytes((7 * x + 5 * y + 90 * c) % 256 for y in range(SIDE) for x in range(SIDE) for c in range(3)))
MASK = rgba_png(SIDE, SIDE, lambda x, y: (0, 0, 0, 255 if y < SIDE // 2 else 0))


class Server:
    """A running dalle-serve."""

    def __init__(self, process, log):
        self.process, self.log = process, log
        self.port = int(re.search(r"at http://127\.0\.0\.1:(\d+)", log.read_text()).group(1))
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, method, path, body=None, headers=()):
        """The status, headers and body of an answer; a dict is sent as JSON."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = dict(headers)
        if isinstance(body, dict):
            headers.setdefault("Content-Type", "application/json")
            body = json.dumps(body)
        client.request(method, path, body, headers)
        response = client.getresponse()
        result = response.status, response.headers, response.read()
        client.close()
        return result

    def json(self, method, path, body=None, headers=()):
        status, _, answer = self.ask(method, path, body, headers)
        if status != 200:
            raise RuntimeError(f"{path}: {status} {answer}")
        return json.loads(answer)

    def metric(self, name):
        """The sum of the samples whose names and labels match a regular expression."""
        text = self.ask("GET", "/metrics")[2].decode()
        return sum(float(value) for value in re.findall(rf"^{name} (\S+)$", text, re.M))

    def wait_for_metric(self, name, least):
        end = time.monotonic() + 60
        while self.metric(name) < least:
            if time.monotonic() > end:
                raise TimeoutError(f"{name}: {self.metric(name)}, expected {least}")
            time.sleep(0.02)


class ServeTestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.work = pathlib.Path(cls.folder.name)
        cls.run_folder = cls.work / "tiny"
        run("dalle-train", "--config", REPOSITORY / "tests" / "tools" / "tiny.yaml", "--run-dir", cls.run_folder, "--device",
            "cpu", "--set", "dalle.train.caption_dropout=0.2")
        (cls.work / "image.png").write_bytes(IMAGE)
        (cls.work / "mask.png").write_bytes(MASK)
        cls.context = contextlib.ExitStack()
        cls.addClassCleanup(cls.context.close)
        cls.server = cls.context.enter_context(cls.serving())

    @classmethod
    @contextlib.contextmanager
    def serving(cls, *arguments, **environment):
        """A server of its own; stopped by SIGTERM in the end, after which its status must be 0."""
        log = cls.work / f"log-{time.monotonic_ns()}.txt"
        with log.open("w") as file:
            process = subprocess.Popen([BIN / "dalle-serve", "--model", cls.run_folder, "--port", "0", "--device", "cpu", *arguments],
                                       stderr=file, env={**ENVIRONMENT, **environment})
        try:
            while " at http://" not in log.read_text():
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
                time.sleep(0.05)
            yield Server(process, log)
            process.terminate()
            if process.wait(60) != 0:
                raise RuntimeError(log.read_text())
        finally:
            process.kill()
            process.wait()

    def sampled(self, *arguments, prompt="a red circle"):
        """The pixels of the images of dalle-sample, by their numbers."""
        out = self.work / f"out-{time.monotonic_ns()}"
        run("dalle-sample", prompt, "--model", self.run_folder, "--device", "cpu", "--out", out, *arguments)
        return [png.rgb_rows(file.read_bytes()) for file in sorted(out.glob("*.png"))]
