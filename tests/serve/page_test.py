#!/usr/bin/env python3
"""Tests the page in a headless Chromium, against a stand-in for the server that waits and fails as a test wishes.

Usage: page_test.py [-v] [-k PART_OF_A_NAME]... Skipped (exit status 77) without chromium and chromedriver.
PAGE_SCREENSHOTS=FOLDER keeps an image of each test's end.
"""
from page_case import PageTestCase, main
from stand_in_server import model


class PageTest(PageTestCase):
    def test_it_loads_with_the_models_defaults(self):
        self.server.models = [model("shapes-demo", count=4, sampling={"temperature": 0.8, "top_k": 64, "top_p": 0.95, "guidance": 3})]
        self.open()
        values = self.browser.run("return ['count', 'temperature', 'top-k', 'top-p', 'guidance'].map("
                                  "(id) => Number(document.getElementById(id).value))")
        self.assertEqual(values, [4, 0.8, 64, 0.95, 3])
        self.assertIn("step 12,000", self.browser.text("#model-line"))
        self.assertEqual(self.browser.run("return document.querySelector('#caption').placeholder"), "a red circle")
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
        cases = [((400, "temperature: found 200, expected at most 100", {}), "Temperature: found 200, expected at most 100"),
                 ((429, "the queue is full; try again in 7 s", {"retry_after": "7"}), "The queue is full; try again in 7 s"),
                 ((503, "the server is stopping", {}), "The server is stopping"), ((500, "", {}), "status 500")]
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
        self.assertEqual(self.command()[7:11], ["--best-of", "16", "--reranker", "models/clip"])

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
        self.generate("a green circle")
        self.finish()
        self.browser.click("nav [href='#history']")
        newest = "document.querySelector('.entry b')?.textContent"
        self.browser.wait("the newest entry", f"{newest} === 'a green circle'")
        self.browser.click("#history-list .close")
        self.browser.wait("the entry to go", f"{newest} === 'a [red|blue] <i>circle</i>'")

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

    def test_who_declines_to_enter_a_key_is_asked_again_when_generating(self):
        self.allowed_messages = ["status of 401"]
        self.server.key = "secret"
        self.browser.open(f"{self.server.address}/")
        self.browser.wait("the dialog", "document.querySelector('#key-dialog').open")
        self.browser.click("#key-cancel")
        self.browser.wait("the error", "!document.querySelector('#error').hidden")
        self.browser.write("#caption", "a red circle")
        self.browser.click("#submit")
        self.browser.wait("the dialog again", "document.querySelector('#key-dialog').open")
        self.browser.write("#key", "k\u00e4y")
        self.browser.press("enter")
        self.assertTrue(self.browser.is_visible("#key-dialog"))  # not a key that a header can carry
        self.browser.write("#key", "secret")
        self.browser.press("enter")
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



if __name__ == "__main__":
    main()
