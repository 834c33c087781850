"""A server that speaks the routes of dalle-serve as far as the page uses them, and does as a test wishes: waits, fails, asks
for a key. Its images are of one color, that of the caption."""
import base64
import email
import http.server
import json
import pathlib
import re
import sys
import threading
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))
from png import png  # noqa: E402

PAGE = ROOT / "src" / "serve" / "page"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
COLORS = {"red": (200, 40, 40), "green": (40, 160, 70), "blue": (40, 80, 200), "white": (230, 230, 230), "black": (20, 20, 20)}
SIZE = 32


def policy():
    """The Content-Security-Policy of the real server."""
    source = (ROOT / "src" / "serve" / "page_routes.cpp").read_text()
    literals = re.search(r"kContentSecurityPolicy =((?:\s*\"[^\"]*\")+);", source).group(1)
    return "".join(re.findall(r'"([^"]*)"', literals))


def image(caption, brightness=1.0):
    color = next((COLORS[word] for word in caption.split() if word in COLORS), (128, 128, 128))
    return png(SIZE, SIZE, bytes(round(brightness * value) for value in color) * SIZE * SIZE)


class StandInServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.reset()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def reset(self):
        self.requests = []           # the fields of all requests for images, with the path as "path"
        self.closed = 0              # streams that the client closed
        self.go_on = threading.Event()  # streams wait for it after the previews
        self.go_on.set()
        self.failure = None          # (status, message, headers) of requests for images
        self.failure_in_stream = None
        self.key = None
        self.runs = {}               # by id: {"detail": ..., "files": {path: content}}
        self.models = [model("shapes-demo")]

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a browser that leaves


def model(name, **members):
    dalle = {"image_size": SIZE, "grid": 8, "step": 12000, "checkpoint": f"runs/{name}/checkpoints/dalle/step-00012000",
             "manifest": "0123456789abcdef" * 4, "max_n": 10, "max_best_of": 64, "max_partial_images": 3, "count": 2, "captions": ["a red circle"],
             "sampling": {"temperature": 1, "top_k": 0, "top_p": 1, "guidance": 1}, "guidance_trained": True,
             "can_rerank": True, "reranker": "clip 0123", "reranker_model": "models/clip"}
    return {"id": name, "object": "model", "created": 0, "owned_by": "dalle", "dalle": {**dalle, **members}}


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, content_type, body, **headers):
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, content, status=200, **headers):
        self.send(status, "application/json", json.dumps(content).encode(), **headers)

    def send_error_json(self, status, message, **headers):
        self.send_json({"error": {"message": message, "type": "error", "param": None, "code": None}}, status, **headers)

    def is_refused(self):
        key = self.server.key
        if key is None or self.headers.get("authorization") == f"Bearer {key}":
            return False
        self.send_error_json(401, "a valid API key is required")
        return True

    def do_GET(self):
        self.path = urllib.parse.unquote(self.path.partition("?")[0])
        name = "index.html" if self.path == "/" else self.path[1:]
        if "/" not in name and (PAGE / name).is_file():
            self.send(200, TYPES[pathlib.Path(name).suffix], (PAGE / name).read_bytes(), content_security_policy=policy())
        elif self.is_refused():
            pass
        elif self.path == "/v1/models":
            self.send_json({"object": "list", "data": self.server.models})
        elif self.path == "/v1/runs":
            self.send_json({"object": "list", "data": [{"id": run, "updated": 0} for run in self.server.runs]}, etag='"list"')
        else:
            self.send_run_file()

    def send_run_file(self):
        run, _, file = self.path.removeprefix("/v1/runs/").partition("/")
        if run not in self.server.runs:
            self.send_error_json(404, "there is no such run")
        elif not file:
            detail = self.server.runs[run]["detail"]
            etag = f'"{hash(json.dumps(detail))}"'
            if self.headers.get("if-none-match") == etag:
                self.send(304, "application/json", b"")
            else:
                self.send_json(detail, etag=etag)
        elif file in self.server.runs[run]["files"]:
            self.send(200, "image/png", self.server.runs[run]["files"][file])
        else:
            self.send_error_json(404, "the run has no such image")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.is_refused():
            return
        fields = {**self.fields(body), "path": self.path}
        self.server.requests.append(fields)
        if self.server.failure:
            status, message, headers = self.server.failure
            self.send_error_json(status, message, **headers)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        try:
            self.send_events(fields)
        except OSError:
            self.server.closed += 1
        self.close_connection = True

    def fields(self, body):
        if self.headers["content-type"].startswith("application/json"):
            return json.loads(body)
        message = email.message_from_bytes(b"content-type: " + self.headers["content-type"].encode() + b"\r\n\r\n" + body)
        parts = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in message.get_payload()}
        return {name: value if name == "image" else value.decode() for name, value in parts.items()}

    def send_events(self, fields):
        count, best_of = int(fields["n"]), int(fields.get("best_of", 0))
        for number in range(int(fields["partial_images"])):
            for nth in range(best_of or count):
                self.send_event("partial_image", fields, image=nth, partial_image_index=number, brightness=0.3 + 0.2 * number)
        while not self.server.go_on.wait(0.05):
            self.wfile.write(b": waiting\n\n")
            self.wfile.flush()
        if self.server.failure_in_stream:
            self.write_event({"error": {"message": self.server.failure_in_stream}})
            return
        for place in range(count):
            nth, score = (2 * place + 1, {"score": 0.5 - place / 8}) if best_of else (place, {})
            self.send_event("completed", fields, image=nth, brightness=1, **score)
        self.wfile.write(b"data: [DONE]\n\n")

    def send_event(self, kind, fields, brightness, **members):
        name = "image_edit" if fields["path"].endswith("edits") else "image_generation"
        content = base64.b64encode(image(fields["prompt"], brightness)).decode()
        self.write_event({"type": f"{name}.{kind}", "b64_json": content, **members})

    def write_event(self, content):
        self.wfile.write(f"event: {content.get('type', 'error')}\ndata: {json.dumps(content)}\n\n".encode())
        self.wfile.flush()


if __name__ == "__main__":
    print(StandInServer().address, flush=True)
    threading.Event().wait()
