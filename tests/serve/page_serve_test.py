#!/usr/bin/env python3
"""Tests the page of the real dalle-serve in a headless Chromium.

Usage: page_serve_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]... Skipped (exit status 77) without Chromium.
"""
import shlex
import sys
import unittest

import browser
from served_model import ServeTestCase, png, run

PIXELS = """
    const [selector] = arguments, image = document.querySelector(selector), canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    const context = canvas.getContext('2d', { colorSpace: 'srgb' });
    context.drawImage(image, 0, 0);
    return [...context.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, index) => index % 4 < 3)"""


class ServedPageTest(ServeTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = browser.Browser()
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        self.browser.set_screen(1280, 900)
        self.allowed_messages = []

    def tearDown(self):
        unexpected = [line for line in self.browser.console() if not any(word in line for word in self.allowed_messages)]
        self.assertEqual(unexpected, [])

    def open(self, view=""):
        self.browser.open("about:blank")
        self.browser.open(f"{self.server.url}/{view}")

    def generate(self, caption, word="Finished"):
        self.browser.wait("the models", "document.querySelector('#temperature').value !== ''")
        self.browser.write("#caption", caption)
        self.browser.click("#submit")
        self.browser.wait(word, f"document.querySelector('#status').textContent.startsWith('{word}')")

    def assert_reproduced(self):
        """The command that the page shows for its first image generates just that image."""
        shown = bytes(self.browser.run(PIXELS, ".image img"))
        self.browser.click(".image")
        tool, *arguments = shlex.split(self.browser.text("#detail-command"))
        out = self.work / self._testMethodName
        if "--image" in arguments:
            arguments[arguments.index("--image") + 1] = str(self.work / "image.png")
        run(tool, *arguments, "--device", "cpu", "--out", out)
        images = [b"".join(png.rgb_rows(file.read_bytes())) for file in sorted(out.glob("*.png"))]
        self.assertIn(shown, images)

    def test_the_command_of_an_image_generates_it(self):
        self.open()
        self.browser.write("#temperature", "0.7")
        self.browser.write("#top-k", "5")
        self.generate("a [red|blue] circle")
        self.assertEqual(self.browser.count(".image img[src^='blob:']"), 4)
        self.assert_reproduced()

    def test_the_best_of_several_are_reproduced_too(self):
        self.open()
        self.browser.wait("the field", "document.querySelector('#best-of').checkVisibility()")
        self.browser.write("#best-of", "6")
        self.generate("a red circle")
        scores = self.browser.run("return [...document.querySelectorAll('.images figcaption')].map((one) => Number(one.textContent))")
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assert_reproduced()

    def test_an_image_prompt_is_reproduced_too(self):
        self.open()
        self.browser.choose_file("#prompt-file", self.work / "image.png")
        self.browser.wait("the image", "document.querySelector('#prompt-options').checkVisibility()")
        self.browser.click("[name=keep][value=rectangle]")
        self.browser.drag("#prompt-stage", (0.26, 0.6), (0.74, 0.98))
        self.generate("a red circle")
        self.assertNotEqual(self.browser.run("return document.querySelector('#keep-width').value"), "32")
        self.assert_reproduced()

    def test_bad_input_is_answered_in_words(self):
        self.allowed_messages = ["status of 400"]
        self.open()
        self.browser.choose_file("#prompt-file", self.work / "image.png")
        self.browser.run("for (const id of ['keep-rows']) { const input = document.getElementById(id); input.value = 1;"
                         "input.dispatchEvent(new Event('input', {bubbles: true})); }")
        self.browser.wait("the image", "document.querySelector('#prompt-options').checkVisibility()")
        self.generate("a red circle", "Stopped")
        self.assertIn("code", self.browser.text("#error"))

    def test_the_run_of_the_model_is_shown(self):
        self.open("#training")
        self.browser.wait("the images", "document.querySelector('.samples')?.complete && document.querySelector('.samples').naturalWidth > 0")
        self.assertIn("step 40", self.browser.text("#run-line"))
        self.assertGreater(self.browser.count("#run-charts svg polyline"), 3)
        color = self.browser.run("return getComputedStyle(document.querySelector('#run-charts .line')).stroke")
        self.assertNotEqual(color, "none")
        self.assertIn("a red circle", self.browser.text(".row-captions"))
        self.browser.click("#run-stages button")
        self.browser.wait("the codes", "document.querySelector('#run-charts').textContent.includes('codes')")

    def test_the_page_shows_only_what_its_policy_allows(self):
        status, headers, _ = self.server.ask("GET", "/")
        self.assertEqual(status, 200)
        self.assertIn("default-src 'none'", headers["content-security-policy"])
        self.open()
        self.allowed_messages = ["Content Security Policy", "Content-Security-Policy"]
        blocked = self.browser.run("const script = document.createElement('script'); script.textContent = 'window.ran = 1';"
                                   "document.head.append(script); return window.ran === undefined")
        self.assertTrue(blocked)


if __name__ == "__main__":
    if not browser.is_available():
        print("skipped: chromium and chromedriver are not installed")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
