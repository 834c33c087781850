#!/usr/bin/env python3
"""dalle-sample: which model it uses, which images it generates, and what it writes.

Usage: sample_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import json
import os
import re
import shutil
import signal
import subprocess
import time

import png
from tool_case import BIN, TINY, ToolCase, main, newest_checkpoint, run, train


class SampleTest(ToolCase):
    def test_sampling_uses_and_names_the_newest_finished_run(self):
        out = self.fresh("out")
        result = self.sample("a red circle", "--out", out, "--count", 2)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("runs/whole", result.stderr)
        self.assertEqual(len(self.images(out)), 2)

    def test_image_i_of_a_seed_does_not_depend_on_other_images(self):
        one, many = self.fresh("one"), self.fresh("many")
        self.sample("a red circle", "--out", one, "--count", 3, "--seed", 5, model=self.whole)
        self.sample("a blue star", "a red circle", "--out", many, "--count", 5, "--seed", 5, model=self.whole)
        few, more = self.images(one), self.images(many)
        self.assertEqual(len(few), 3)
        for name, content in few.items():
            self.assertEqual(content, more[name], name)

    def test_batch_size_and_decoding_change_no_image(self):
        def images_with(*options, **environment):
            out = self.fresh("out")
            self.assert_succeeds(self.sample("a red circle", "a blue star", "a red circle", "--out", out, "--count", 5, "--seed", 3,
                                             *options, model=self.whole, **environment))
            return self.images(out)

        expected = images_with("--batch-size", 1, "--decode", "sequential")
        self.assertEqual(len(expected), 10)
        for options in (("--batch-size", 4), ("--decode", "parallel", "--window", 7), ("--decode", "auto", "--window", 100)):
            self.assertEqual(images_with(*options), expected, options)
        self.assertEqual(images_with(OMP_NUM_THREADS="2"), expected)
        self.assert_fails(self.sample("a", "--decode", "guess", model=self.whole), 2, "--decode")
        self.assert_fails(self.sample("a", "--window", 0, model=self.whole), 2, "--window")
        self.assert_fails(self.sample("a", "--batch-size", 0, model=self.whole), 2, "--batch-size")

    def test_a_copied_checkpoint_is_sufficient_for_sampling(self):
        newest = sorted((self.whole / "checkpoints" / "dalle").glob("step-*"))[-1]
        alone = self.fresh("alone")
        shutil.copytree(newest, alone)
        out, reference = self.fresh("out"), self.fresh("reference")
        self.assertEqual(self.sample("a red circle", "--out", out, model=alone).returncode, 0)
        self.sample("a red circle", "--out", reference, model=self.whole)
        self.assertEqual(self.images(out), self.images(reference))

    def test_the_environment_names_the_model(self):
        result = self.sample("a red circle", "--out", self.fresh("out"), DALLE_MODEL="nowhere")
        self.assert_fails(result, 1, "nowhere")
        copy = self.copy_of_whole()
        result = self.sample("a red circle", "--out", self.fresh("out"), DALLE_MODEL=str(copy))
        self.assert_succeeds(result)
        self.assertIn(f"generating with {copy}", result.stderr)

    def train_the_end_again(self, folder):
        """Makes a copied run finish now."""
        shutil.rmtree(newest_checkpoint(folder, "dalle"))
        self.assert_succeeds(train(folder))

    def test_of_several_runs_the_one_that_finished_last_is_used(self):
        place = self.fresh("place")
        first, last, unfinished = (place / "runs" / name for name in ("zebra", "apple", "mango"))
        for folder in (first, last, unfinished):
            shutil.copytree(self.whole, folder)
        self.train_the_end_again(last)
        shutil.rmtree(newest_checkpoint(unfinished, "dalle"))
        os.utime(newest_checkpoint(unfinished, "dalle"))
        result = run("dalle-sample", "a red circle", "--device", "cpu", cwd=place)
        self.assert_succeeds(result)
        self.assertIn("generating with runs/apple", result.stderr)
        damaged = place / "runs" / "newest"
        shutil.copytree(self.whole, damaged)
        self.train_the_end_again(damaged)
        (newest_checkpoint(damaged, "dalle") / "manifest.json").write_text("{")
        result = run("dalle-sample", "a red circle", "--device", "cpu", cwd=place)
        self.assert_succeeds(result)
        self.assertRegex(result.stderr, "(?m)^warning: .*runs/newest")
        self.assertIn("generating with runs/apple", result.stderr)

    def test_copying_or_touching_a_run_does_not_change_when_it_finished(self):
        place = self.fresh("place")
        old, last, copy = (place / "runs" / name for name in ("zebra", "mango", "apple"))
        for folder in (old, last):
            shutil.copytree(self.whole, folder)
        self.train_the_end_again(last)
        shutil.copytree(old, copy)
        os.utime(newest_checkpoint(old, "dalle"))
        os.utime(newest_checkpoint(copy, "dalle"))

        def sample():
            return run("dalle-sample", "a red circle", "--count", 1, "--device", "cpu", cwd=place)

        self.assertIn("generating with runs/mango", sample().stderr)
        shutil.rmtree(last)
        result = sample()
        self.assertIn("runs/apple and runs/zebra finished at the same time", result.stderr)
        self.assertIn("generating with runs/apple", result.stderr)
        # Runs that recorded no time are older than all others; among them, file times decide.
        metrics_file = copy / "metrics.jsonl"
        metrics_file.write_text(re.sub(r',"unix_s":[0-9.]+', "", metrics_file.read_text()))
        self.assertIn("generating with runs/zebra", sample().stderr)

    def test_a_model_may_be_given_by_any_path_in_its_run(self):
        checkpoints = self.whole / "checkpoints"
        newest = newest_checkpoint(self.whole, "dalle")
        best = checkpoints / "dalle" / (checkpoints / "dalle" / "best").read_text().strip()
        for path, taken in ((self.whole, newest), (f"{self.whole}/", newest), (checkpoints, newest), (checkpoints / "dalle", newest),
                            (f"{checkpoints}/dalle/", newest), (checkpoints / "dalle" / "latest", newest),
                            (checkpoints / "dalle" / "best", best), (newest, newest), (f"{newest}/", newest)):
            result = self.sample("a red circle", "--count", 1, "--out", self.fresh("out"), model=path)
            self.assert_succeeds(result)
            self.assertIn(taken.name, result.stderr, path)
        for path in (checkpoints / "dvae", checkpoints / "dvae" / "latest", newest_checkpoint(self.whole, "dvae")):
            self.assert_fails(self.sample("x", model=path), 1, "of the dvae stage, which cannot read captions")
        dangling = self.fresh("stage") / "latest"
        dangling.parent.mkdir()
        dangling.write_text("step-00000099\n")
        self.assert_fails(self.sample("x", model=dangling), 1, dangling, "step-00000099")
        self.assert_fails(self.sample("x", model=self.work), 1, "holds no DALL-E checkpoint")

    def test_a_checkpoint_of_another_version_is_reported_as_such(self):
        self.assert_succeeds(self.sample("x", "--out", self.fresh("out"), "--count", 1, model=self.checkpoint_with()))
        other = self.checkpoint_with(lambda config: config + "telepathy: true\n")
        self.assert_fails(self.sample("x", model=other), 1, "a different version of dalle", "telepathy")
        self.assert_fails(self.sample("x", model=self.checkpoint_with(format_version=2)), 1, "format version 2")

    def test_temperature_zero_generates_the_most_likely_image(self):
        """For any seed. Sampling from the single most likely code (top-k 1) is equivalent."""
        generated = []
        for options in (("--temperature", 0, "--seed", 1), ("--temperature", 0, "--seed", 2), ("--top-k", 1, "--seed", 3)):
            out = self.fresh("out")
            self.assert_succeeds(self.sample("a red circle", "--count", 2, "--out", out, *options, model=self.whole))
            generated += [png.pixels(content) for content in self.images(out).values()]
        self.assertEqual(len(generated), 6)
        self.assertEqual(len(set(generated)), 1)

    def test_invalid_numbers_are_rejected(self):
        for option, value in (("--temperature", "nan"), ("--top-p", "nan"), ("--temperature", "inf"), ("--temperature", "-1"),
                              ("--top-p", "0"), ("--top-p", "2"), ("--top-k", "-1"), ("--temperature", "warm")):
            result = self.sample("x", f"{option}={value}", "--out", self.fresh("out"), model=self.whole)
            self.assertIn(result.returncode, (1, 2), f"{option} {value}: {result.stderr}")
            self.assert_fails(result, result.returncode)
            self.assertIn(f"error: {option}: found {value}", result.stderr)

    def test_an_image_contains_its_request(self):
        out, caption = self.fresh("out"), "ein gr\u00fcner W\u00fcrfel"
        self.assert_succeeds(self.sample(caption, "--seed", 7, "--top-k", 3, "--out", out, "--count", 2, model=self.whole))
        (name, content), second = sorted(self.images(out).items())
        texts = png.texts(content)
        self.assertEqual(texts["caption"], caption)
        self.assertEqual(texts["seed"], "7")
        self.assertEqual(texts["top_k"], "3")
        self.assertEqual(texts["image"], "0")
        self.assertEqual(png.texts(second[1])["image"], "1")
        entry = {entry["file"]: entry for entry in json.loads(next(out.glob("*.json")).read_text())}[name]
        self.assertEqual({key: value if isinstance(value, str) else json.dumps(value)
                          for key, value in entry.items() if key != "file"}, texts)

    def test_the_config_sets_the_default_number_of_images(self):
        out = self.fresh("out")
        self.assert_succeeds(self.sample("a red circle", "--out", out, model=self.whole))
        self.assertEqual(len(self.images(out)), 2)  # sample.count of tiny.yaml

    def test_formats_grid_and_description(self):
        for suffix, magic in (("png", b"\x89PNG"), ("jpg", b"\xff\xd8"), ("webp", b"RIFF")):
            out = self.fresh(suffix)
            result = self.sample("a red circle", "--format", suffix, "--out", out, "--grid", out / f"grid.{suffix}", "--count", 2,
                                 model=self.whole)
            self.assertEqual(result.returncode, 0, result.stderr)
            files = sorted(out.glob(f"a-red-circle-*.{suffix}"))
            self.assertEqual(len(files), 2)
            self.assertTrue(files[0].read_bytes().startswith(magic))
            self.assertTrue((out / f"grid.{suffix}").read_bytes().startswith(magic))
            made = json.loads(next(out.glob("*.json")).read_text())
            self.assertEqual([entry["file"] for entry in made], [path.name for path in files])
            self.assertEqual(made[0]["caption"], "a red circle")
            self.assertEqual(len(made[0]["model"]), 64)

    def test_captions_of_any_kind(self):
        for caption in ("word " * 10_000, "ein grüner Würfel 立方体", "/etc/passwd", "."):
            result = self.sample(caption, "--out", self.fresh("out"), "--count", 1, model=self.whole)
            self.assertEqual(result.returncode, 0, result.stderr)
            if caption.startswith("word"):
                self.assertIn("tokens; the model reads only the first 15", result.stderr)
        for nothing in ("", "\u3000", " \t\n"):
            self.assert_fails(self.sample(nothing, "--out", self.fresh("out"), model=self.whole), 1, "caption", "empty")
        self.assert_fails(self.sample(b"\xff\xfe".decode("utf-8", "surrogateescape"), model=self.whole), 1, "UTF-8")

    def test_similar_captions_have_separate_files(self):
        out = self.fresh("out")
        captions = ("a red circle", "a red circle!", "A red, circle", "a-red-circle", "long " * 30 + "a", "long " * 30 + "b", "...")
        self.assertEqual(self.sample(*captions, "--out", out, "--count", 1, model=self.whole).returncode, 0)
        self.assertEqual(len(list(out.glob("*.png"))), len(captions))
        made = {json.loads(path.read_text())[0]["caption"] for path in out.glob("*.json")}
        self.assertEqual(made, set(captions))
        self.assertTrue((out / "a-red-circle-seed1-000.png").exists())

    def test_images_of_different_requests_never_overwrite_one_another(self):
        out, other = self.fresh("out"), self.fresh("other")
        prompt, other_prompt = self.noise_png("prompt.png", 32, 32), self.noise_png("other-prompt.png", 32, 32)
        shutil.copytree(self.whole / "checkpoints" / "dalle" / "step-00000035", other)
        requests = [((), self.whole), (("--temperature", 0.5), self.whole), (("--top-k", 3), self.whole),
                    (("--top-p", 0.5), self.whole), (("--top-k", 3, "--top-p", 0.5), self.whole), (("--seed", 2), self.whole),
                    (("--guidance", 2), self.whole), (("--image", prompt, "--keep-rows", 0.5), self.whole),
                    (("--image", other_prompt, "--keep-rows", 0.5), self.whole),
                    (("--image", prompt, "--keep-rows", 0.25), self.whole), ((), other), (("--temperature", 0.5), other)]

        def sample_all():
            for options, model in requests:
                self.assert_succeeds(self.sample("a red circle", "a red circle", "--count", 1, "--out", out, *options, model=model))
            return {path.name: path.read_bytes() for path in sorted(out.iterdir())}

        first = sample_all()
        self.assertEqual(len(self.images(out)), len(requests))
        for name in ("seed1", "seed1-temperature0.5", "seed1-top-k3", "seed1-top-p0.5", "seed1-top-k3-top-p0.5", "seed2"):
            self.assertIn(f"a-red-circle-{name}-000.png", first)
        for path in out.glob("*.json"):
            entry, = json.loads(path.read_text())
            self.assertEqual(png.texts(first[entry["file"]])["model"], entry["model"])
        self.assertEqual(sample_all(), first)
        # A JSON file in another format is not overwritten either.
        (out / "a-red-circle-seed1.json").write_text("mine")
        result = self.sample("a red circle", "--count", 1, "--out", out, model=self.whole)
        self.assert_succeeds(result)
        self.assertIn("a-red-circle-seed1.json describes images from a different model or different settings", result.stderr)
        self.assertEqual((out / "a-red-circle-seed1.json").read_text(), "mine")

    def test_guidance_of_one_is_off_and_other_guidance_is_in_the_name(self):
        def files_with(*options):
            out = self.fresh("out")
            result = self.sample("a red circle", "a blue star", "--count", 3, "--out", out, *options, model=self.whole)
            self.assert_succeeds(result)
            return {path.name: path.read_bytes() for path in sorted(out.iterdir())}, result.stderr

        plain, _ = files_with()
        off, log = files_with("--guidance", 1, "--guidance-to", 0.5)
        self.assertEqual(off, plain)
        self.assertNotIn("caption_dropout", log)
        guided, log = files_with("--guidance", 2.5, "--guidance-to", 0.5)
        self.assertEqual(log.count("warning: "), 1, log)
        self.assertIn("caption_dropout", log)
        self.assertIn("a-red-circle-seed1-guidance2.5-to0.5-000.png", guided)
        self.assertEqual(png.texts(guided["a-red-circle-seed1-guidance2.5-to0.5-000.png"])["guidance"], "2.5")
        self.assertEqual(json.loads(guided["a-blue-star-seed1-guidance2.5-to0.5.json"])[0]["guidance_to"], 0.5)
        for options in (("--batch-size", 1), ("--batch-size", 2, "--decode", "parallel", "--window", 5)):
            self.assertEqual(files_with("--guidance", 2.5, "--guidance-to", 0.5, *options)[0], guided)
        for options, words in ((("--guidance", -1), "--guidance"), (("--guidance-from", 2), "--guidance-from"),
                               (("--guidance", 2, "--guidance-from", 0.5, "--guidance-to", 0.5), "guidance_to: found 0.5")):
            result = self.sample("x", "--out", self.fresh("out"), *options, model=self.whole)
            self.assert_fails(result, result.returncode, words)
            self.assertNotEqual(result.returncode, 0)

    def test_a_description_keeps_the_images_of_the_same_request(self):
        out = self.fresh("out")
        for options in (("--count", 3), ("--count", 1), ("--count", 1, "--format", "jpg")):
            self.assert_succeeds(self.sample("a red circle", "--out", out, *options, model=self.whole))
        entries = json.loads((out / "a-red-circle-seed1.json").read_text())
        self.assertEqual(sorted(entry["file"] for entry in entries),
                         sorted(path.name for path in out.iterdir() if path.suffix != ".json"))

    def test_names_of_formats_are_case_insensitive(self):
        for number, (name, suffix) in enumerate((("jpeg", "jpg"), ("PNG", "png"), ("WebP", "webp"), ("JPG", "jpg"))):
            out = self.fresh(f"out-{number}")
            result = self.sample("a red circle", "--count", 1, "--format", name, "--grid", out / f"GRID.{name}", "--out", out,
                                 model=self.whole)
            self.assert_succeeds(result)
            self.assertTrue((out / f"GRID.{name}").is_file())
            self.assertTrue((out / f"a-red-circle-seed1-000.{suffix}").is_file())

    def test_unwritable_outputs_are_reported_before_images_are_generated(self):
        in_the_way = self.fresh("in-the-way")
        in_the_way.write_text("")
        folder = self.fresh("folder.png")
        folder.mkdir()
        captions = [f"caption {number}" for number in range(500)]
        for options, words in ((("--grid", self.fresh("grid.webp")), "16383"), (("--grid", in_the_way / "grid.png"), in_the_way),
                               (("--grid", folder), folder), (("--grid", "grid.gif"), ".png, .jpg or .webp"),
                               (("--grid", "grid"), ".png, .jpg or .webp"), (("--out", in_the_way / "out"), in_the_way)):
            out = self.fresh("out")
            result = self.sample(*captions, *(() if "--out" in options else ("--out", out)), *options, model=self.whole)
            self.assert_fails(result, 1, words)
            self.assertEqual(list(out.glob("*")), [], options)

    def test_a_full_disk_is_reported_and_written_images_stay_valid(self):
        out, faults = self.fresh("out"), self.compile_faults()
        result = self.sample("a red circle", "--count", 5, "--out", out, model=self.whole, LD_PRELOAD=str(faults), FAULT_KIND="full",
                             FAULT_RANK="0", FAULT_FOLDER=str(out), FAULT_CALL="20", FAULT_REPORT=str(self.fresh("report")))
        self.assert_fails(result, 1, out, "No space left on device")
        images = self.images(out)
        for content in images.values():
            png.pixels(content)
        described = json.loads((out / "a-red-circle-seed1.json").read_text())
        self.assertEqual([entry["file"] for entry in described], [*images][:len(described)])
        self.assertGreater(len(described), 0)

    def test_stopped_sampling_keeps_the_finished_images(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            out = self.fresh(f"out-{number}")
            process = subprocess.Popen(
                [BIN / "dalle-sample", "a red circle", "a blue star", "--count", "60000", "--device", "cpu", "--model", self.whole,
                 "--out", out], stderr=subprocess.PIPE, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"})
            while len(list(out.glob("*.png"))) < 24:
                time.sleep(0.05)
                self.assertIsNone(process.poll())
            process.send_signal(number)
            errors = process.communicate(timeout=60)[1]
            self.assertEqual(process.returncode, 128 + number, errors)
            self.assertRegex(errors, r"stopped: \d+ of 120000 images are in ")
            images = self.images(out)
            for content in images.values():
                png.pixels(content)
            described = json.loads((out / "a-red-circle-seed1.json").read_text())
            self.assertEqual({entry["file"] for entry in described}, set(images))

    def test_captions_are_checked_before_the_model_is_loaded(self):
        self.assert_fails(self.sample(model="nowhere"), 2, "no caption")
        self.assert_fails(self.sample("a red circle", " \t", model="nowhere"), 1, "caption", "empty")
        self.assert_fails(self.sample(b"\xff\xfe".decode("utf-8", "surrogateescape"), model="nowhere"), 1, "UTF-8")

    def test_corrupt_models_are_rejected(self):
        newest = sorted((self.whole / "checkpoints" / "dalle").glob("step-*"))[-1]

        def sample_changed(change):
            copy = self.fresh("model")
            shutil.copytree(newest, copy)
            change(copy)
            return self.sample("a red circle", "--out", self.fresh("out"), model=copy)

        def truncate(copy):
            os.truncate(copy / "ema.safetensors", 100)

        def claim_terabytes(copy):
            content = (copy / "ema.safetensors").read_bytes()
            (copy / "ema.safetensors").write_bytes((1 << 42).to_bytes(8, "little") + content[8:])

        self.assert_fails(sample_changed(truncate), 1, "ema.safetensors")
        self.assert_fails(sample_changed(claim_terabytes), 1, "ema.safetensors")
        self.assert_fails(sample_changed(lambda copy: (copy / "tokenizer.model").unlink()), 1, "tokenizer.model")
        self.assert_fails(sample_changed(lambda copy: (copy / "manifest.json").write_text("{")), 1, "manifest.json")
        self.assert_fails(self.sample("x", model=self.work / "none"), 1, "none")
        self.assert_fails(self.sample("x", model=TINY), 1, "tiny.yaml")


if __name__ == "__main__":
    main()
