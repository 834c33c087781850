#!/usr/bin/env python3
"""dalle-import and dalle-export.

Usage: import_export_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import hashlib
import json
import math
import os
import pickle
import shutil

import png
from tool_case import (
    RELEASED, RELEASED_CLIP, STAGES, TINY, ToolCase, main, hashes_below, newest_checkpoint, run, settings, train)


def safetensors_of(path):
    """The shapes and bytes of the tensors in a file, by name."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    return {name: (entry["shape"], raw[start + entry["data_offsets"][0]:start + entry["data_offsets"][1]])
            for name, entry in header.items() if name != "__metadata__"}


class Hostile:
    """Its pickle creates a file when Python reads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class ImportExportTest(ToolCase):
    # ---- import ----

    def imported_dvae(self, *options):
        folder = self.fresh("dvae")
        self.assert_succeeds(run("dalle-import", "openai-dvae", RELEASED / "encoder.pkl", RELEASED / "decoder.pkl", "--out", folder,
                                 *options))
        return folder

    def test_the_released_dvae_is_imported_evaluated_and_trained_on(self):
        data = ("--set", "data.kind=shapes", "--set", "data.image_size=32", "--set", "data.shapes.samples=40",
                "--set", "data.shapes.validation_samples=4")
        dvae = self.imported_dvae(*data)
        self.assertEqual({path.name for path in dvae.iterdir()}, {"config.yaml", "ema.safetensors", "manifest.json"})
        self.assert_succeeds(run("dalle-eval", "--model", dvae, "--suite", "reconstruction", "--device", "cpu"))
        config = self.fresh("x.yaml")
        config.write_text("dvae: {checkpoint: %s}\n" % dvae + TINY.read_text().split("\ndvae:")[0].split("tokenizer:")[0] +
                          "tokenizer: {vocab_size: 300}\ndalle:" + TINY.read_text().split("\ndalle:")[1])
        folder = self.fresh("run")
        result = run("dalle-train", "--config", config, "--run-dir", folder, "--device", "cpu", *settings(["dalle"], steps=5),
                     "--set", "dalle.cache_codes=true", "--set", "dalle.crops_per_image=1")
        self.assert_succeeds(result)
        self.assertIn(f"dvae: skipped, since dvae.checkpoint names a trained one: {dvae}", result.stderr)
        self.assertIn("  vocab_size: 16\n", (folder / "config.yaml").read_text())
        self.assertEqual((newest_checkpoint(folder, "dalle") / "dvae.safetensors").read_bytes(),
                         (dvae / "ema.safetensors").read_bytes())

    def test_imports_are_reproducible_and_replace_nothing(self):
        others = self.fresh("dvae.part")
        others.mkdir()
        first = self.imported_dvae()
        self.assertEqual(list(first.parent.glob(f"{first.name}?*")), [others])
        manifest = (first / "manifest.json").read_bytes()
        arguments = ("openai-dvae", RELEASED / "encoder.pkl", RELEASED / "decoder.pkl", "--out", first)
        self.assert_fails(run("dalle-import", *arguments), 1, first, "exists")
        shutil.rmtree(first)
        self.assert_succeeds(run("dalle-import", *arguments[:-1], f"{first}/"))
        self.assertEqual((first / "manifest.json").read_bytes(), manifest)

    def test_invalid_imports_are_rejected(self):
        out = self.fresh("dvae")
        hostile = self.fresh("hostile.pkl")
        ran = self.fresh("ran")
        hostile.write_bytes(pickle.dumps(Hostile(str(ran)), protocol=2))
        command = ("dalle-import", "openai-dvae")
        self.assert_fails(run(*command, hostile, "--out", out), 1, hostile, "posix.system")
        self.assertFalse(ran.exists())
        self.assert_fails(run(*command, RELEASED / "flava.bin", "--out", out), 1, "flava.bin", "encoder alone", "decoder.pkl")
        self.assert_fails(run(*command, self.work / "none.pkl", "--out", out), 1, "none.pkl", "No such file")
        self.assert_fails(run(*command, RELEASED / "encoder.pkl", RELEASED / "decoder.pkl", "--out", out, "--set",
                              "dvae.model.hidden=8"), 1, "--set dvae.model.hidden: found 8, expected 4")
        self.assert_fails(run(*command, RELEASED / "encoder.pkl", RELEASED / "decoder.pkl", "--out", out, "--set",
                              "dvae.checkpoint_sha256=x"), 1, "--set dvae.checkpoint_sha256: found x")
        self.assert_fails(run(*command, RELEASED / "encoder.pkl"), 2, "--out")
        self.assert_fails(run("dalle-import"), 2)
        self.assertFalse(out.exists())

    def imported_clip(self, *arguments):
        folder = self.fresh("clip")
        self.assert_succeeds(run("dalle-import", "clip", *(arguments or [RELEASED_CLIP / "model.safetensors"]), "--out", folder))
        return folder

    def test_an_imported_clip_model_ranks_and_measures_images(self):
        clip = self.imported_clip()
        self.assertEqual({path.name for path in clip.iterdir()},
                         {"config.yaml", "ema.safetensors", "manifest.json", "merges.txt", "vocab.json"})
        manifest = hashlib.sha256((clip / "manifest.json").read_bytes()).hexdigest()
        out = self.fresh("out")
        self.assert_succeeds(self.sample("a Red, circle", "--best-of", 6, "--count", 2, "--reranker", clip, "--out", out, model=self.whole))
        self.assertEqual({png.texts(content)["ranked_by"] for content in self.images(out).values()}, {f"clip {manifest}"})
        model = self.copy_of_whole()
        command = ("dalle-eval", "--model", model, "--suite", "best_of", "frechet", "--limit", 10, "--device", "cpu")
        self.assert_succeeds(run(*command, "--reranker", clip, "--extractor", clip))
        suites = json.loads((model / "evaluation.json").read_text())["suites"]
        self.assertEqual(suites["best_of"]["reranker"], manifest)
        space = f"clip-{manifest[:12]}"
        self.assertEqual(suites["frechet"]["dimensions"][space], 16)
        for score in suites["best_of"]["clip_score"], suites["frechet"][f"{space}_clip_score"], suites["frechet"][f"{space}_clip_score_validation"]:
            self.assertTrue(-1 < score["low"] < score["value"] < score["high"] < 1, score)
        self.assertIn("CLIP score, validation images", (model / "report.html").read_text())
        self.assertIn("best_of: already in", run(*command, "--reranker", clip, "--extractor", clip).stderr)
        self.assert_fails(run("dalle-eval", "--model", model, "--suite", "codes", "--reranker", clip, "--device", "cpu"), 1,
                          "--reranker", "requires --suite best_of")

    def test_a_clip_model_is_the_same_under_both_naming_schemes(self):
        folder = self.fresh("files")
        folder.mkdir()
        shutil.copy(RELEASED_CLIP / "open_clip.bin", folder / "weights.bin")
        tokenizer = ("--vocab", RELEASED_CLIP / "vocab.json", "--merges", RELEASED_CLIP / "merges.txt")
        self.assert_fails(run("dalle-import", "clip", folder / "weights.bin", *tokenizer, "--out", self.fresh("clip")), 1,
                          "the image transformer has the width 32, expected a multiple of 64")
        config = {"quick_gelu": True, "vision_cfg": {"width": 32, "head_width": 8}, "text_cfg": {"heads": 2}}
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
        first, second = self.imported_clip(), self.imported_clip(folder / "weights.bin", *tokenizer)
        for name in "config.yaml", "ema.safetensors", "manifest.json":
            self.assertEqual((first / name).read_bytes(), (second / name).read_bytes(), name)
        # A config.json of another library does not hide OpenCLIP's.
        (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_clip_224"}))
        fourth = self.imported_clip(folder / "weights.bin", *tokenizer)
        self.assertEqual((first / "manifest.json").read_bytes(), (fourth / "manifest.json").read_bytes())
        third = self.imported_clip(folder / "weights.bin", *tokenizer, "--activation", "gelu")
        self.assertEqual((first / "config.yaml").read_text().replace("activation: quick_gelu", "activation: gelu"),
                         (third / "config.yaml").read_text())

    def test_keys_that_the_config_of_a_clip_model_lacks_have_the_defaults_of_its_library(self):
        folder = self.fresh("files")
        shutil.copytree(RELEASED_CLIP, folder)
        config = json.loads((folder / "config.json").read_text())
        del config["text_config"]["num_attention_heads"], config["text_config"]["hidden_act"]
        (folder / "config.json").write_text(json.dumps(config))
        text = (self.imported_clip(folder / "model.safetensors") / "config.yaml").read_text()
        self.assertIn("text_heads: 8", text)
        self.assertIn("activation: quick_gelu", text)
        (folder / "config.json").write_text(json.dumps(config).replace("quick_gelu", "gelu_new"))
        text = (self.imported_clip(folder / "model.safetensors", "--activation", "gelu") / "config.yaml").read_text()
        self.assertIn("activation: gelu\n", text)

    def test_what_no_config_says_of_a_clip_model_is_assumed_with_a_warning(self):
        def norm(name, width):
            return {f"{name}.weight": [width], f"{name}.bias": [width]}

        def linear(name, out, width):
            return {f"{name}weight": [out, width], f"{name}bias": [out]}

        def layer(name, width):
            return {**norm(f"{name}.ln_1", width), **linear(f"{name}.attn.in_proj_", 3 * width, width),
                    **linear(f"{name}.attn.out_proj.", width, width), **norm(f"{name}.ln_2", width),
                    **linear(f"{name}.mlp.c_fc.", 4 * width, width), **linear(f"{name}.mlp.c_proj.", width, 4 * width)}

        shapes = {"visual.conv1.weight": [64, 3, 14, 14], "visual.class_embedding": [64], "visual.positional_embedding": [10, 64],
                  **norm("visual.ln_pre", 64), **layer("visual.transformer.resblocks.0", 64), **norm("visual.ln_post", 64),
                  "visual.proj": [64, 8], "token_embedding.weight": [650, 128], "positional_embedding": [77, 128],
                  **layer("transformer.resblocks.0", 128), **norm("ln_final", 128), "text_projection": [128, 8], "logit_scale": []}
        header, size = {}, 0
        for name, shape in shapes.items():
            header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [size, size + 2 * math.prod(shape)]}
            size += 2 * math.prod(shape)
        text = json.dumps(header).encode()
        folder, out = self.fresh("files"), self.fresh("clip")
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
        result = run("dalle-import", "clip", folder / "weights.safetensors", "--vocab", RELEASED_CLIP / "vocab.json",
                     "--merges", RELEASED_CLIP / "merges.txt", "--out", out)
        self.assert_succeeds(result)
        for words in ("assuming gelu (override with --activation)", "heads of the image transformer; assuming 1,",
                      "heads of the text transformer; assuming 2,", "42 x 42 pixels"):
            self.assertIn(words, result.stderr)

    def test_invalid_clip_models_are_rejected(self):
        folder = self.fresh("files")
        shutil.copytree(RELEASED_CLIP, folder)
        out = self.fresh("clip")

        def assert_rejected(*words, status=1, options=()):
            self.assert_fails(run("dalle-import", "clip", folder / "model.safetensors", "--out", out, *options), status, *words)

        assert_rejected("--activation", status=2, options=("--activation", "relu"))
        assert_rejected("none.json", "No such file", options=("--vocab", folder / "none.json"))
        changes = (("config.json", "quick_gelu", "gelu_new", ("config.json: text_config.hidden_act", "gelu_new")),
                   ("config.json", '"num_attention_heads": 2', '"num_attention_heads": 0', ("config.json: text_config.num_attention_heads: found 0",)),
                   ("config.json", '"layer_norm_eps": 1e-05', '"layer_norm_eps": 1e-06', ("layer_norm_eps: found 1e-06",)),
                   ("config.json", "{", "[", ("config.json: not a JSON object",)),
                   ("merges.txt", "\nd o\n", "\nd zebra\n", ("vocab.json and ", "merges.txt: line ", "\"zebra\" is not in the vocabulary")),
                   ("vocab.json", '"<|endoftext|>": 649', '"<|endoftext|>": 7', ("vocab.json and ", "duplicate ID")))
        for name, old, new, words in changes:
            text = (folder / name).read_text()
            self.assertIn(old, text)
            (folder / name).write_text(text.replace(old, new))
            assert_rejected(*words)
            (folder / name).write_text(text)
        os.remove(folder / "config.json")
        for config, words in (({"quick_gelu": 1}, "open_clip_config.json: quick_gelu: found 1, expected true or false"),
                              ({"vision_cfg": {"width": 32, "head_width": 5}}, "open_clip_config.json: vision_cfg.head_width: found 5, expected")):
            (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
            assert_rejected(words)
        os.remove(folder / "open_clip_config.json")
        config = (RELEASED_CLIP / "config.json").read_text()
        (folder / "config.json").write_text(config)
        vocabulary = json.loads((folder / "vocab.json").read_text())
        last = max(vocabulary, key=lambda token: vocabulary[token] if token[:2] != "<|" else -1)
        del vocabulary[last]
        vocabulary.update({"<|startoftext|>": 647, "<|endoftext|>": 648})
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        assert_rejected("token_embedding.weight: found Half [650, 16], expected floating point [649, 16]")
        shutil.copy(RELEASED_CLIP / "vocab.json", folder)
        (folder / "model.safetensors").write_bytes((RELEASED_CLIP / "model.safetensors").read_bytes()[:-1])
        assert_rejected(folder / "model.safetensors")
        self.assertFalse(out.exists())

    # ---- export ----

    def export(self, out, *arguments, model=None):
        return run("dalle-export", "--model", model or self.whole, "--out", out, *arguments)

    def test_an_exported_model_has_the_hubs_layout(self):
        out = self.fresh("out")
        self.assert_succeeds(self.export(f"{out}/", "--format", "hf"))
        self.assertEqual({path.name for path in out.iterdir()},
                         {"README.md", "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json",
                          "tokenizer.model", "tokenizer_config.json"})
        checkpoint = newest_checkpoint(self.whole, "dalle")
        self.assertEqual((out / "tokenizer.model").read_bytes(), (checkpoint / "tokenizer.model").read_bytes())
        exported = safetensors_of(out / "model.safetensors")
        for prefix, file in (("transformer.", "ema"), ("dvae.", "dvae")):
            for name, tensor in safetensors_of(checkpoint / f"{file}.safetensors").items():
                self.assertEqual(exported.pop(prefix + name), tensor)
        self.assertEqual(exported, {})
        config = json.loads((out / "config.json").read_text())
        self.assertEqual(config["transformer"]["attention"], ["row", "conv"])
        self.assertEqual((config["step"], config["dvae"]["image_size"]), (40, 32))
        self.assertEqual(json.loads((out / "generation_config.json").read_text())["max_new_tokens"], 64)
        self.assertEqual(json.loads((out / "preprocessor_config.json").read_text())["size"], {"height": 32, "width": 32})
        card = (out / "README.md").read_text()
        self.assertTrue(card.startswith("---\nlicense: other\n"), card)
        self.assertIn("| transformer, validation loss |", card)
        self.assertNotIn(str(self.work), card)
        again = self.fresh("again")
        again.mkdir()
        self.assert_succeeds(self.export(again, model=checkpoint))
        self.assertEqual(hashes_below(again), hashes_below(out))
        self.assert_fails(self.export(again), 1, again, "found a folder with 7 entries, expected a new or an empty folder")
        self.assert_fails(self.export("."), 1, "--out .: found ")
        link = self.fresh("link")
        link.symlink_to(self.fresh("target"))
        self.assert_fails(self.export(link), 1, "found a symbolic link")
        self.assert_fails(self.export(out / "README.md"), 1, "found a file")
        self.assertEqual([path.name for path in self.work.glob("*.part-*")], [])

    def test_large_weights_are_divided_into_files_with_an_index(self):
        folder, out = self.fresh("run"), self.fresh("out")
        self.assert_succeeds(train(folder, "--set", "dalle.model.width=128", *settings(STAGES, steps=5)))
        self.assert_succeeds(self.export(out, "--max-shard-mb", 1, model=folder))
        index = json.loads((out / "model.safetensors.index.json").read_text())
        files = sorted(out.glob("model-*.safetensors"))
        self.assertGreater(len(files), 1)
        self.assertEqual(files[0].name, f"model-00001-of-{len(files):05}.safetensors")
        tensors = {}
        for file in files:
            self.assertLess(file.stat().st_size, 1_010_000)
            for name, tensor in safetensors_of(file).items():
                self.assertEqual(index["weight_map"][name], file.name)
                tensors[name] = tensor
        self.assertEqual(tensors.keys(), index["weight_map"].keys())
        self.assertEqual(index["metadata"]["total_size"], sum(len(data) for _, data in tensors.values()))


if __name__ == "__main__":
    main()
