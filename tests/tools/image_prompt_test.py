#!/usr/bin/env python3
"""dalle-sample --image, --mask and the like.

Usage: image_prompt_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import hashlib
import json

import png
from tool_case import ToolCase, main


class ImagePromptTest(ToolCase):
    def test_an_image_prompt_is_completed(self):
        out = self.fresh("first")
        self.assert_succeeds(self.sample("a red circle", "--count", 1, "--out", out, model=self.whole))
        first = out / "a-red-circle-seed1-000.png"
        out = self.fresh("out")
        prompts = (("--keep-rows", 0.5), ("--keep-rows", 0.5, "--paste-original"), ("--keep", "0,0,32,16"), ("--keep-rows", 1),
                   ("--keep-rows", 0.5, "--variation", 0.4), ("--variation", 0.4), ("--variation", 0.4, "--seed", 2))
        for options in prompts:
            result = self.sample("a red circle", "--count", 2, "--out", out, "--image", first, *options, model=self.whole)
            self.assert_succeeds(result)
            kept = 32 if 0.5 in options or "--keep" in options else 64
            self.assertIn(f"{first}: {kept} of 64 codes are kept", result.stderr)
            self.assertNotIn("--strict", result.stderr)
        self.assertEqual(len(self.images(out)), 2 * len(prompts))
        described = [json.loads(path.read_text()) for path in out.glob("*.json")]
        self.assertEqual(len(described), len(prompts))
        by_prompt = {json.dumps(entry["image_prompt"]): entry for entries in described for entry in entries if entry["image"] == 0
                     if entry["seed"] == 1}
        digest = hashlib.sha256(first.read_bytes()).hexdigest()
        self.assertIn(json.dumps({"sha256": digest, "keep": [0, 0, 32, 16]}), by_prompt)
        pasted = by_prompt[json.dumps({"sha256": digest, "keep_rows": 0.5, "paste_original": True})]
        content = (out / pasted["file"]).read_bytes()
        self.assertEqual(json.loads(png.texts(content)["image_prompt"]), pasted["image_prompt"])
        row = 1 + 3 * 32  # its filter and its pixels
        self.assertEqual(png.pixels(content)[:16 * row], png.pixels(first.read_bytes())[:16 * row])
        def pixels_with(count, **prompt):
            found = [entry for entries in described for entry in entries
                     if entry["seed"] == 1 and entry["image_prompt"] == {"sha256": digest, **prompt}]
            self.assertEqual(len(found), count)
            return [png.pixels((out / entry["file"]).read_bytes()) for entry in sorted(found, key=lambda entry: entry["image"])]
        whole = pixels_with(2, keep_rows=1)
        self.assertEqual(whole[0], whole[1])  # nothing is generated
        halves = pixels_with(2, keep_rows=0.5)
        self.assertNotEqual(halves[0], halves[1])
        varied = pixels_with(2, variation=0.4)
        self.assertEqual(len({*varied, *whole, *halves}), 5)
        half = by_prompt[json.dumps({"sha256": digest, "keep_rows": 0.5})]
        rectangle = by_prompt[json.dumps({"sha256": digest, "keep": [0, 0, 32, 16]})]
        self.assertEqual(png.pixels((out / half["file"]).read_bytes()), png.pixels((out / rectangle["file"]).read_bytes()))

    def test_codes_that_cannot_be_taken_into_account_are_reported_or_refused(self):
        image, white, mask = self.noise_png("image.png", 48, 32), b"\xff" * 3, self.fresh("mask.png")
        mask.write_bytes(png.png(48, 32, (b"\0" * 72 + white * 24) * 32))  # keeps the right half
        for options in (("--keep", "0,16,32,16"), ("--mask", mask)):
            result = self.sample("x", "--image", image, *options, "--count", 1, "--out", self.fresh("out"), model=self.whole)
            self.assert_succeeds(result)
            self.assertIn("32 of 64 codes are kept", result.stderr)
            self.assertIn("32 of the kept codes come after generated ones", result.stderr)
            out = self.fresh("out")
            result = self.sample("x", "--image", image, *options, "--strict", "--out", out, model=self.whole)
            self.assert_fails(result, 1, "--strict: ", "32 of the kept codes")
            self.assertEqual(list(out.glob("*")), [])

    def test_invalid_image_prompts_are_rejected(self):
        image, small, text = self.noise_png("image.png", 48, 32), self.noise_png("small.png", 31, 40), self.fresh("text.png")
        text.write_text("no image")
        empty = self.fresh("empty.png")
        empty.touch()
        for status, options, words in (
                (2, ("--image", image), "--keep-rows, --keep, --mask or --variation"), (2, ("--keep-rows", 0.5), "--image"),
                (2, ("--strict",), "--image"), (2, ("--image", image, "--keep-rows", 1.5), "--keep-rows"),
                (2, ("--image", image, "--keep-rows", 0.5, "--keep", "0,0,4,4"), "--keep"),
                (2, ("--image", image, "--keep", "0,0,4"), "found 0,0,4, expected x,y,width,height"),
                (2, ("--image", image, "--keep", "0,0,4,4,4"), "expected x,y,width,height"),
                (2, ("--image", image, "--variation", 0.5, "--paste-original"), "--paste-original"),
                (2, ("--image", image, "--variation", "much"), "--variation"),
                (2, ("--image", "", "--keep-rows", 0.5), "--image"),
                (1, ("--image", image, "--keep", "0,0,33,32"), "--keep: found 0,0,33,32"),
                (1, ("--image", image, "--keep", "1,1,4,4"), "no code would be kept"),
                (1, ("--image", image, "--keep-rows", 0), "no code would be kept"),
                (1, ("--image", small, "--keep-rows", 0.5), "small.png: image too small"),
                (1, ("--image", text, "--keep-rows", 0.5), "text.png: "),
                (1, ("--image", image, "--mask", empty), "empty.png: "),
                (1, ("--image", "missing.png", "--keep-rows", 0.5), "missing.png"),
                (1, ("--image", image, "--mask", small), "small.png: found 31 x 40 pixels, expected 48 x 32"),
                (1, ("--image", image, "--mask", text), "text.png: ")):
            out = self.fresh("out")
            self.assert_fails(self.sample("x", *options, "--out", out, model=self.whole), status, words)
            self.assertEqual(list(out.glob("*")), [], options)


if __name__ == "__main__":
    main()
