#!/usr/bin/env python3
"""dalle-serve and dalle-bench.

Usage: serve_and_bench_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import base64
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import time

import png
from tool_case import BIN, REPOSITORY, TINY, ToolCase, main, on_images, run


class ServeAndBenchTest(ToolCase):
    # ---- serving ----

    @contextlib.contextmanager
    def serving(self, *arguments, model=None, **environment):
        """A server with its port and log; stopped by SIGTERM in the end, after which its status must be 0."""
        log = self.fresh("log.txt")
        with log.open("w") as file:
            process = subprocess.Popen([BIN / "dalle-serve", "--model", model or self.whole, "--port", "0", "--device", "cpu",
                                        *map(str, arguments)], stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})
        try:
            while not (ready := re.search(r"^serving whole \(step 40\) at http://127.0.0.1:(\d+)$", log.read_text(), re.M)):
                self.assertIsNone(process.poll(), log.read_text())
                time.sleep(0.05)
            process.port, process.log = int(ready.group(1)), log
            yield process
            process.terminate()
            self.assertEqual(process.wait(60), 0, log.read_text())
        finally:
            process.kill()
            process.wait()

    def ask(self, server, path, body=None, **headers):
        """The status, headers and body of an answer."""
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            headers["content-type"] = "application/json"
        client.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
        response = client.getresponse()
        result = response.status, response.headers, response.read()
        client.close()
        return result

    def test_a_server_generates_what_dalle_sample_does_and_logs_it(self):
        out = self.fresh("out")
        self.assert_succeeds(self.sample("a red circle", "--count", 1, "--seed", 7, "--out", out, model=self.whole))
        sampled, = self.images(out).values()
        with self.serving() as server:
            self.assertEqual(self.ask(server, "/health")[0], 200)
            status, headers, body = self.ask(server, "/v1/images/generations", {"prompt": "a red circle", "seed": 7})
            self.assertEqual(status, 200, body)
            image = base64.b64decode(json.loads(body)["data"][0]["b64_json"])
            self.assertEqual(png.rgb_rows(image), png.rgb_rows(sampled))
            status, _, body = self.ask(server, "/v1/images/generations",
                                       {"prompt": "a red circle", "seed": 7, "response_format": "url"})
            url = json.loads(body)["data"][0]["url"]
            self.assertTrue(url.startswith(f"http://127.0.0.1:{server.port}/images/"), url)
            self.assertEqual(png.rgb_rows(self.ask(server, url.split(str(server.port))[1])[2]), png.rgb_rows(sampled))
            self.assertEqual(self.ask(server, "/v1/runs")[0], 200)
            self.assertEqual(self.ask(server, "/")[0], 200)
            self.assertEqual(self.ask(server, "/nothing")[0], 404)
        lines = server.log.read_text()
        self.assertRegex(lines, r"(?m)^GET /health 200 [0-9.]+ s from 127\.0\.0\.1, id [0-9a-f]{32}$")
        self.assertRegex(lines, rf"(?m)^POST /v1/images/generations 200 [0-9.]+ s \(queue .*, generate .*, decode .*, encode .*\) .* id {headers['x-request-id']}$")
        self.assertNotIn("red circle", lines)

    def test_a_server_for_other_machines_requires_a_key(self):
        serve = ("dalle-serve", "--model", self.whole, "--host", "0.0.0.0", "--port", "0")
        self.assert_fails(run(*serve, DALLE_API_KEY=""), 1, "--host 0.0.0.0: ", "--api-key-file", "DALLE_API_KEY")
        self.assert_fails(run(*serve, "--api-key-file", self.work / "none"), 1, self.work / "none")
        self.assert_fails(run(*serve, "--api-key", "secret"), 2, "--api-key")
        keys = self.fresh("keys")
        keys.write_text("first\nsecond\n")
        for options, environment in ((("--api-key-file", keys), {}), ((), {"DALLE_API_KEY": "first second"})):
            with self.serving(*options, **environment) as server:
                self.assertEqual(self.ask(server, "/health")[0], 200)
                self.assertEqual(self.ask(server, "/v1/models")[0], 401)
                self.assertEqual(self.ask(server, "/metrics", authorization="Bearer third")[0], 401)
                self.assertEqual(self.ask(server, "/v1/models", authorization="Bearer second")[0], 200)

    def test_a_server_refuses_foreign_pages_and_bad_options(self):
        with self.serving("--cors-origin", "https://lab.example") as server:
            self.assertEqual(self.ask(server, "/v1/models", host="evil.example")[0], 403)
            self.assertEqual(self.ask(server, "/v1/models", origin="https://evil.example")[0], 403)
            status, headers, _ = self.ask(server, "/v1/models", origin="https://lab.example")
            self.assertEqual((status, headers["access-control-allow-origin"]), (200, "https://lab.example"))
            port = server.port
            self.assert_fails(run("dalle-serve", "--model", self.whole, "--port", port), 1, f"127.0.0.1:{port}: cannot listen")
        self.assert_fails(run("dalle-serve", "--model", self.whole, "--cors-origin", "*"), 1, "--cors-origin *: expected http[s]://HOST[:PORT]")
        self.assert_fails(run("dalle-serve", "--model", self.work / "none"), 1, self.work / "none")
        self.assert_fails(run("dalle-serve", "--model", self.whole, "--model", f"{self.whole}/."), 1, "also named whole")

    def test_a_server_withstands_load_and_attacks(self):
        with self.serving() as server:
            result = subprocess.run([sys.executable, REPOSITORY / "tests" / "serve" / "load.py", "--port", str(server.port),
                                     "--pid", str(server.pid), "--clients", "8", "--seconds", "3", "--malformed", "400",
                                     "--more-mb", "300"],
                                    capture_output=True, text=True, timeout=300)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr + server.log.read_text()[-2000:])

    # ---- benchmark ----

    def test_the_benchmark_reports_each_number_of_ranks(self):
        numbers = self.work / "bench.json"
        result = run("dalle-bench", "train", "--config", TINY, "--ranks", "1,2", "--steps", 4, "--device", "cpu", "--json", numbers)
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(numbers.read_text())
        self.assertEqual([(line["ranks"], line["batch"]) for line in report["results"]], [(1, 4), (2, 8)])
        self.assertIn("comm_overlap", report["results"][1]["time"])
        self.assertEqual(len(result.stdout.splitlines()), 4)
        self.assert_fails(run("dalle-bench", "train", "--config", self.work / "none.yaml"), 1, "none.yaml")
        self.assert_fails(run("dalle-bench", "train"), 2, "--config")

    def test_the_benchmark_of_data_reports_each_number_of_workers(self):
        folder, numbers = self.fresh("images"), self.work / "bench.json"
        folder.mkdir()
        for number in range(8):
            (folder / f"{number}.png").write_bytes(png.png(40, 32, bytes(3 * 40 * 32)))
        images = ("data", "--config", TINY, *on_images(folder), "--images", 20, "--repeat", 2)
        result = run("dalle-bench", *images, "--workers", "1,3", "--json", numbers)
        self.assert_succeeds(result)
        self.assertEqual(len(result.stdout.splitlines()), 4)
        report = json.loads(numbers.read_text())
        self.assertEqual([line["workers"] for line in report["results"]], [1, 3])
        self.assertTrue(all(line["images_per_s"] > 0 for line in report["results"]))
        for image in sorted(folder.iterdir())[:4]:
            image.write_bytes(b"no image")
        self.assert_fails(run("dalle-bench", *images), 1, "data.max_invalid_fraction")
        self.assert_fails(run("dalle-bench", "data"), 2, "--config")

    def test_the_benchmark_of_decoding_counts_passes(self):
        numbers = self.work / "bench.json"
        subject = ("--images", "1,3", "--windows", "1,4", "--repeat", 1, "--json", numbers)
        for model in (("--model", self.whole), ("--config", TINY)):
            self.assert_succeeds(run("dalle-bench", "decode", *model, *subject))
            report = json.loads(numbers.read_text())
            self.assertEqual([(line["images"], line["decode"]) for line in report["results"]],
                             [(images, mode) for images in (1, 3) for mode in ("sequential", "window 4", "auto")])
            sequential, parallel = report["results"][:2]
            self.assertEqual(sequential["rows_per_pass"], 1)
            self.assertLessEqual(parallel["passes"], sequential["passes"])
            self.assertGreater(report["bandwidth"], 0)
        self.assert_fails(run("dalle-bench", "decode"), 1, "--model", "--config")

    def test_the_benchmark_of_serving_compares_with_an_offline_batch(self):
        numbers = self.work / "bench.json"
        self.assert_succeeds(run("dalle-bench", "serve", "--model", self.whole, "--clients", 3, "--images", 2, "--repeat", 1, "--json", numbers))
        report = json.loads(numbers.read_text())
        self.assertEqual(list(report["results"]), ["offline, only codes", "offline, codes and pixels", "served", "served, 3 previews"])
        self.assertTrue(all(result["images_per_s"] > 0 for result in report["results"].values()))
        self.assertTrue(0 < report["first_preview"] < 1)
        self.assert_fails(run("dalle-bench", "serve"), 2, "--model")


if __name__ == "__main__":
    main()
