#!/usr/bin/env python3
"""Tests the image prompt and the view of runs in training of the page, like page_test.py."""
import tempfile

from page_case import PageTestCase, main
from stand_in_server import image

SVG = ('<svg viewBox="0 0 340 210" role="img"><line class="axis" x1="50" y1="176" x2="332" y2="176"/>'
       '<text class="end" x="332" y="205">step</text><polyline class="line series-0" points="50,20 150,90 332,150"/></svg>')


class ImagePromptTest(PageTestCase):
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
        self.browser.drag("#prompt-stage", (0.5, 0.75), (0.76, 0.5))  # inside it: moves it
        self.assertEqual(self.edit()["keep"], "16,12,16,12")

    def test_a_rectangle_can_begin_anywhere(self):
        self.open()
        self.drop_image()
        self.browser.click("[name=keep][value=rectangle]")
        self.browser.drag("#prompt-stage", (0.12, 0.13), (0.63, 0.62))
        self.assertEqual(self.edit()["keep"], "4,4,16,16")

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

    def test_originals_are_pasted_only_over_a_part_that_is_kept(self):
        self.open()
        self.drop_image()
        self.browser.click("#paste-original")
        self.assertEqual(self.edit()["paste_original"], "true")
        self.browser.click("[name=keep][value=all]")
        self.assertNotIn("paste_original", self.edit())

    def test_a_file_that_is_not_an_image_is_refused(self):
        self.open()
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            file.write(b"not an image")
            file.flush()
            self.browser.choose_file("#prompt-file", file.name)
            self.browser.wait("the error", "!document.querySelector('#error').hidden")
        self.assertIn("not an image", self.browser.text("#error"))
        self.assertFalse(self.browser.is_visible("#prompt-options"))


class RunsTest(PageTestCase):
    def watch(self, steps, captions=("a red circle", "a blue square")):
        """A run whose training has written samples at these steps."""
        chart = {"name": "loss", "series": [{"name": "training", "points": [[0, 9], [50, 4], [100, 1.25]]}], "svg": SVG}
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
        self.browser.wait("the words", "document.querySelector('.slider output')?.textContent.includes('no longer available')")
        self.browser.run("document.querySelector('.slider input').focus()")
        self.browser.press("left")
        self.browser.wait("the other image", "document.querySelector('.samples').src.startsWith('blob:')")

    def test_values_under_the_pointer_are_shown(self):
        self.watch([20])
        self.open("#training")
        self.browser.wait("the charts", "document.querySelectorAll('#run-charts svg').length === 2")
        self.assertEqual(self.browser.text("#run-charts figcaption b"), "1.25")
        self.browser.drag("#run-charts svg", (0.9, 0.5), (0.55, 0.5))
        self.assertEqual(self.browser.text("#run-charts figcaption b"), "step 50: 4")
        self.browser.drag("h1", (0.5, 0.5), (0.6, 0.5))
        self.assertEqual(self.browser.text("#run-charts figcaption b"), "1.25")

    def test_who_declines_to_enter_a_key_is_not_asked_again_by_itself(self):
        self.allowed_messages = ["status of 401"]
        self.server.key = "secret"
        self.browser.open(f"{self.server.address}/#training")
        is_open = "document.querySelector('#key-dialog').open"
        self.browser.wait("the dialog", is_open)
        self.browser.press("escape")
        self.browser.wait("the error", "!document.querySelector('#run-error').hidden")
        self.assertFalse(self.browser.run("return new Promise((done) => setTimeout(() => done(" + is_open + "), 3000))"))

    def test_an_address_that_names_no_run_is_explained(self):
        self.allowed_messages = ["status of 404"]
        self.watch([20])
        for name in ("%", "missing"):
            self.open(f"#training/{name}")
            self.browser.wait("the error", "document.querySelector('#run-error').textContent.includes('no such run')")

    def test_a_folder_without_runs_says_so(self):
        self.open("#training")
        self.browser.wait("the words", "document.querySelector('#run-note').textContent.includes('no runs')")
        self.watch([20])
        self.browser.wait("the run", "document.querySelector('#run').value === 'my run'")


if __name__ == "__main__":
    main()
