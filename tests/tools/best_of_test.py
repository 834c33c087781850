#!/usr/bin/env python3
"""dalle-sample --best-of, and what dalle-eval says about it.

Usage: best_of_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time

import png
from tool_case import BIN, CLIP, ToolCase, main, newest_checkpoint, run, train


class BestOfTest(ToolCase):
    def scores(self, folder):
        """The scores of a folder's images, by file name."""
        return {entry["file"]: entry["score"] for entry in json.loads(next(folder.glob("*.json")).read_text())}

    def test_the_best_of_several_images_are_kept(self):
        model = self.whole_with_clip()

        def sampled(name, *options, source=model):
            out = self.fresh(name)
            result = self.sample("a red circle", "--out", out, *options, model=source)
            self.assert_succeeds(result)
            return out, self.images(out), result.stderr

        _, plain, _ = sampled("plain", "--count", 6)
        out, ranked, log = sampled("all", "--best-of", 6, "--count", 6)
        self.assertEqual({name: png.pixels(content) for name, content in ranked.items()},
                         {name: png.pixels(content) for name, content in plain.items()})
        scores = self.scores(out)
        order = sorted(scores, key=lambda name: -scores[name])
        self.assertEqual(len(set(scores.values())), 6)
        numbers = [int(png.texts(ranked[name])["image"]) for name in order]
        expected = ", ".join(f"{number} ({scores[name]:.4f})" for number, name in zip(numbers, order))
        self.assertIn(f"a red circle: kept 6 of 6 images, the best first: {expected}", log)
        manifest = hashlib.sha256((newest_checkpoint(model, "clip") / "manifest.json").read_bytes()).hexdigest()
        for name, content in ranked.items():
            self.assertEqual(png.texts(content)["score"], json.dumps(scores[name]))
            self.assertEqual(png.texts(content)["ranked_by"], f"clip {manifest}")
            self.assertEqual((png.texts(content)["rank"], png.texts(content)["best_of"]), (str(order.index(name) + 1), "6"))
        _, best, _ = sampled("best", "--best-of", 6, "--count", 2, "--batch-size", 1, "--grid", self.fresh("grid.png"))
        self.assertEqual(best, {name: ranked[name] for name in sorted(order[:2])})
        _, everything, _ = sampled("keep-all", "--best-of", 6, "--count", 2, "--keep-all")
        self.assertEqual({name: png.pixels(content) for name, content in everything.items()},
                         {name: png.pixels(content) for name, content in ranked.items()})
        self.assertEqual({name for name, content in everything.items() if "rank" in png.texts(content)}, set(order[:2]))
        _, one, _ = sampled("one", "--best-of", 1)  # although sample.count is 4
        self.assertEqual([png.pixels(content) for content in one.values()], [png.pixels(next(iter(plain.values())))])
        alone = self.fresh("alone")
        shutil.copytree(newest_checkpoint(model, "clip"), alone)
        _, other, _ = sampled("other", "--best-of", 6, "--count", 2, "--reranker", alone, source=self.whole)
        self.assertEqual(other, best)
        # A plain request describes the same images, without scores.
        self.assert_succeeds(self.sample("a red circle", "--out", out, "--count", 2, model=model))
        entries = json.loads(next(out.glob("*.json")).read_text())
        self.assertEqual([entry["file"] for entry in entries if "score" in entry], sorted(plain)[2:])

    def test_the_grid_has_the_best_images_of_each_caption_in_order(self):
        model, out, grid = self.whole_with_clip(), self.fresh("out"), self.fresh("grid.png")
        captions = ("a red circle", "a blue star")
        self.assert_succeeds(self.sample(*captions, "--best-of", 4, "--count", 2, "--grid", grid, "--out", out, model=model))
        side, line = 32, 2
        rows = png.rgb_rows(grid.read_bytes())
        self.assertEqual((len(rows), len(rows[0])), (2 * (side + line) + line, 3 * (2 * (side + line) + line)))
        for row, caption in enumerate(captions):
            entries = json.loads((out / f"{caption.replace(' ', '-')}-seed1.json").read_text())
            self.assertEqual(sorted(entry["rank"] for entry in entries), [1, 2])
            self.assertEqual({entry["best_of"] for entry in entries}, {4})
            first, second = sorted(entries, key=lambda entry: entry["rank"])
            self.assertGreater(first["score"], second["score"])
            for column, entry in enumerate((first, second)):
                left, top = line + column * (side + line), line + row * (side + line)
                cell = [rows[y][3 * left:3 * (left + side)] for y in range(top, top + side)]
                self.assertEqual(cell, png.rgb_rows((out / entry["file"]).read_bytes()))

    def test_images_with_a_prompt_are_ranked_as_they_are_written(self):
        model, prompt = self.whole_with_clip(), self.noise_png("prompt.png", 32, 32)
        options = ("--image", prompt, "--keep-rows", 0.5, "--paste-original", "--count", 3)
        plain, ranked, unpasted = self.fresh("plain"), self.fresh("ranked"), self.fresh("unpasted")
        self.assert_succeeds(self.sample("a red circle", *options, "--out", plain, model=model))
        self.assert_succeeds(self.sample("a red circle", *options, "--best-of", 3, "--out", ranked, model=model))
        self.assertEqual([png.pixels(content) for content in self.images(ranked).values()],
                         [png.pixels(content) for content in self.images(plain).values()])
        options = tuple(option for option in options if option != "--paste-original")
        self.assert_succeeds(self.sample("a red circle", *options, "--best-of", 3, "--out", unpasted, model=model))
        self.assertNotEqual(set(self.scores(ranked).values()), set(self.scores(unpasted).values()))

    def test_a_ranking_that_is_stopped_keeps_the_best_so_far(self):
        model = self.whole_with_clip()
        captions = [f"a red circle {number}" for number in range(3000)]
        for options in ((), ("--keep-all",)):
            out = self.fresh("out")
            log = self.fresh("log.txt")  # not a pipe, which would fill up
            with log.open("w") as stream:
                process = subprocess.Popen(
                    [BIN / "dalle-sample", *captions, "--best-of", "40", "--count", "2", *options, "--device", "cpu",
                     "--model", model, "--out", out], stderr=stream, env={**os.environ, "OMP_NUM_THREADS": "1"})
            while not (out / "a-red-circle-9-seed1.json").exists():
                time.sleep(0.05)
                self.assertIsNone(process.poll(), log.read_text()[-1000:])
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            errors = log.read_text()
            self.assertEqual(process.returncode, 128 + signal.SIGTERM, errors[-1000:])
            images = self.images(out)
            if options:
                self.assertRegex(errors, rf"stopped: {len(images)} of 120000 images are in ")
            else:
                self.assertRegex(errors, rf"stopped: \d+ of 120000 images were generated, {len(images)} of them are in ")
            described = [json.loads(path.read_text()) for path in out.glob("*.json")]
            self.assertEqual({entry["file"] for entries in described for entry in entries}, set(images))
            for entries in described:
                kept = [entry for entry in entries if "rank" in entry]
                self.assertEqual(sorted(entry["rank"] for entry in kept), [1, 2][:len(entries)])
                best = sorted((entry["score"] for entry in entries), reverse=True)[:2]
                self.assertEqual(sorted((entry["score"] for entry in kept), reverse=True), best)
            first = json.loads((out / "a-red-circle-0-seed1.json").read_text())
            self.assertEqual({entry["best_of"] for entry in first if "rank" in entry}, {40})

    def test_images_are_ranked_by_the_models_own_likelihood(self):
        with_dropout = self.checkpoint_with(lambda config: config.replace("caption_dropout: 0.0", "caption_dropout: 0.1"))
        out = self.fresh("out")
        options = ("--best-of", 5, "--rank-by", "likelihood")
        self.assert_succeeds(self.sample("a red circle", "--out", out, *options, "--count", 5, model=with_dropout))
        scores = self.scores(out)
        kept = self.fresh("kept")
        self.assert_succeeds(self.sample("a red circle", "--out", kept, *options, "--count", 2, model=with_dropout))
        self.assertEqual(sorted(self.images(kept)), sorted(sorted(scores, key=lambda name: -scores[name])[:2]))
        self.assertEqual(png.texts(next(iter(self.images(kept).values())))["ranked_by"], "likelihood")
        self.assert_fails(self.sample("x", *options, model=self.whole), 1, "dalle.train.caption_dropout is 0")

    def test_invalid_rankings_are_rejected(self):
        model = self.whole_with_clip()
        clip = newest_checkpoint(model, "clip")
        large = self.fresh("large")
        for stage in ("tokenizer", "clip"):
            self.assert_succeeds(train(large, *CLIP, "--set", "data.image_size=64", "--stage", stage))
        for source, status, options, words in (
                (model, 2, ("--keep-all",), "--best-of"), (model, 2, ("--reranker", model), "--best-of"),
                (model, 2, ("--best-of", 0), "--best-of"), (model, 2, ("--best-of", 4, "--rank-by", "luck"), "--rank-by"),
                (model, 1, ("--best-of", 2, "--count", 3), "--best-of: found 2, expected at least 3"),
                (model, 1, ("--best-of", 4, "--rank-by", "likelihood", "--reranker", clip), "--reranker: found"),
                (model, 1, ("--best-of", 4, "--reranker", large), "reads images of 64 x 64 pixels"),
                (model, 1, ("--best-of", 4, "--reranker", "nowhere"), "nowhere: no such reranker"),
                (self.whole, 1, ("--best-of", 4), "no reranker for"),
                (model, 1, ("--best-of", 4, "--reranker", self.whole), "holds no checkpoint of the clip stage"),
                (model, 1, ("--best-of", 4, "--reranker", newest_checkpoint(model, "dalle")), "of the dalle stage, expected one of the clip stage"),
                (clip, 1, (), "of the clip stage, which cannot generate images")):
            out = self.fresh("out")
            self.assert_fails(self.sample("x", *options, "--out", out, model=source), status, words)
            self.assertEqual(list(out.glob("*")), [], options)

    def test_the_gain_from_the_best_of_several_images_is_measured(self):
        model = self.whole_with_clip()
        self.assert_succeeds(run("dalle-eval", "--model", model, "--suite", "best_of", "--device", "cpu"))
        numbers = json.loads((model / "evaluation.json").read_text())["suites"]["best_of"]
        self.assertEqual(numbers["images"], 16)
        self.assertIn("exact_of_64", numbers)
        report = (model / "report.html").read_text()
        self.assertIn("Best of several images", report)
        self.assertIn("exact, best of 64", report)
        # Another contrastive model makes other numbers; the same one does not.
        evaluate = ("dalle-eval", "--model", model, "--suite", "best_of", "--limit", 2, "--device", "cpu")
        self.assert_succeeds(run(*evaluate, "--restart"))
        self.assertIn("best_of: already in", run(*evaluate).stderr)
        self.assert_succeeds(train(model, *CLIP, "--stage", "clip", "--set", "clip.train.steps=25"))
        again = run(*evaluate)
        self.assert_succeeds(again)
        self.assertNotIn("best_of: already in", again.stderr)
        manifest = (newest_checkpoint(model, "clip") / "manifest.json").read_bytes()
        self.assertEqual(json.loads((model / "evaluation.json").read_text())["suites"]["best_of"]["reranker"],
                         hashlib.sha256(manifest).hexdigest())
        self.assert_fails(run("dalle-eval", "--model", self.whole, "--suite", "best_of", "--device", "cpu"), 1,
                          "holds no contrastive model")
        missing = run("dalle-eval", "--model", self.whole, "--suite", "codes", "best_of", "--reranker", "nowhere", "--device", "cpu")
        self.assert_fails(missing, 1, "nowhere: no such reranker")
        self.assertNotIn("codes:", missing.stderr)
        # Another model may judge what is selected.
        other, large = self.fresh("other"), self.fresh("large")
        for stage in ("tokenizer", "clip"):
            self.assert_succeeds(train(other, *CLIP, "--set", "seed=2", "--stage", stage))
            self.assert_succeeds(train(large, *CLIP, "--set", "data.image_size=64", "--stage", stage))
        judged = self.work / "judged.json"
        self.assert_succeeds(run(*evaluate, "--extractor", other, "--out", judged))
        self.assertIn("retrieved_of_64", json.loads(judged.read_text())["suites"]["best_of"])
        self.assert_fails(run("dalle-eval", "--model", model, "--suite", "codes", "--extractor", model, "--device", "cpu"), 1,
                          "requires --suite frechet or memorization")
        self.assert_fails(run("dalle-eval", "--model", model, "--suite", "best_of", "--extractor", "nowhere", "--device", "cpu"), 1,
                          "or best_of, if the extractor is the folder of a contrastive model")
        for suite, option in (("best_of", "--reranker"), ("best_of", "--extractor"), ("frechet", "--extractor")):
            self.assert_fails(run("dalle-eval", "--model", model, "--suite", suite, option, large, "--device", "cpu"), 1,
                              "reads images of 64 x 64 pixels, expected at most the 32 x 32")


if __name__ == "__main__":
    main()
