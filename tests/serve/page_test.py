#!/usr/bin/env python3
"""Tests the page in a headless Chromium, against a stand-in for the server that waits and fails as a test wishes.

Usage: page_test.py [-v] [-k PART_OF_A_NAME]... Skipped (exit status 77) without chromium and chromedriver.
PAGE_SCREENSHOTS=FOLDER keeps an image of each test's end.
"""
import os
import pathlib
import shlex
import sys
import tempfile
import unittest

import browser
import stand_in_server
from stand_in_server import image, model

SVG = ('<svg viewBox="0 0 340 210" role="img"><line class="axis" x1="50" y1="176" x2="332" y2="176"/>'
       '<text class="end" x="332" y="205">step</text><polyline class="line series-0" points="50,20 150,90 332,150"/></svg>')


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = stand_in_server.StandInServer()
        cls.browser = browser.Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.server.shutdown()
        cls.server.server_close()

    def setUp(self):
        self.server.reset()
        self.browser.set_screen(1280, 900)
        self.browser.open("about:blank")
        self.browser.console()
        self.allowed_messages = []

    def tearDown(self):
        screenshots = os.environ.get("PAGE_SCREENSHOTS")
        if screenshots:
            self.browser.save_screenshot(pathlib.Path(screenshots) / f"{self._testMethodName}.png")
        self.server.go_on.set()
        unexpected = [line for line in self.browser.console() if not any(word in line for word in self.allowed_messages)]
        self.assertEqual(unexpected, [])

    def open(self, view=""):
        self.browser.open(f"{self.server.address}/?{self._testMethodName}{view}")
        if not view.startswith("#training"):
            self.browser.wait("the models", "document.querySelector('#temperature').value !== ''")

    def generate(self, caption):
        self.browser.write("#caption", caption)
        self.browser.click("#submit")

    def finish(self, word="Finished"):
        self.browser.wait(word, f"document.querySelector('#status').textContent.startsWith('{word}')")

    def command(self):
        return shlex.split(self.browser.text("#detail-command"))

    def test_it_loads_with_the_models_defaults(self):
        self.server.models = [model("shapes-demo", count=4, sampling={"temperature": 0.8, "top_k": 64, "top_p": 0.95, "guidance": 3})]
        self.open()
        values = self.browser.run("return ['count', 'temperature', 'top-k', 'top-p', 'guidance'].map("
                                  "(id) => Number(document.getElementById(id).value))")
        self.assertEqual(values, [4, 0.8, 64, 0.95, 3])
        self.assertIn("step 12,000", self.browser.text("#model-line"))
        self.assertFalse(self.browser.is_visible("#model"))
        self.assertFalse(self.browser.is_visible("#reset-sampling"))
        self.browser.write("#temperature", "1")
        self.browser.click("#reset-sampling")
        self.assertEqual(self.browser.run("return document.querySelector('#temperature').value"), "0.8")

    def test_it_generates_what_the_form_says(self):
        self.server.models = [model("shapes-demo"), model("other")]
        self.open()
        self.browser.click("#model [value=other]")
        self.browser.write("#count", "3")
        self.browser.write("#seed", "42")
        self.browser.write("#top-k", "9")
        self.generate("a red circle")
        self.finish()
        request, = self.server.requests
        self.assertEqual(request["path"], "/v1/images/generations")
        for name, value in {"prompt": "a red circle", "model": "other", "n": 3, "seed": 42, "top_k": 9, "temperature": 1,
                            "top_p": 1, "guidance": 1, "stream": True}.items():
            self.assertEqual(request[name], value, name)
        self.assertNotIn("best_of", request)
        self.assertEqual(self.browser.count(".images img:not([hidden])"), 3)

    def test_a_new_seed_each_time_is_random_and_shown(self):
        self.open()
        self.generate("a red circle")
        self.finish()
        self.browser.click("#submit")
        self.browser.wait("a second request", "document.querySelector('#status').textContent.startsWith('Finished')")
        seeds = [request["seed"] for request in self.server.requests]
        self.assertNotEqual(*seeds)
        self.assertEqual(self.browser.run("return Number(document.querySelector('#seed').value)"), seeds[1])

    def test_previews_are_shown_before_the_images(self):
        self.server.go_on.clear()
        self.open()
        self.generate("a red circle")
        self.browser.wait("a preview", "document.querySelectorAll('.image.previewed img[src^=\"data:\"]').length === 2")
        self.assertTrue(self.browser.run("return document.querySelector('.image').disabled"))
        self.server.go_on.set()
        self.finish()
        self.assertEqual(self.browser.count(".image.previewed"), 0)
        self.assertEqual(self.browser.count(".image img[src^='blob:']"), 2)

    def test_cancel_closes_the_connections_and_keeps_the_form_usable(self):
        self.server.go_on.clear()
        self.open()
        self.generate("a [red|blue] circle")
        self.browser.wait("previews", "document.querySelectorAll('.image.previewed').length === 4")
        self.browser.click("#cancel")
        self.finish("Canceled")
        self.assertFalse(self.browser.is_visible("#cancel"))
        self.browser.wait("the button", "!document.querySelector('#submit').disabled")
        deadline = 100
        while self.server.closed < 2 and deadline:
            self.browser.run("return 0")
            deadline -= 1
        self.assertEqual(self.server.closed, 2)
        self.server.go_on.set()
        self.browser.click("#submit")
        self.finish()

    def test_errors_are_shown_in_words(self):
        self.allowed_messages = ["status of 4", "status of 5"]
        cases = [((400, "temperature: found 200, expected at most 100", {}), "temperature: found 200, expected at most 100"),
                 ((429, "32 images are waiting", {"retry_after": "7"}), "try again in 7 s"),
                 ((503, "", {}), "stopping"), ((500, "", {}), "status 500")]
        self.open()
        for failure, words in cases:
            with self.subTest(status=failure[0]):
                self.server.failure = failure
                self.generate("a red circle")
                self.finish("Stopped")
                self.assertIn(words, self.browser.text("#error"))
        self.server.failure = None
        self.browser.click("#submit")
        self.finish()
        self.assertFalse(self.browser.is_visible("#error"))

    def test_an_error_within_a_stream_is_shown(self):
        self.server.failure_in_stream = "the model ran out of memory"
        self.open()
        self.generate("a red circle")
        self.finish("Stopped")
        self.assertEqual(self.browser.text("#error"), "the model ran out of memory")

    def test_alternatives_make_a_grid_with_headings(self):
        self.open()
        self.browser.write("#caption", "a [red|green|blue] circle on a [white|black] background")
        self.assertEqual(self.browser.text("#plan"), "6 captions × 2 images")
        self.assertEqual(self.browser.text("#submit"), "Generate 12 images")
        self.browser.click("#submit")
        self.finish()
        texts = lambda selector: self.browser.run(  # noqa: E731
            "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)", selector)
        self.assertEqual(texts("thead th"), ["white", "black"])
        self.assertEqual(texts("tbody th"), ["red", "green", "blue"])
        self.assertEqual([request["prompt"] for request in sorted(self.server.requests, key=lambda one: one["prompt"])],
                         [f"a {color} circle on a {ground} background" for color in ("blue", "green", "red") for ground in ("black", "white")])
        self.assertEqual(len({request["seed"] for request in self.server.requests}), 1)
        label = self.browser.run("return document.querySelector('tbody tr:nth-child(2) td:nth-child(3) .image').ariaLabel")
        self.assertEqual(label, "a green circle on a black background, image 0")

    def test_one_alternative_can_be_chosen(self):
        self.open()
        self.browser.write("#caption", "a [red|green] circle on a [white|black] background")
        self.browser.click("#alternatives select:nth-of-type(2) option:nth-of-type(3)")
        self.assertEqual(self.browser.text("#plan"), "2 captions × 2 images")
        self.browser.click("#submit")
        self.finish()
        self.assertEqual({request["prompt"] for request in self.server.requests},
                         {"a red circle on a black background", "a green circle on a black background"})

    def test_too_many_combinations_are_refused_before_generating(self):
        self.open()
        self.browser.write("#caption", "[a|b|c|d|e|f] [a|b|c|d|e|f] [a|b|c|d|e|f]")
        self.assertIn("432; at most 200", self.browser.text("#plan"))
        self.browser.click("#caption")
        self.browser.press("enter")
        self.assertTrue(self.browser.run("return document.querySelector('#submit').disabled"))
        self.assertEqual(self.server.requests, [])

    def test_best_of_shows_scores_the_best_first(self):
        self.open()
        self.browser.write("#best-of", "16")
        self.generate("a red circle")
        self.finish()
        self.assertEqual(self.server.requests[0]["best_of"], 16)
        self.assertEqual(self.browser.run("return [...document.querySelectorAll('.images figcaption')].map((one) => one.textContent)"),
                         ["0.5", "0.375"])
        self.browser.click(".images figure:nth-child(2) .image")
        self.assertIn("3 of seed", self.browser.text("#detail-facts"))
        self.assertIn("--best-of", self.command())

    def test_models_without_a_reranker_offer_no_best_of(self):
        self.server.models = [model("shapes-demo", can_rerank=False)]
        self.open()
        self.assertFalse(self.browser.is_visible("#best-of"))

    def test_the_command_reproduces_an_image(self):
        caption = "it's a $HOME; `red` \"circle\" -- <b>&amp;</b>"
        self.open()
        self.browser.write("#temperature", "0.5")
        self.browser.write("#seed", "7")
        self.generate(caption)
        self.finish()
        self.browser.click(".image")
        self.assertEqual(self.browser.text("#detail-caption"), caption)
        self.assertEqual(self.command(), ["dalle-sample", "--model", "runs/shapes-demo/checkpoints/dalle/step-00012000", "--seed", "7",
                                          "--count", "2", "--temperature", "0.5", caption])
        self.assertEqual(self.browser.run("return document.querySelector('#detail-download').download"),
                         "it-s-a-home-red-circle-b-amp-b-seed7-000.png")
        self.browser.press("right")
        self.assertIn("1 of seed 7", self.browser.text("#detail-facts"))
        self.browser.press("escape")
        self.assertFalse(self.browser.is_visible("#detail"))

    def drop_image(self, event="drop"):
        """Drops an image of 64 x 32 pixels on the page, or pastes it."""
        self.browser.run("""
            const [event, done] = [arguments[0], document.documentElement], canvas = document.createElement('canvas');
            canvas.width = 64; canvas.height = 32;
            const context = canvas.getContext('2d');
            context.fillStyle = 'teal'; context.fillRect(0, 0, 64, 32);
            context.fillStyle = 'orange'; context.fillRect(24, 0, 16, 16);
            canvas.toBlob((blob) => {
              const transfer = new DataTransfer();
              transfer.items.add(new File([blob], "my house.png", { type: 'image/png' }));
              document.body.dispatchEvent(event === 'drop' ? new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true })
                : new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true }));
            });""", event)
        self.browser.wait("the image prompt", "document.querySelector('#prompt-options').checkVisibility()")

    def edit(self):
        self.generate("a red circle")
        self.finish()
        request = self.server.requests[-1]
        self.assertEqual(request["path"], "/v1/images/edits")
        self.assertTrue(request["image"].startswith(b"\x89PNG"))
        return request

    def test_a_dropped_image_keeps_its_upper_rows(self):
        self.open()
        self.drop_image()
        self.browser.run("const rows = document.querySelector('#keep-rows'); rows.value = 25; rows.dispatchEvent(new Event('input', {bubbles: true}))")
        request = self.edit()
        self.assertEqual(request["keep_rows"], "0.25")
        self.assertNotIn("keep", request)
        self.browser.click(".image")
        self.assertEqual(self.command()[7:], ["--image", "my house.png", "--keep-rows", "0.25", "a red circle"])

    def test_a_rectangle_is_drawn_with_the_mouse(self):
        self.open()
        self.drop_image("paste")
        self.browser.click("[name=keep][value=rectangle]")
        self.browser.drag("#prompt-stage", (0.26, 0.6), (0.74, 0.98))
        request = self.edit()
        self.assertEqual(request["keep"], "8,20,16,12")  # in steps of a code's 4 pixels
        self.assertNotIn("keep_rows", request)

    def test_a_rectangle_is_drawn_by_touch(self):
        self.browser.set_screen(390, 844, is_phone=True)
        self.open()
        self.drop_image()
        self.browser.click("[name=keep][value=rectangle]")
        self.browser.drag("#prompt-stage", (0.26, 0.7), (0.74, 0.98), kind="touch")
        self.assertEqual(self.edit()["keep"], "8,24,16,8")

    def test_a_rectangle_is_moved_with_keys_and_numbers(self):
        self.open()
        self.drop_image()
        self.browser.click("[name=keep][value=rectangle]")
        self.browser.run("const width = document.querySelector('#keep-width'); width.value = 16; width.dispatchEvent(new Event('change', {bubbles: true}))")
        self.browser.run("document.querySelector('#prompt-stage').focus()")
        self.browser.press("right", "down", "down")
        self.browser.press("left", holding="shift")
        self.assertEqual(self.edit()["keep"], "4,8,12,16")

    def test_a_variation_keeps_all(self):
        self.open()
        self.drop_image()
        self.browser.click("[name=keep][value=all]")
        self.browser.run("const input = document.querySelector('#variation'); input.value = 30; input.dispatchEvent(new Event('input', {bubbles: true}))")
        self.assertTrue(self.browser.run("return document.querySelector('#paste-original').disabled"))
        request = self.edit()
        self.assertEqual(request["variation"], "0.3")
        self.assertFalse({"keep", "keep_rows", "paste_original"} & set(request))

    def test_a_file_that_is_not_an_image_is_refused(self):
        self.open()
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            file.write(b"not an image")
            file.flush()
            self.browser.choose_file("#prompt-file", file.name)
            self.browser.wait("the error", "!document.querySelector('#error').hidden")
        self.assertIn("not an image", self.browser.text("#error"))
        self.assertFalse(self.browser.is_visible("#prompt-options"))

    def test_the_history_outlasts_the_page_and_fills_the_form(self):
        self.open()
        self.browser.write("#seed", "11")
        self.generate("a [red|blue] <i>circle</i>")
        self.finish()
        self.open("#history")
        self.browser.wait("the history", "document.querySelector('.entry') !== null")
        self.assertIn("a [red|blue] <i>circle</i>", self.browser.text(".entry"))
        self.browser.click(".entry")
        self.browser.wait("the images", "document.querySelectorAll('#images img[src^=\"blob:\"]').length === 4")
        self.assertEqual(self.browser.run("return document.querySelector('#caption').value"), "a [red|blue] <i>circle</i>")
        self.assertEqual(self.browser.run("return document.querySelector('#seed').value"), "11")
        self.browser.click("#submit")
        self.finish()
        self.assertEqual([request["seed"] for request in self.server.requests], [11] * 4)
        self.browser.click("nav [href='#history']")
        count = self.browser.run("return document.querySelectorAll('.entry').length")
        self.browser.click("#history-list .close")
        self.browser.wait("the entry to go", f"document.querySelectorAll('.entry').length === {count - 1}")

    def test_a_key_is_asked_for_and_kept_in_the_session_only(self):
        self.allowed_messages = ["status of 401"]
        self.server.key = "secret"
        self.browser.open(f"{self.server.address}/")
        self.browser.wait("the dialog", "document.querySelector('#key-dialog').open")
        self.browser.write("#key", "wrong")
        self.browser.press("enter")
        self.browser.wait("the refusal", "document.querySelector('#key-note').textContent.includes('not accept') && document.querySelector('#key-dialog').open")
        self.browser.write("#key", "secret")
        self.browser.press("enter")
        self.browser.wait("the models", "document.querySelector('#temperature').value !== ''")
        self.assertEqual(self.browser.run("return [sessionStorage.length, localStorage.length, document.cookie]"), [1, 0, ""])
        self.generate("a red circle")
        self.finish()
        self.browser.run("sessionStorage.clear()")

    def test_everything_can_be_done_with_the_keyboard(self):
        self.open()
        self.browser.run("document.querySelector('#caption').focus()")
        self.browser.press(*"a red circle", "enter")
        self.finish()
        seen = set()
        for _ in range(60):
            self.browser.press("tab")
            focus = self.browser.run("const now = document.activeElement, style = getComputedStyle(now);"
                                     "return [now.id || now.className, style.outlineStyle, parseFloat(style.outlineWidth)]")
            if focus[0]:
                seen.add(focus[0])
                if focus[0] != "prompt-file":  # its label shows the focus
                    self.assertEqual(focus[1:], ["solid", 2], focus[0])
            if focus[0] == "image":
                break
        self.assertLessEqual({"count", "seed", "temperature", "prompt-file", "submit", "image"}, seen)
        self.browser.press("enter")
        self.assertTrue(self.browser.is_visible("#detail"))

    def test_all_fields_have_labels(self):
        self.open()
        nameless = self.browser.run("""return [...document.querySelectorAll('input, select, textarea, button')].filter((one) =>
            !(one.labels?.length || one.ariaLabel || one.textContent.trim())).map((one) => one.outerHTML)""")
        self.assertEqual(nameless, [])

    def test_text_has_contrast_in_both_schemes(self):
        script = """
            const light = (color) => { const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map((value) => {
              const part = value / 255; return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; });
              return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
            const ground = (one) => { for (; one; one = one.parentElement) { const color = getComputedStyle(one).backgroundColor;
              if (color !== 'rgba(0, 0, 0, 0)') return color; } return 'rgb(255, 255, 255)'; };
            return [...document.querySelectorAll('label, p, a, button, .quiet, legend, h1, input')].filter((one) => one.checkVisibility() && !one.disabled)
              .map((one) => { const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
                return [one.id || one.textContent, (a + 0.05) / (b + 0.05)]; }).filter(([, ratio]) => ratio < 4.5)"""
        for is_dark in (False, True):
            with self.subTest(is_dark=is_dark):
                self.browser.set_screen(1280, 900, is_dark=is_dark)
                self.open()
                self.assertEqual(self.browser.run(script), [])

    def test_it_fits_a_phone(self):
        self.browser.set_screen(360, 740, is_phone=True, is_dark=True)
        self.open()
        self.drop_image()
        self.generate("a [red|green|blue] circle on a [white|black|red] background")
        self.finish()
        self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), 360)
        self.browser.click(".image")
        self.assertLessEqual(self.browser.run("return document.querySelector('#detail').getBoundingClientRect().right"), 360)

    def watch(self, steps, captions=("a red circle", "a blue square")):
        """A run whose training has written samples at these steps."""
        chart = {"name": "loss", "latest": [{"series": "training", "step": steps[-1], "value": "1.25"}], "svg": SVG}
        samples = [{"step": step, "file": f"samples-{step:08}.png"} for step in steps]
        stages = [{"stage": "dvae", "step": 40, "charts": [chart],
                   "images": [{"kind": "reconstructions", "samples": [{"step": 40, "file": "reconstructions-00000040.png"}]}]},
                  {"stage": "dalle", "step": steps[-1], "charts": [chart, {**chart, "name": "<b>image</b>"}],
                   "images": [{"kind": "samples", "samples": samples}]}]
        files = {f"images/dalle/{sample['file']}": image("red") for sample in samples}
        self.server.runs["my run"] = {"files": {**files, "images/dvae/reconstructions-00000040.png": image("blue")},
                                      "detail": {"id": "my run", "updated": 0, "captions": captions, "has_report": False, "stages": stages}}

    def test_a_run_is_watched_while_it_trains(self):
        self.watch([20, 40])
        self.open("#training")
        self.browser.wait("the images", "document.querySelector('.samples')?.src.startsWith('blob:')")
        self.assertIn("dalle, step 40", self.browser.text("#run-line"))
        self.assertEqual(self.browser.count("#run-charts svg"), 2)
        self.assertIn("<b>image</b>", self.browser.text("#run-charts"))
        self.assertEqual(self.browser.text(".slider output"), "step 40")
        self.watch([20, 40, 60])  # it follows the newest
        self.browser.wait("a new step", "document.querySelector('.slider output').textContent === 'step 60'")
        self.browser.run("document.querySelector('.slider input').focus()")
        self.browser.press("home")
        self.assertEqual(self.browser.text(".slider output"), "step 20")
        self.watch([20, 40, 60, 80])  # but not when another step was chosen
        self.browser.wait("a new step", "document.querySelector('.slider input').max === '3'")
        self.assertEqual(self.browser.text(".slider output"), "step 20")
        self.assertTrue(self.browser.run("return document.activeElement === document.querySelector('.slider input')"))
        self.browser.click("#run-stages button")
        self.browser.wait("reconstructions", "document.querySelector('.slider b').textContent === 'reconstructions'")

    def test_an_image_that_is_gone_does_not_break_the_view(self):
        self.allowed_messages = ["status of 404"]
        self.watch([20, 40])
        del self.server.runs["my run"]["files"]["images/dalle/samples-00000040.png"]
        self.open("#training/my%20run")
        self.browser.wait("the words", "document.querySelector('.slider output')?.textContent.includes('not there')")
        self.browser.run("document.querySelector('.slider input').focus()")
        self.browser.press("left")
        self.browser.wait("the other image", "document.querySelector('.samples').src.startsWith('blob:')")

    def test_a_folder_without_runs_says_so(self):
        self.open("#training")
        self.browser.wait("the words", "document.querySelector('#run-note').textContent.includes('no runs')")
        self.watch([20])
        self.browser.wait("the run", "document.querySelector('#run').value === 'my run'")


if __name__ == "__main__":
    if not browser.is_available():
        print("skipped: chromium and chromedriver are not installed")
        sys.exit(77)
    unittest.main()
