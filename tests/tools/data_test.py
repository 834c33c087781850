#!/usr/bin/env python3
"""dalle-train on a user's images: folders, shards, invalid files.

Usage: data_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import random
import shutil
import subprocess
import tarfile

import png
from tool_case import (
    STATE, ToolCase, main, metrics, newest_checkpoint, on_images, skipped, start_training, state_hashes, train)


def noise_image(number, width=40, height=36):
    return png.png(width, height, random.Random(number).randbytes(3 * width * height))


def write_images(folder, count):
    """Writes images of noise, each with two captions."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"noise-{number:02}.png").write_bytes(noise_image(number))
        (folder / f"noise-{number:02}.txt").write_text(f"noise number {number}\nsome noise\n")


class DataTest(ToolCase):
    def folder_with_bad_images(self):
        """Writes 24 valid images and all kinds of invalid ones. Returns the folder, and the reason to expect for each invalid one."""
        folder = self.fresh("images")
        write_images(folder / "good", 24)
        bad = folder / "bad"
        bad.mkdir()
        generated = self.fresh("generated")
        self.assert_succeeds(self.sample("a red circle", "--count", 1, "--format", "jpg", "--out", generated, model=self.whole))
        jpeg = next(generated.glob("*.jpg")).read_bytes()
        (folder / "good" / "generated.jpg").write_bytes(jpeg)
        (folder / "good" / "generated.txt").write_text("a red circle")
        for name, content in (("truncated.png", noise_image(100)[:-1000]), ("empty.png", b""), ("text.png", b"words"),
                              ("gray-tail.jpg", jpeg[:len(jpeg) * 9 // 10]), ("tiny.png", noise_image(101, 31, 50)),
                              ("latin1.png", noise_image(102)), ("silent.png", noise_image(103))):
            (bad / name).write_bytes(content)
            (bad / name).with_suffix(".txt").write_text("something bad")
        (bad / "latin1.txt").write_bytes("un caf\u00e9".encode("latin-1"))
        (bad / "silent.txt").unlink()
        return folder, {"bad/truncated.png": "truncated", "bad/empty.png": "empty", "bad/text.png": "expected a JPEG",
                        "bad/gray-tail.jpg": "JPEG image: ", "bad/tiny.png": "31 x 50", "bad/latin1.png": "latin1.txt: .*UTF-8",
                        "bad/silent.png": "no caption"}

    def assert_skipped(self, run_folder, expected):
        found = skipped(run_folder)
        self.assertEqual(found.keys(), expected.keys())
        for key, reason in expected.items():
            self.assertRegex(found[key], reason)

    def test_invalid_images_are_skipped_and_listed(self):
        """With the same bits and the same list after kills. Too many invalid images end the run."""
        images, bad = self.folder_with_bad_images()
        options = on_images(images, "--set", "data.max_invalid_fraction=0.5")
        whole, killed = self.fresh("whole"), self.fresh("killed")
        self.assert_succeeds(train(whole, *options))
        self.assert_skipped(whole, bad)
        chance = random.Random(13)
        for _ in range(4):
            process = start_training(killed, *options)
            try:
                process.wait(timeout=chance.uniform(0.6, 1.8))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.assert_succeeds(train(killed, *options))
        self.assertEqual(state_hashes(killed), state_hashes(whole))
        self.assertEqual(metrics(killed), metrics(whole))
        self.assert_skipped(killed, bad)
        # Only if captions are not needed are the images checked during training.
        result = train(self.fresh("strict"), *on_images(images, "--set", "data.max_invalid_fraction=0.01", "--stage", "dvae"))
        self.assert_fails(result, 1, "the 1% that data.max_invalid_fraction allows")
        error = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
        self.assertTrue([key for key in bad if key in error], error)

    def test_shards_train_and_sample(self):
        shards = self.fresh("shards")
        write_images(shards / "loose", 24)
        (shards / "loose" / "noise-05.png").write_bytes(noise_image(5)[:-1000])
        for number in range(2):
            with tarfile.open(shards / f"{number:05}.tar", "w") as shard:
                for path in sorted((shards / "loose").iterdir())[24 * number:24 * (number + 1)]:
                    shard.add(path, arcname=path.name)
        folder, out = self.fresh("run"), self.fresh("out")
        self.assert_succeeds(train(folder, *on_images(shards / "{00000..00001}.tar", "--set", "data.max_invalid_fraction=0.5",
                                                        kind="shards")))
        self.assert_skipped(folder, {"00000.tar/noise-05": "truncated"})
        self.assert_succeeds(self.sample("some noise", "--out", out, "--count", 1, model=folder))
        self.assertEqual(len(self.images(out)), 1)

    def test_images_without_captions_train_only_the_dvae(self):
        images, folder = self.fresh("images"), self.fresh("run")
        write_images(images, 24)
        for path in images.glob("*.txt"):
            path.unlink()
        options = on_images(images)
        for stage in ((), ("--stage", "tokenizer"), ("--stage", "dalle"),
                      ("--set", f"tokenizer.model={self.whole / 'tokenizer.model'}")):
            self.assert_fails(train(folder, *options, *stage), 1, "have no valid caption", "noise-", ".txt next to it",
                              "--stage dvae")
            self.assertFalse((folder / "checkpoints").exists())  # reported before anything is trained
        self.assert_succeeds(train(folder, *options, "--stage", "dvae"))

    def test_moved_data_is_the_same_data(self):
        images, moved, folder = self.fresh("images"), self.fresh("moved"), self.fresh("run")
        write_images(images, 24)
        stage = ("--stage", "dvae")
        self.assert_succeeds(train(folder, *on_images(images), *stage, "--set", "dvae.train.steps=20"))
        shutil.copytree(images, moved)
        self.assert_succeeds(train(folder, *on_images(f"{moved}/"), *stage, "--set", "dvae.train.steps=30"))
        # Different images with the same names in another folder are different data, even on the second attempt.
        for number in range(24):
            (images / f"noise-{number:02}.png").write_bytes(noise_image(200 + number))
        for _ in range(2):
            self.assert_fails(train(folder, *on_images(images), *stage), 1, "a different data set")
        self.assert_succeeds(train(folder, *on_images(moved), *stage))

    def test_runs_inside_the_data_folder_are_not_data(self):
        images = self.fresh("images")
        write_images(images, 24)
        for step, *options in ((10, "--stage", "dvae"), (20, "--stage", "dvae"), (20, "--restart")):
            result = train(images / "runs" / "a", *on_images(images), "--set", f"dvae.train.steps={step}",
                           "--set", "dalle.train.steps=10", *options)
            self.assert_succeeds(result)
            self.assertIn("ignored the output of training runs: runs/a", result.stderr)
        self.assertIn("and 1 more", result.stderr)

    def test_one_image_trains(self):
        images, folder = self.fresh("images"), self.fresh("run")
        write_images(images, 1)
        self.assert_succeeds(train(folder, *on_images(images)))
        self.assertEqual(newest_checkpoint(folder, "dalle").name, "step-00000040")

    def test_changed_images_are_rejected(self):
        images, folder = self.fresh("images"), self.fresh("run")
        write_images(images, 24)
        options = on_images(images, "--stage", "dvae")
        self.assert_succeeds(train(folder, *options, "--set", "dvae.train.steps=20"))
        (images / "one-more.png").write_bytes(noise_image(24))
        (images / "one-more.txt").write_text("one more")
        self.assert_fails(train(folder, *options), 1, "a different data set", "--allow-config-change")
        result = train(folder, *options, "--allow-config-change")
        self.assert_succeeds(result)
        self.assertIn("dvae: resuming from step 20 of 40", result.stderr)

    def test_other_programs_read_the_checkpoints_of_a_run(self):
        try:
            from safetensors.numpy import load_file
        except ImportError as missing:
            self.skipTest(str(missing))
        newest = sorted((self.whole / "checkpoints" / "dvae").glob("step-*"))[-1]
        weights = load_file(newest / "weights.safetensors")
        self.assertEqual(weights["encoder.blocks.input.w"].shape, (8, 3, 7, 7))
        self.assertEqual(weights["decoder.blocks.input.w"].shape, (8, 16, 1, 1))
        self.assertIn("encoder.blocks.group_1.block_1.res_path.conv_1.w", weights)
        for name in STATE:
            self.assertEqual(load_file(newest / f"{name}.safetensors").keys(), weights.keys())

    def test_missing_data_is_rejected(self):
        folder, empty = self.fresh("run"), self.work / "empty"
        empty.mkdir(exist_ok=True)
        for path in (self.work / "none", empty):
            result = train(folder, "--set", "data.kind=folder", "--set", f"data.path={path}")
            self.assert_fails(result, 1, path)


if __name__ == "__main__":
    main()
