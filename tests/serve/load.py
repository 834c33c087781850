#!/usr/bin/env python3
"""Puts dalle-serve under load, attacks it and restarts it, and checks that it stays healthy.

Usage: load.py --port PORT --pid PID [--clients 32] [--seconds 600] [--malformed 100000] [--path /v1/images/generations]
       load.py --port PORT [--restarts 10] ... -- dalle-serve --port PORT --model RUN

For the given time, clients generate images (or ask for another --path), others vanish in the middle of a request, some send
one byte at a time, and some send bodies of a gigabyte. Then malformed requests are sent. Throughout, /health must answer
within --patience seconds, and in the end the process must be alive, without the connections, and with no more memory than
after a warm-up, up to --more-mb: the process keeps freed memory, also that of the largest bodies. Given the command that
starts the server, the script runs it, and finally stops it under load, every other time with SIGKILL, and starts it again:
clients may lose connections and receive status 503, but a response that looks complete must be an image. Exits with 1 if
something is wrong.
"""
import argparse
import base64
import collections
import http.client
import json
import pathlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

HOST = "127.0.0.1"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, help="of the running server, whose memory is measured")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--malformed", type=int, default=100_000)
    parser.add_argument("--path", default="/v1/images/generations")
    parser.add_argument("--caption", default="a red circle")
    parser.add_argument("--api-key", default="")
    parser.add_argument("--patience", type=float, default=10)
    parser.add_argument("--more-mb", type=float, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("command", nargs="*", help="starts the server")
    options = parser.parse_args()
    if bool(options.pid) == bool(options.command):
        parser.error("expected either --pid or a command that starts the server")
    return options


def memory_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


def connect(patience):
    return socket.create_connection((HOST, OPTIONS.port), timeout=patience)


def head(method, path, *headers):
    key = [f"authorization: Bearer {OPTIONS.api_key}"] if OPTIONS.api_key else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: localhost", *key, *headers, "", ""]).encode()


def generation(rng, stream=False):
    """A request for an image, complete."""
    if OPTIONS.path != "/v1/images/generations":
        return head("GET", OPTIONS.path)
    fields = {"prompt": OPTIONS.caption, "seed": rng.randrange(1 << 31), "response_format": "b64_json"}
    if stream:
        fields |= {"stream": True, "partial_images": 2}
    body = json.dumps(fields).encode()
    return head("POST", OPTIONS.path, "content-type: application/json", f"content-length: {len(body)}") + body


class Load:
    """What the threads share."""

    def __init__(self):
        self.end = time.monotonic() + OPTIONS.seconds
        self.counts = collections.Counter()
        self.problems = []
        self.restarts = 0  # begun and finished: odd while the server is not up
        self.lock = threading.Lock()

    def is_running(self):
        return time.monotonic() < self.end

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def wrong(self, problem):
        with self.lock:
            if len(self.problems) < 20:
                self.problems.append(problem)


class Server:
    """The process that the given command starts."""

    process = None
    is_over = False

    def start(self):
        """Whether the server is up."""
        if self.is_over:
            return False
        self.process = subprocess.Popen(OPTIONS.command)
        while self.process.poll() is None:
            try:
                with connect(OPTIONS.patience) as client:
                    client.sendall(head("GET", "/health", "connection: close"))
                    if client.recv(64).startswith(b"HTTP/1.1 200"):
                        return True
            except OSError:
                time.sleep(0.1)
        return False

    def stop(self, number):
        self.process.send_signal(number)
        return self.process.wait(timeout=120)

    def end(self):
        """Ends the process, if it still runs, and starts no other one."""
        self.is_over = True
        if self.process:
            self.process.kill()
            self.process.wait()


def restart(load, rng, server):
    """Ends the server in the middle of the load, and starts it again."""
    for i in range(OPTIONS.restarts):
        time.sleep(2 + 2 * rng.random())
        number = signal.SIGTERM if i % 2 else signal.SIGKILL
        load.restarts += 1
        status = server.stop(number)
        if status != (0 if number == signal.SIGTERM else -number):
            load.wrong(f"the server ended with status {status} after signal {number}")
        if not server.start():
            load.wrong(f"the server did not start again: status {server.process.returncode}")
            break
        load.restarts += 1
        load.count("restarts")
    load.end = time.monotonic() + 2


def generate(load, rng):
    """A client that behaves: every answer must be complete."""
    while load.is_running():
        restarts = load.restarts
        try:
            with connect(OPTIONS.patience + 600) as client:
                client.sendall(generation(rng))
                response = http.client.HTTPResponse(client)
                response.begin()
                body = response.read()
        except (OSError, http.client.HTTPException) as error:
            if load.restarts == restarts and restarts % 2 == 0:
                load.wrong(f"generation: {error!r}")
            load.count("connections lost")
            time.sleep(0.1)
            continue
        load.count(f"answers {response.status}")
        if response.status == 200 and OPTIONS.path == "/v1/images/generations":
            image = base64.b64decode(json.loads(body)["data"][0]["b64_json"], validate=True)
            if not image.startswith(b"\x89PNG"):
                load.wrong("generation: the answer is not a PNG file")
        elif response.status == 429:
            time.sleep(float(response.headers["retry-after"]))
        elif response.status == 503 and load.restarts > 0:
            time.sleep(0.1)
        elif response.status != 200:
            load.wrong(f"generation: status {response.status}: {body[:200]}")


def vanish(load, rng):
    """Disconnects somewhere in a request or in its answer, politely or with a reset."""
    while load.is_running():
        request = generation(rng, stream=rng.random() < 0.5)
        try:
            with connect(OPTIONS.patience) as client:
                client.sendall(request[:rng.choice((len(request), len(request), rng.randrange(len(request))))])
                time.sleep(rng.random() * 0.5)
                if rng.random() < 0.5:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        load.count("vanished")


def trickle(load, rng):
    """Sends one byte at a time, until the server gives up."""
    while load.is_running():
        begin = time.monotonic()
        try:
            with connect(OPTIONS.patience) as client:
                client.sendall(rng.choice((b"GET /", head("POST", "/v1/images/edits", "content-length: 100000"))))
                while load.is_running():
                    client.sendall(b"x")
                    time.sleep(0.5)
                    if time.monotonic() - begin > 120:
                        load.wrong("a request may take longer than two minutes")
                        break
        except OSError:
            load.count("slow requests ended by the server")


def flood(load, rng):
    """Sends a body of a gigabyte, announced or in chunks."""
    megabyte = b"x" * (1 << 20)
    is_chunked = False
    while load.is_running():
        is_chunked = not is_chunked
        length = "transfer-encoding: chunked" if is_chunked else f"content-length: {1 << 30}"
        try:
            with connect(OPTIONS.patience) as client:
                client.sendall(head("POST", "/v1/images/edits", "content-type: multipart/form-data; boundary=b", length))
                for _ in range(1 << 10):
                    client.sendall(b"100000\r\n" + megabyte + b"\r\n" if is_chunked else megabyte)
            load.wrong("a body of a gigabyte was read")
        except OSError:
            load.count("gigabyte bodies refused")
        time.sleep(1)


def watch_health(load, stop):
    slowest = 0
    while not stop.wait(0.2):
        begin = time.monotonic()
        try:
            client = http.client.HTTPConnection(HOST, OPTIONS.port, timeout=OPTIONS.patience)
            client.request("GET", "/health")
            response = client.getresponse()
            response.read()
            client.close()
            if response.status != 200:
                load.wrong(f"/health: status {response.status}")
        except (OSError, http.client.HTTPException) as error:
            load.wrong(f"/health: {error!r}")
        slowest = max(slowest, time.monotonic() - begin)
        load.count("health checks")
    load.slowest_health = slowest


def malformed(rng):
    """A request with a few random changes."""
    body = json.dumps({"prompt": "x", "n": rng.choice((0, -1, 1e99, "many", None)), "size": "0x0"}).encode()
    form = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n\x89PNG\r\n\r\n--b--\r\n'
    request = bytearray(rng.choice((
        head("GET", rng.choice(("/", "/health", "/v1/models", "/images/%2e%2e/x", "/%00", "/v1/runs/../..")), "x-a: b"),
        head("POST", "/v1/images/generations", "content-type: application/json", f"content-length: {len(body)}") + body,
        head("POST", "/v1/images/edits", "content-type: multipart/form-data; boundary=b", f"content-length: {len(form)}") + form,
        head("POST", "/sdapi/v1/txt2img", "transfer-encoding: chunked") + b"5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n",
        head("POST", "/v1/images/generations", "content-length: 4", "content-type: application/json") + b"[" * 4)))
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(len(request))
        kind = rng.randrange(4)
        if kind == 0:
            request[at] = rng.randrange(256)
        elif kind == 1:
            del request[at:at + rng.randrange(1, 20)]
        elif kind == 2:
            request[at:at] = bytes(rng.choice(b"\r\n\0 :%;=,\"\\xAa9\xff") for _ in range(rng.randrange(1, 20)))
        else:
            other = rng.randrange(len(request))
            request[at:at] = request[other:other + 30]
        if not request:
            request = bytearray(b"x")
    return bytes(request)


def send_malformed(load, rng, number):
    for _ in range(number):
        request = malformed(rng)
        try:
            with connect(OPTIONS.patience) as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                answer = b""
                while received := client.recv(1 << 16):
                    answer += received
        except ConnectionError:
            answer = b""
        except OSError as error:
            load.wrong(f"no end of the answer to {request!r}: {error!r}")
            continue
        status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") else "none"
        load.count(f"malformed: {status}")
        if status.startswith("5") and status not in ("501", "503", "505"):
            load.wrong(f"status {status} for {request!r}")


def run_threads(load, works):
    threads = [threading.Thread(target=work, args=(load, random.Random(f"{OPTIONS.seed} {i}"), *rest), daemon=True)
               for i, (work, *rest) in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run(server):
    """Returns the exit status."""
    if OPTIONS.command:
        if not server.start():
            return 1
        OPTIONS.pid = server.process.pid
    load = Load()
    stop = threading.Event()
    health = threading.Thread(target=watch_health, args=(load, stop), daemon=True)
    load.end = time.monotonic() + max(3, min(60, OPTIONS.seconds / 5))
    attackers = max(1, OPTIONS.clients // 8)
    phase = [(generate,)] * OPTIONS.clients + [(vanish,), (trickle,)] * attackers + [(flood,)] * min(2, attackers)
    run_threads(load, phase)
    before = memory_mb(OPTIONS.pid)
    health.start()
    load.end = time.monotonic() + OPTIONS.seconds
    run_threads(load, phase)
    threads = min(8, OPTIONS.clients)
    run_threads(load, [(send_malformed, OPTIONS.malformed // threads)] * threads)
    stop.set()
    health.join()
    after = memory_mb(OPTIONS.pid)
    print(", ".join(f"{what}: {number}" for what, number in sorted(load.counts.items())))
    print(f"memory: {before:.0f} MB before, {after:.0f} MB after; slowest /health: {load.slowest_health:.3f} s")
    if after > before + OPTIONS.more_mb:
        load.wrong(f"memory grew from {before:.0f} MB to {after:.0f} MB")
    if OPTIONS.command:
        load.counts.clear()
        load.end = float("inf")
        run_threads(load, [(generate,)] * OPTIONS.clients + [(restart, server)])
        print("restarts under load: " + ", ".join(f"{what}: {number}" for what, number in sorted(load.counts.items())))
        if server.stop(signal.SIGTERM) != 0:
            load.wrong("the server did not end with status 0")
    for problem in load.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if load.problems else 0


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C, to end the server
    server = Server()
    try:
        return run(server)
    finally:
        server.end()


if __name__ == "__main__":
    OPTIONS = arguments()
    sys.exit(main())
