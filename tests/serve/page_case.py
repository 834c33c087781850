"""The page in a headless Chromium, against a stand-in for the server."""
import os
import pathlib
import shlex
import sys
import unittest

import browser
import stand_in_server


class PageTestCase(unittest.TestCase):
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


def main():
    if not browser.is_available():
        print("skipped: chromium and chromedriver are not installed")
        sys.exit(77)
    unittest.main()
