#!/usr/bin/env python3
"""Compares the speed of this project with DALLE-pytorch on this machine's CPU, for the same model sizes, in alternating runs.

Usage: compare_peer.py [--repeat N] [--json FILE] [CASE...]; without a case, all of them. Needs scripts/build.sh, and a network
connection the first time: it installs DALLE-pytorch 1.6.6 in build/peer. Both use LibTorch's Python package in
third_party/libtorch, and all threads that the machine has. Nothing else should run.

A training step is that of the transformer, with AdamW. This project's includes reading images and encoding them with a small
dVAE; the other program gets codes, and its feed-forward layers are gated, which gives it a quarter more parameters. The
smaller vocabulary of this project's captions makes it a few percent faster. The other program's attention is dense, because training
with its sparse patterns fails with current versions of Torch; this project's is the paper's. Sampling is without the dVAE.
Loading is one thread that reads JPEG files of 500 x 375 pixels, crops them at random and makes tensors of 256 x 256. The
other program uses Pillow, with the operations of torchvision's RandomResizedCrop and ToTensor; one case replaces it by OpenCV.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEER = ROOT / "build/peer"
PACKAGES = ["dalle-pytorch==1.6.6", "axial-positional-embedding==0.3.12", "einops==0.8.2", "g-mlp-pytorch==0.1.5",
            "rotary-embedding-torch==0.9.1", "packaging", "pillow", "requests", "certifi", "charset-normalizer", "idna", "tqdm",
            "urllib3", "numpy", "opencv-python-headless==4.12.0.88"]

SMALL = {"width": 256, "depth": 4, "heads": 4, "text": 64, "words": 1024, "grid": 16, "codes": 512}
LARGE = {"width": 512, "depth": 8, "heads": 8, "text": 256, "words": 16384, "grid": 32, "codes": 8192}
# What is measured, the size, the batch or number of images, and this project's precision.
CASES = {
    "train-small-1": ("train", SMALL, 1, "float32"),
    "train-small-1-bf16": ("train", SMALL, 1, "bfloat16"),
    "train-small-8": ("train", SMALL, 8, "float32"),
    "train-small-8-bf16": ("train", SMALL, 8, "bfloat16"),
    "train-large-1": ("train", LARGE, 1, "float32"),
    "train-large-1-bf16": ("train", LARGE, 1, "bfloat16"),
    "sample-small-1": ("sample", SMALL, 1, "float32"),
    "sample-small-16": ("sample", SMALL, 16, "float32"),
    "load-pillow": ("load", None, 256, None),
    "load-opencv": ("load", None, 256, None),
}
PHOTOS = PEER / "photos"


# The other program, in a process of its own.


def import_peer():
    """Its model, without the packages of its tokenizers and of other people's VAEs, which are not needed here."""
    unused = {"omegaconf": ["OmegaConf"], "taming": [], "taming.models": [], "taming.models.vqgan": ["VQModel", "GumbelVQ"],
              "dalle_pytorch.tokenizer": ["tokenizer"]}
    for name, members in unused.items():
        module = types.ModuleType(name)
        for member in members:
            setattr(module, member, type(member, (), {}))
        sys.modules[name] = module
    from dalle_pytorch.dalle_pytorch import DALLE, DiscreteVAE
    return DALLE, DiscreteVAE


def peer_model(size):
    DALLE, DiscreteVAE = import_peer()
    vae = DiscreteVAE(image_size=8 * size["grid"], num_layers=3, num_tokens=size["codes"], codebook_dim=16, hidden_dim=8)
    vae.decode = lambda codes: codes
    return DALLE(dim=size["width"], vae=vae, num_text_tokens=size["words"], text_seq_len=size["text"], depth=size["depth"],
                 heads=size["heads"], dim_head=size["width"] // size["heads"], attn_types=("full",), rotary_emb=False,
                 shift_tokens=False, loss_img_weight=7)


def seconds_of(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def write_photos(count):
    """Writes JPEG files with as much detail as photos: about 75 KB each."""
    import numpy
    from PIL import Image
    PHOTOS.mkdir(exist_ok=True)
    for number in range(count):
        random = numpy.random.default_rng(number)
        image = sum(numpy.asarray(Image.fromarray(random.integers(0, 256, (375 // scale + 1, 500 // scale + 1, 3), numpy.uint8))
                                  .resize((500, 375), Image.BICUBIC), numpy.float32) * share
                    for scale, share in ((64, 0.5), (16, 0.25), (4, 0.15), (1, 0.1)))
        Image.fromarray(image.astype(numpy.uint8)).save(PHOTOS / f"{number:03}.jpg", quality=90)


def loading_seconds(case):
    """The seconds in which one thread loads all photos, which the first pass has brought into the page cache."""
    import random
    import cv2
    import numpy
    import torch
    from PIL import Image
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    chance = random.Random(0)

    def square(width, height):
        """RandomResizedCrop(256, scale=(0.75, 1), ratio=(1, 1)); the whole short side if no such square fits."""
        side = round((width * height * chance.uniform(0.75, 1)) ** 0.5)
        if side > min(width, height):
            side = min(width, height)
            return (width - side) // 2, (height - side) // 2, side
        return chance.randint(0, width - side), chance.randint(0, height - side), side

    def with_pillow(path):
        image = Image.open(path).convert("RGB")
        x, y, side = square(*image.size)
        pixels = numpy.asarray(image.crop((x, y, x + side, y + side)).resize((256, 256), Image.BILINEAR))
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(torch.float32).div(255)

    def with_opencv(path):
        image = cv2.imread(str(path))
        x, y, side = square(image.shape[1], image.shape[0])
        pixels = cv2.cvtColor(cv2.resize(image[y:y + side, x:x + side], (256, 256), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(torch.float32).div(255)

    if len(list(PHOTOS.glob("*.jpg"))) < CASES[case][2]:
        write_photos(CASES[case][2])
    load = with_opencv if case == "load-opencv" else with_pillow
    paths = sorted(PHOTOS.iterdir())

    def load_all():
        for path in paths:
            load(path)

    load_all()
    return seconds_of(load_all)


def peer_seconds(case):
    """The seconds of a step or a batch of images, after one that is not counted."""
    import torch
    torch.manual_seed(0)
    what, size, count, _ = CASES[case]
    if what == "load":
        return loading_seconds(case)
    torch.set_num_threads(os.cpu_count())
    model = peer_model(size)
    text = torch.randint(1, size["words"], (count, size["text"]))
    codes = torch.randint(0, size["codes"], (count, size["grid"] ** 2))
    weights = [weight for name, weight in model.named_parameters() if not name.startswith("vae.")]
    optimizer = torch.optim.AdamW(weights, lr=4.5e-4, betas=(0.9, 0.96), weight_decay=4.5e-2)

    def step():
        model(text, codes, return_loss=True).backward()
        torch.nn.utils.clip_grad_norm_(weights, 0.5)
        optimizer.step()
        optimizer.zero_grad()

    def sample():
        with torch.no_grad():
            model.generate_images(text, filter_thres=0.9, use_cache=True)

    if what == "sample":
        model.eval()
        return seconds_of(sample)
    step()
    return statistics.median(seconds_of(step) for _ in range(5))


def run_peer(case):
    path = os.pathsep.join([str(PEER), str(ROOT / "third_party/libtorch")])
    output = subprocess.run([sys.executable, __file__, "--peer", case], check=True, capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": path}).stdout
    return float(output.splitlines()[-1])


# This project.


def config_of(case):
    _, size, count, precision = CASES[case]
    config = "shapes-64" if size is SMALL else "dalle-50m"
    keys = {"data.kind": "shapes", "data.shapes.samples": 2000, "data.shapes.validation_samples": 8,
            "data.image_size": 4 * size["grid"] if size is SMALL else 8 * size["grid"],
            "dvae.model.hidden": 8, "dvae.model.codebook_width": 16, "dvae.train.precision": "float32",
            "dalle.model.depth": size["depth"], "dalle.train.batch_size": count, "dalle.train.micro_batch_size": count,
            "dalle.train.precision": precision}
    return ["--config", str(ROOT / f"configs/{config}.yaml")] + [word for key, value in keys.items()
                                                                 for word in ("--set", f"{key}={value}")]


def own_results(*options):
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        subprocess.run([ROOT / "build/release/bin/dalle-bench", *options, "--json", report], check=True, capture_output=True, text=True)
        return json.loads(report.read_text())["results"]


def run_own(case):
    what, size, count, _ = CASES[case]
    if what == "load":
        return count / own_results("data", "--config", ROOT / "configs/dalle-50m.yaml", "--set", f"data.path={PHOTOS}", "--set",
                                   "data.kind=folder", "--workers", "1", "--images", str(4 * count), "--repeat", "1")[0]["images_per_s"]
    options = (["train", "--ranks", "1", "--device", "cpu", "--steps", "8" if size is LARGE else "20"] if what == "train" else
               ["decode", "--images", str(count), "--windows", "1", "--repeat", "1"])
    results = own_results(*options, *config_of(case))
    if what == "train":
        return results[0]["time"]["step_ms"] / 1e3
    return next(result for result in results if result["decode"] == "auto")["ms_per_image"] * count / 1e3


def items_of(case):
    """The tokens, or images to load, that a time is for."""
    what, size, count, _ = CASES[case]
    if what == "load":
        return count
    return count * (size["grid"] ** 2 + (size["text"] if what == "train" else 0))


def compare(case, repeat):
    pairs = [(run_peer(case), run_own(case)) for _ in range(repeat)]
    peer, own = (statistics.median(column) for column in zip(*pairs))
    ratios = sorted(a / b for a, b in pairs)
    print(f"{case:<20} {1e3 * peer:>10.1f} {1e3 * own:>9.1f} {items_of(case) / own:>9.0f} {statistics.median(ratios):>7.1f}x "
          f"({ratios[0]:.1f} to {ratios[-1]:.1f})", flush=True)
    return {"case": case, "peer_s": [pair[0] for pair in pairs], "own_s": [pair[1] for pair in pairs]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, help="number of runs of each, alternating")
    parser.add_argument("--json", help="also write all times to this file")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of: {', '.join(CASES)}")
    arguments = parser.parse_args()
    if arguments.peer:
        print(peer_seconds(arguments.peer))
        return
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"found the case {unknown.pop()}, expected {', '.join(CASES)}")
    if not (PEER / "cv2").exists():
        shutil.rmtree(PEER, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", PEER, *PACKAGES], check=True)
    print(f"{'case':<20} {'peer ms':>10} {'dalle ms':>9} {'per s':>9} {'ratio':>8} (lowest to highest)")
    results = [compare(case, arguments.repeat) for case in arguments.cases or CASES]
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
