#!/usr/bin/env python3
"""Tests dalle-serve with requests as they are on the wire: those of Open WebUI, of LibreChat, of clients of AUTOMATIC1111's web
UI, and wrong ones.

Usage: serve_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import base64
import json
import re
import signal
import socket
import sys
import time
import unittest

from served_model import CODES, IMAGE, MASK, REPOSITORY, SIDE, ServeTestCase, enlarged, png, rgba_png, rows_of

PROMPT = "a red circle"


def form(fields, files):
    """The headers and body of a form as aiohttp and others write it."""
    body = b""
    for name, value in fields.items():
        body += (f'--edge\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
                 f"{value}\r\n").encode()
    for name, content in files:
        body += (f'--edge\r\nContent-Type: image/png\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n'
                 "\r\n").encode() + content + b"\r\n"
    return {"Content-Type": "multipart/form-data; boundary=edge"}, body + b"--edge--\r\n"


class RequestsTest(ServeTestCase):
    def error(self, method, path, body=None, headers=()):
        """The status and the error object of an answer, whose form is checked."""
        status, found, answer = self.server.ask(method, path, body, headers)
        self.assertEqual(found["content-type"], "application/json")
        self.assertTrue(found["x-request-id"])
        error = json.loads(answer)
        self.assertEqual(list(error), ["error"])
        self.assertEqual(list(error["error"]), ["message", "type", "param", "code"])
        return status, error["error"]

    def test_an_answer_has_the_form_of_the_api(self):
        before = int(time.time())
        status, headers, body = self.server.ask("POST", "/v1/images/generations",
                                                {"prompt": PROMPT, "n": 2, "seed": 7, "user": "someone"})
        self.assertEqual(status, 200, body)
        answer = json.loads(body)
        self.assertGreaterEqual(answer.pop("created"), before)
        data = answer.pop("data")
        self.assertEqual([sorted(entry) for entry in data], 2 * [["b64_json", "image"]])
        self.assertEqual([rows_of(entry["b64_json"]) for entry in data], self.sampled("--seed", 7, "--count", 2))
        usage = answer.pop("usage")
        text_tokens = usage["input_tokens"]
        self.assertGreater(text_tokens, 0)
        self.assertEqual(usage, {"input_tokens": text_tokens, "output_tokens": 2 * CODES, "total_tokens": text_tokens + 2 * CODES,
                                 "input_tokens_details": {"text_tokens": text_tokens, "image_tokens": 0},
                                 "output_tokens_details": {"text_tokens": 0, "image_tokens": 2 * CODES}})
        self.assertEqual(answer, {"size": "32x32", "quality": "high", "background": "opaque", "output_format": "png",
                                  "model": "tiny", "seed": 7, "safety_identifier": "someone"})
        self.assertEqual(headers["x-dalle-model"], "tiny")
        self.assertEqual(headers["content-type"], "application/json")

    def test_without_a_seed_each_answer_has_another_one_that_repeats_it(self):
        first, second = (self.server.json("POST", "/v1/images/generations", {"prompt": PROMPT}) for _ in range(2))
        self.assertNotEqual(first["seed"], second["seed"])
        again = self.server.json("POST", "/v1/images/generations", {"prompt": PROMPT, "seed": first["seed"]})
        self.assertEqual(again["data"], first["data"])

    def test_sampling_options_mean_what_they_mean_to_dalle_sample(self):
        options = {"temperature": 0.7, "top_k": 9, "top_p": 0.9, "guidance": 2, "guidance_from": 0.1, "guidance_to": 0.6}
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        answer = self.server.json("POST", "/v1/images/generations", {"prompt": PROMPT, "seed": 3, **options})
        self.assertEqual([rows_of(answer["data"][0]["b64_json"])], self.sampled("--seed", 3, "--count", 1, *words))

    def test_errors_name_the_field(self):
        for path, fields, param in (
                ("generations", {}, "prompt"), ("generations", {"prompt": " "}, "prompt"), ("generations", {"prompt": 3}, "prompt"),
                ("generations", {"prompt": PROMPT, "n": 65}, "n"), ("generations", {"prompt": PROMPT, "size": "huge"}, "size"),
                ("generations", {"prompt": PROMPT, "temperature": -1}, "temperature"),
                ("generations", {"prompt": PROMPT, "top_p": 0}, "top_p"),
                ("generations", {"prompt": PROMPT, "guidance_from": 1}, "guidance_to"),
                ("edits", {"prompt": PROMPT}, "image"), ("edits", {"prompt": PROMPT, "image": "AAAA"}, "image"),
                ("edits", {"prompt": PROMPT, "image": base64.b64encode(IMAGE).decode(), "keep": "0,0,33,1"}, "keep"),
                ("edits", {"prompt": PROMPT, "image": base64.b64encode(IMAGE).decode(), "keep_rows": 0.01}, "keep_rows"),
                ("edits", {"prompt": PROMPT, "image": base64.b64encode(IMAGE).decode(), "mask": "AAAA"}, "mask"),
                ("edits", {"prompt": PROMPT, "image": base64.b64encode(IMAGE).decode(), "strict": True, "keep": "0,16,32,16"},
                 "strict")):
            status, error = self.error("POST", f"/v1/images/{path}", fields)
            self.assertEqual((status, error["type"], error["param"], error["code"]),
                             (400, "invalid_request_error", param, "invalid_value"), error)

    def test_errors_have_the_status_of_their_kind(self):
        for status, method, path, body, headers in (
                (400, "POST", "/v1/images/generations", "{", {}), (400, "POST", "/v1/images/generations", "[]", {}),
                (400, "POST", "/v1/images/generations", "[" * 100_000, {}),
                (400, "POST", "/v1/images/edits", "x", {"Content-Type": "multipart/form-data"}),
                (404, "GET", "/v1/models/none", None, {}), (404, "GET", "/v1/nothing", None, {}),
                (404, "GET", "/images/none", None, {}), (405, "GET", "/v1/images/generations", None, {}),
                (405, "DELETE", "/v1/models", None, {}),
                (415, "POST", "/v1/images/generations", "prompt=a", {"Content-Type": "application/x-www-form-urlencoded"})):
            self.assertEqual(self.error(method, path, body, headers)[0], status, (method, path))
        self.assertEqual(self.server.ask("PUT", "/sdapi/v1/options", "{}")[1]["allow"], "GET, POST")

    def test_a_stream_has_the_events_of_the_api(self):
        _, headers, body = self.server.ask("POST", "/v1/images/generations",
                                           {"prompt": PROMPT, "seed": 5, "stream": True, "partial_images": 2, "size": "64x64"})
        self.assertEqual(headers["content-type"], "text/event-stream")
        self.assertEqual(headers["x-dalle-model"], "tiny")
        *events, done = body.decode().removesuffix("\n\n").split("\n\n")
        self.assertEqual(done, "data: [DONE]")
        found = []
        for event in events:
            name, data = event.split("\n")
            found.append(json.loads(data.removeprefix("data: ")))
            self.assertEqual(name, f"event: {found[-1]['type']}")
            self.assertEqual({key: found[-1][key] for key in ("size", "quality", "background", "output_format", "seed", "image")},
                             {"size": "64x64", "quality": "high", "background": "opaque", "output_format": "png", "seed": 5, "image": 0})
            self.assertEqual(len(rows_of(found[-1]["b64_json"])), 64)
        self.assertEqual([event["type"] for event in found],
                         2 * ["image_generation.partial_image"] + ["image_generation.completed"])
        self.assertEqual([event.get("partial_image_index") for event in found], [0, 1, None])
        self.assertEqual([rows_of(found[-1]["b64_json"])], [enlarged(rows, 2) for rows in self.sampled("--seed", 5, "--count", 1)])
        self.assertEqual(found[-1]["usage"]["output_tokens"], CODES)

    def test_models_health_and_metrics(self):
        listed = self.server.json("GET", "/v1/models")
        self.assertEqual(listed["object"], "list")
        self.assertEqual([(model["id"], model["object"], model["owned_by"]) for model in listed["data"]],
                         [("tiny", "model", "dalle")])
        self.assertEqual(self.server.json("GET", "/v1/models/tiny"), listed["data"][0])
        self.assertEqual(listed["data"][0]["dalle"]["image_size"], SIDE)
        self.assertEqual(self.server.json("GET", "/health"), {"status": "ok", "models": ["tiny"]})
        images = self.server.metric(r"dalle_images_total\{.*\}")
        self.server.json("POST", "/v1/images/generations", {"prompt": PROMPT, "n": 2})
        self.server.wait_for_metric(r"dalle_images_total\{.*\}", images + 2)
        for line in self.server.ask("GET", "/metrics")[2].decode().splitlines():
            self.assertRegex(line, r'^(# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+-]+)$')

    def test_the_description_lists_the_routes_that_exist(self):
        document = self.server.json("GET", "/openapi.json")
        for path, operations in document["paths"].items():
            if "{file}" in path or path.endswith("report.html"):
                continue  # below /v1/runs/{id}; there is neither yet
            for method in ("get", "post", "put", "delete"):
                status = self.server.ask(method.upper(), path.replace("{id}", "tiny"), "{}" if method == "post" else None)[0]
                if method in operations:
                    self.assertIn(status, (200, 400, 404 if path == "/images/{id}" else 200), (method, path))
                else:
                    self.assertEqual(status, 405, (method, path))
        sources = "".join((REPOSITORY / "src" / "serve" / f"{name}_routes.cpp").read_text() for name in ("image", "sdapi", "service", "run"))
        listed = {re.sub(r"/\{.*", "", path) for path in document["paths"]}
        named = {path.rstrip("/*") for path in re.findall(r'"(/(?:v1|sdapi|images|health|metrics|openapi)[^" ]*)"', sources)}
        self.assertEqual(named - listed, set())

    def test_the_description_lists_the_fields_that_exist(self):
        document = self.server.json("GET", "/openapi.json")
        for path, operations in document["paths"].items():
            if "post" not in operations or path == "/sdapi/v1/options":
                continue
            schema = operations["post"]["requestBody"]["content"]["application/json"]["schema"]
            valid = {"prompt": PROMPT, "image": base64.b64encode(IMAGE).decode(), "init_images": [base64.b64encode(IMAGE).decode()]}
            for field in schema["properties"]:
                status, error = self.error("POST", path, {**valid, field: 5 if field == "override_settings" else {"an": "object"}})
                self.assertEqual((status, error["param"]), (400, field), path)
            self.assertEqual(self.server.ask("POST", path, {**valid, "unlisted": {"an": "object"}})[0], 200)

    def test_open_webui(self):
        """Its engine openai, as its backend/open_webui/routers/images.py sends requests."""
        key = {"Authorization": "Bearer anything"}
        answer = self.server.json("POST", "/v1/images/generations", {"model": "dall-e-2", "prompt": PROMPT, "n": 1, "size": "512x512",
                                                                     "response_format": "b64_json"}, key)
        self.assertEqual(len(rows_of(answer["data"][0]["b64_json"])), 512)
        self.assertEqual(answer["size"], "512x512")
        answer = self.server.json("POST", "/v1/images/generations?api-version=1", {"model": "gpt-image-1", "prompt": PROMPT, "n": 2}, key)
        self.assertEqual(len(answer["data"]), 2)
        headers, body = form({"model": "gpt-image-1", "prompt": PROMPT, "n": 1, "size": "32x32", "response_format": "b64_json"},
                             [("image", IMAGE)])
        answer = self.server.json("POST", "/v1/images/edits", body, {**headers, **key})
        self.assertEqual(len(rows_of(answer["data"][0]["b64_json"])), SIDE)

    def test_open_webui_with_its_engine_automatic1111(self):
        options = self.server.json("GET", "/sdapi/v1/options", headers={"authorization": ""})
        self.assertEqual(options["sd_model_checkpoint"], "tiny")
        self.assertEqual([(model["title"], model["model_name"]) for model in self.server.json("GET", "/sdapi/v1/sd-models")],
                         [("tiny", "tiny")])
        self.assertEqual(self.server.ask("POST", "/sdapi/v1/options", options)[0], 200)
        answer = self.server.json("POST", "/sdapi/v1/txt2img", {"prompt": PROMPT, "batch_size": 1, "width": 512, "height": 512, "steps": 50,
                                                                "negative_prompt": ""}, {"authorization": "Basic dXNlcjpwYXNz"})
        self.assertEqual(len(rows_of(answer["images"][0])), 512)
        self.assertIsInstance(answer["info"], str)
        self.assertEqual(self.error("POST", "/sdapi/v1/options", {"sd_model_checkpoint": "other"})[1]["param"], "sd_model_checkpoint")

    def test_librechat(self):
        """The official JavaScript client, as its OpenAIImageTools use it."""
        headers = {"Authorization": "Bearer key", "Accept": "application/json", "Content-Type": "application/json",
                   "User-Agent": "OpenAI/JS 5.10.1", "X-Stainless-Lang": "js", "X-Stainless-Retry-Count": "0"}
        answer = self.server.json("POST", "/v1/images/generations",
                                  {"model": "gpt-image-1", "prompt": PROMPT, "n": 1, "background": "auto", "output_format": "png",
                                   "quality": "auto", "size": "auto"}, headers)
        self.assertEqual(len(rows_of(answer["data"][0]["b64_json"])), SIDE)
        of_form, body = form({"model": "gpt-image-1", "prompt": PROMPT, "n": 1, "quality": "auto", "size": "auto"}, [("image[]", IMAGE)])
        answer = self.server.json("POST", "/v1/images/edits", body, {**headers, **of_form})
        self.assertEqual(len(rows_of(answer["data"][0]["b64_json"])), SIDE)

    def test_clients_of_the_web_ui(self):
        """A request with the many fields that Python clients of /sdapi/v1/txt2img send."""
        request = {"enable_hr": False, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7, "prompt": PROMPT, "styles": [],
                   "seed": 11, "subseed": -1, "subseed_strength": 0.0, "batch_size": 2, "n_iter": 2, "steps": 20, "cfg_scale": 7.0,
                   "width": 32, "height": 32, "restore_faces": False, "tiling": False, "negative_prompt": "blurry", "eta": 1.0,
                   "override_settings": {}, "override_settings_restore_afterwards": True, "sampler_name": "Euler a",
                   "sampler_index": "Euler a", "script_args": [], "script_name": None, "send_images": True, "save_images": False,
                   "alwayson_scripts": {}}
        answer = self.server.json("POST", "/sdapi/v1/txt2img", request)
        info = json.loads(answer["info"])
        self.assertEqual(info["all_seeds"], [11, 12, 13, 14])
        self.assertEqual((info["seed"], info["width"], info["sd_model_name"]), (11, 32, "tiny"))
        self.assertIn("negative_prompt", info["without_effect"])
        self.assertEqual(answer["parameters"]["negative_prompt"], "blurry")
        for seed, image in zip(info["all_seeds"], answer["images"], strict=True):
            self.assertEqual([rows_of(image)], self.sampled("--seed", seed, "--count", 1))
        self.assertEqual(self.server.json("GET", "/sdapi/v1/progress")["progress"], 0)
        self.assertEqual(len(self.server.json("GET", "/sdapi/v1/samplers")), 1)

    def test_images_in_the_dialect_of_the_web_ui(self):
        image = "data:image/png;base64," + base64.b64encode(IMAGE).decode()
        answer = self.server.json("POST", "/sdapi/v1/img2img",
                                  {"prompt": PROMPT, "init_images": [image], "denoising_strength": 0.4, "seed": 2, "sampler_name": "Euler a"})
        sampled = self.sampled("--seed", 2, "--count", 1, "--image", self.work / "image.png", "--variation", 0.4)
        self.assertEqual([rows_of(answer["images"][0])], sampled)
        # There, what is white is generated.
        mask = png.png(SIDE, SIDE, bytes(255 if y >= SIDE // 2 else 0 for y in range(SIDE) for _ in range(3 * SIDE)))
        answer = self.server.json("POST", "/sdapi/v1/img2img", {"prompt": PROMPT, "init_images": [image], "seed": 2,
                                                                "mask": base64.b64encode(mask).decode()})
        sampled = self.sampled("--seed", 2, "--count", 1, "--image", self.work / "image.png", "--keep-rows", 0.5)
        self.assertEqual([rows_of(answer["images"][0])], sampled)
        # Where a mask has been painted, whatever the color, if the rest is transparent; inverted, where it has not.
        for invert in (0, 1):
            painted = rgba_png(SIDE, SIDE, lambda x, y: (0, 0, 0, 255 if (y >= SIDE // 2) != bool(invert) else 0))
            answer = self.server.json("POST", "/sdapi/v1/img2img", {"prompt": PROMPT, "init_images": [image], "seed": 2,
                                                                    "inpainting_mask_invert": invert,
                                                                    "mask": base64.b64encode(painted).decode()})
            self.assertEqual([rows_of(answer["images"][0])], sampled, invert)
        _, error = self.error("POST", "/sdapi/v1/img2img", {"prompt": PROMPT, "init_images": [base64.b64encode(b"text").decode()]})
        self.assertEqual(error["param"], "init_images")
        self.assertEqual(self.error("POST", "/sdapi/v1/txt2img", {"prompt": PROMPT, "seed": 2**63 - 1, "batch_size": 2})[1]["param"],
                         "seed")

    def test_keeping_parts_of_an_image(self):
        for options, fields in ((("--keep-rows", "0.5"), {"keep_rows": 0.5}), (("--keep", "4,8,16,20"), {"keep": "4,8,16,20"}),
                                (("--mask", self.work / "mask.png", "--paste-original"),
                                 {"mask": base64.b64encode(MASK).decode(), "paste_original": True}),
                                (("--variation", "0.5"), {}), (("--variation", "0.2"), {"variation": 0.2})):
            answer = self.server.json("POST", "/v1/images/edits", {"prompt": PROMPT, "seed": 4, "image": base64.b64encode(IMAGE).decode(),
                                                                   **fields})
            sampled = self.sampled("--seed", 4, "--count", 1, "--image", self.work / "image.png", *options)
            self.assertEqual([rows_of(answer["data"][0]["b64_json"])], sampled, fields)
            self.assertGreater(answer["usage"]["input_tokens_details"]["image_tokens"], 0)

    def test_a_large_image_is_refused_before_it_is_decoded(self):
        image = rgba_png(1, 1, lambda x, y: (0, 0, 0, 0)).replace(b"IHDR\0\0\0\1\0\0\0\1", b"IHDR\0\0\x60\0\0\0\x60\0")
        _, error = self.error("POST", "/v1/images/edits", {"prompt": PROMPT, "image": base64.b64encode(image).decode()})
        self.assertEqual(error["param"], "image")

    def test_a_client_that_disconnects_cancels_its_images(self):
        canceled = self.server.metric(r"dalle_canceled_images_total\{.*\}")
        body = json.dumps({"prompt": PROMPT, "n": 64, "best_of": 512, "guidance": 3, "stream": True})
        with socket.create_connection(("127.0.0.1", self.server.port)) as client:
            client.sendall(f"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
            client.recv(1)
        self.server.wait_for_metric(r"dalle_canceled_images_total\{.*\}", canceled + 1)
        self.assertEqual(self.server.metric(r"dalle_active_images\{.*\}"), 0)
        self.server.json("POST", "/v1/images/generations", {"prompt": PROMPT})

    def test_sigterm_completes_what_runs_and_refuses_the_rest(self):
        with self.serving() as server:
            body = json.dumps({"prompt": PROMPT, "n": 16, "guidance": 3, "seed": 1, "stream": True, "partial_images": 1})
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(f"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                               f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                answer = client.recv(1)
                server.process.send_signal(signal.SIGTERM)
                while piece := client.recv(65536):
                    answer += piece
            self.assertEqual(answer.count(b"event: image_generation.completed"), 16)
            self.assertIn(b"data: [DONE]", answer)
            self.assertEqual(server.process.wait(60), 0)

    def test_a_full_queue_says_when_to_come_back(self):
        with self.serving("--queue", "512", "--batch-size", "1") as server:
            body = json.dumps({"prompt": PROMPT, "best_of": 512, "guidance": 3})
            with socket.create_connection(("127.0.0.1", server.port)) as other:
                other.sendall(f"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                              f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
                server.wait_for_metric(r"dalle_queued_images\{.*\}", 1)
                status, headers, answer = server.ask("POST", "/v1/images/generations", {"prompt": PROMPT, "best_of": 512})
            self.assertEqual(status, 429, answer)
            self.assertGreaterEqual(int(headers["retry-after"]), 1)
            self.assertEqual(json.loads(answer)["error"]["type"], "rate_limit_error")

    def test_what_exceeds_the_queue_can_never_be_generated(self):
        with self.serving("--queue", "4") as server:
            status, _, answer = server.ask("POST", "/v1/images/generations", {"prompt": PROMPT, "n": 5})
            self.assertEqual((status, json.loads(answer)["error"]["param"]), (400, "n"))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
