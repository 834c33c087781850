#!/usr/bin/env python3
"""Reads the event files of tensorboard_example with the PyPI package `tensorboard`.

Usage: tensorboard_test.py PATH_OF_tensorboard_example. Exits with 77 (skipped) if the package is missing.
"""
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import tensorboard
    from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
    from tensorboard.util import tensor_util
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

# The run was killed at step 5 and resumed from step 3: the first steps, then those of the second file.
LOSSES = [(step, 10.0 / step) for step in (1, 2, 3)] + [(step, 100.0 + step) for step in (4, 5, 6)]


def close(found: list[tuple[int, float]]) -> bool:
    return len(found) == len(LOSSES) and all(
        step == wanted_step and abs(value - wanted) < 1e-5
        for (step, value), (wanted_step, wanted) in zip(found, LOSSES))


def check_png(data: bytes) -> None:
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82"), data
    assert struct.unpack(">II", data[16:24]) == (3, 2)


def check_classic_reader(folder: str) -> None:
    """Checks the reader for scripts in `tensorboard.backend`: scalars and images as they were written."""
    events = event_accumulator.EventAccumulator(folder).Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert close(found), found
    images = events.Images("samples")
    assert [image.step for image in images] == [2], images  # the one of step 5 was purged
    assert (images[0].width, images[0].height) == (3, 2)
    check_png(images[0].encoded_image_string)
    assert "loss/text" not in events.Tags()["scalars"]  # the record that was truncated by the kill


def check_dashboard_reader(folder: str) -> None:
    """Checks the reader of TensorBoard's pages, which converts everything to tensors of plugins."""
    events = plugin_event_accumulator.EventAccumulator(folder).Reload()
    found = [(event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
             for event in events.Tensors("loss")]
    assert close(found), found
    assert set(events.ActivePlugins()) == {"scalars", "images"}, events.ActivePlugins()
    width, height, image = events.Tensors("samples")[0].tensor_proto.string_val
    assert (width, height) == (b"3", b"2")
    check_png(image)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True)
        assert len(list(pathlib.Path(folder).iterdir())) == 2
        check_classic_reader(folder)
        check_dashboard_reader(folder)
        print("tensorboard", tensorboard.__version__, "reads what was written")


if __name__ == "__main__":
    main()
