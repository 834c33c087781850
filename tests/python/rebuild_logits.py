#!/usr/bin/env python3
"""Computes with a folder that dalle-export wrote, with torch and safetensors alone.

This is the reference of the format: config.json and the tensors in model.safetensors define the functions below, and nothing
else does. It is written to be read, not to be fast. hub_export_test.py compares it with the C++ code.

Usage: rebuild_logits.py FOLDER EXAMPLE.safetensors prints the largest differences from the results in the example, which has
captions, codes, images, text_logits, image_logits, latents, image_codes and decoded; for image_codes, the share that differs.
"""
import json
import math
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

PAD = -1  # pad_token_id of tokenizer_config.json: fills a caption after its last token


def load_model(folder):
    """The config, and the tensors of the transformer and of the dVAE, without their prefixes."""
    folder = pathlib.Path(folder)
    index = folder / "model.safetensors.index.json"
    files = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    tensors = {}
    for file in files:
        tensors.update(load_file(folder / file))
    config = json.loads((folder / "config.json").read_text())
    transformer, dvae = ({name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
                         for prefix in ("transformer.", "dvae."))
    return config, transformer, dvae


# ---------------------------------------------------------------------------------------------------------------------
# The transformer. A sequence is text_length text positions, then grid_height x grid_width image positions in raster order.
# A position predicts its token from what comes before: its input is the token before it, or start-of-text, start-of-image.


def attended_distances(kind, grid_height, grid_width, conv_kernel):
    """How many image tokens back an image token looks, 0 being itself (figure 11 of the paper)."""
    length, reach = grid_height * grid_width, conv_kernel // 2
    distances = {
        "dense": set(range(length)),
        "row": set(range(grid_width + 1)),  # back to the token directly above, across the start of the row
        "column": set(range(0, length, grid_width)),
        # Columns to the right of the token begin one row further up.
        "conv": {row * grid_width + -column % grid_width for row in range(reach + 1) for column in range(-reach, reach + 1)},
    }[kind]
    return {distance for distance in distances if distance < length}


def attention_mask(kind, config):
    """[L, L] bool: whether position i (row) attends to position j. Text is causal; image tokens attend to all text."""
    text = config["text_length"]
    length = text + config["grid_height"] * config["grid_width"]
    mask = torch.zeros(length, length, dtype=torch.bool)
    mask[:, :text] = True
    for distance in attended_distances(kind, config["grid_height"], config["grid_width"], config["conv_kernel"]):
        mask[text:, text:].diagonal(-distance).fill_(True)
    return mask.tril()


def embed(w, captions, codes):
    """[B, L, D]: start-of-text, the caption, start-of-image, all codes but the last; with their position embeddings."""
    batch = captions.shape[0]
    is_pad = (captions == PAD).unsqueeze(2)
    tokens = w["text_embedding"][captions.clamp(min=0)] + w["text_position"][1:]
    caption = torch.where(is_pad, w["pad_embedding"][1:], tokens)  # padding has a vector per position, and no other
    start_of_text = (w["start_of_text"] + w["text_position"][0]).expand(batch, 1, -1)
    positions = (w["row_position"].unsqueeze(1) + w["column_position"]).flatten(0, 1)  # [N, D]
    start_of_image = w["start_of_image"].expand(batch, 1, -1)
    image = torch.cat([start_of_image, w["image_embedding"][codes[:, :-1]]], 1) + positions
    return torch.cat([start_of_text, caption, image], 1)


def activate(x, activation):
    return {"gelu": F.gelu, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x)}[activation](x)


def transformer_block(x, w, prefix, mask, config):
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[f"{prefix}{name}.gain"], w[f"{prefix}{name}.bias"], config["layer_norm_epsilon"])

    def linear(x, name):
        return F.linear(x, w[f"{prefix}{name}.weight"], w[f"{prefix}{name}.bias"])

    batch, length, width = x.shape
    heads = config["heads"]
    q, k, v = (part.view(batch, length, heads, width // heads).transpose(1, 2)  # [B, heads, L, width / heads]
               for part in linear(norm(x, "attention_norm"), "attention.query_key_value").chunk(3, -1))
    scores = (q @ k.transpose(2, 3) / math.sqrt(width // heads)).masked_fill(~mask, -math.inf)
    attended = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)  # [B, L, width]
    x = x + linear(attended, "attention.output")
    return x + linear(activate(linear(norm(x, "mlp_norm"), "expand"), config["activation"]), "contract")


def transformer_logits(config, w, captions, codes):
    """
    captions: [B, text_length - 1] int64, PAD after the last token; codes: [B, N] int64 in raster order.
    Returns [B, text_length, V], where position p predicts caption[p] (the last one predicts nothing, and with
    text_loss_includes_padding class text_vocab_size + p + 1 is "padding follows"), and [B, N, K], where position n
    predicts codes[n].
    """
    x = embed(w, captions, codes)
    for layer, kind in enumerate(config["attention"], start=1):
        x = transformer_block(x, w, f"block_{layer}.", attention_mask(kind, config), config)
    x = F.layer_norm(x, x.shape[-1:], w["norm.gain"], w["norm.bias"], config["layer_norm_epsilon"])
    text = config["text_length"]
    return F.linear(x[:, :text], w["text_head.weight"]), F.linear(x[:, text:], w["image_head.weight"])


# ---------------------------------------------------------------------------------------------------------------------
# The dVAE: the classes of OpenAI's release, for any number of groups and blocks. Its bottleneck makes codes of the encoder's
# output: gumbel by argmax, vq by the nearest column of the decoder's first convolution, fsq by rounding each channel.


def convolve(x, w, name):
    kernel = w[f"{name}.w"]
    return F.conv2d(x, kernel, w[f"{name}.b"], padding=kernel.shape[2] // 2)


def residual_block(x, w, name, post_gain):
    path = x
    for number in range(1, 5):
        path = convolve(path.relu(), w, f"{name}.res_path.conv_{number}")
    identity = convolve(x, w, f"{name}.id_path") if f"{name}.id_path.w" in w else x
    return identity + post_gain * path


def encode_images(config, w, images):
    """images: [B, 3, H, W] in [0, 1]. Returns the encoder's output, [B, C, h, w]: the logits of the codes if C = K."""
    margin = config["pixel_margin"]
    x = convolve(images * (1 - 2 * margin) + margin, w, "encoder.blocks.input")
    for group in range(1, config["groups"] + 1):
        if group > 1:
            x = F.max_pool2d(x, 2)
        for block in range(1, config["blocks_per_group"] + 1):
            x = residual_block(x, w, f"encoder.blocks.group_{group}.block_{block}", config["post_gain"])
    return convolve(x.relu(), w, "encoder.blocks.output.conv")


def codes_of(config, w, latents):
    """latents: what encode_images() returns. Returns the codes, [B, h, w] int64."""
    if config["bottleneck"] == "gumbel":
        return latents.argmax(1)
    if config["bottleneck"] == "vq":
        vectors = latents.permute(0, 2, 3, 1)  # [B, h, w, D]
        if config["unit_norm"]:
            vectors = F.normalize(vectors, dim=-1)
        codebook = w["decoder.blocks.input.w"].flatten(1).t()  # [K, D]
        return torch.cdist(vectors.flatten(0, 2), codebook).argmin(1).view(vectors.shape[:3])
    codes, place = 0, 1
    for channel, levels in zip(latents.unbind(1), config["fsq_levels"], strict=True):
        half, offset = (levels - 1) * 1.001 / 2, 0.5 * (levels % 2 == 0)
        bounded = (channel + math.atanh(offset / half)).tanh() * half - offset
        codes += (bounded.round().long() + levels // 2) * place
        place *= levels
    return codes


def decoder_input(config, codes):
    """codes: [B, h, w] int64. Returns the input of the decoder's first convolution: one-hot codes or, for fsq, channels."""
    if config["bottleneck"] != "fsq":
        return F.one_hot(codes, config["vocab_size"]).permute(0, 3, 1, 2).float()  # [B, K, h, w]
    channels, place = [], 1
    for levels in config["fsq_levels"]:
        channels.append((codes // place % levels - levels // 2) / (levels // 2))
        place *= levels
    return torch.stack(channels, 1)  # [B, number of levels, h, w]


def decode_codes(config, w, codes):
    """codes: [B, h, w] int64. Returns images, [B, 3, H, W] in [0, 1]."""
    x = convolve(decoder_input(config, codes), w, "decoder.blocks.input")
    for group in range(1, config["groups"] + 1):
        for block in range(1, config["blocks_per_group"] + 1):
            x = residual_block(x, w, f"decoder.blocks.group_{group}.block_{block}", config["post_gain"])
        if group < config["groups"]:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
    mean = convolve(x.relu(), w, "decoder.blocks.output.conv")[:, :3]  # the other three maps are log scales
    margin = config["pixel_margin"]
    return ((mean.sigmoid() - margin) / (1 - 2 * margin)).clamp(0, 1)


# ---------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def differences(folder, example):
    """The largest difference of each result from the example's; of the images' codes, the share that differs."""
    config, transformer, dvae = load_model(folder)
    given = load_file(example)
    codes = given["codes"]
    text_logits, image_logits = transformer_logits(config["transformer"], transformer, given["captions"], codes)
    grid = codes.view(-1, config["transformer"]["grid_height"], config["transformer"]["grid_width"])
    latents = encode_images(config["dvae"], dvae, given["images"])
    image_codes = codes_of(config["dvae"], dvae, latents)
    found = {"text_logits": text_logits, "image_logits": image_logits, "latents": latents, "image_codes": image_codes,
             "decoded": decode_codes(config["dvae"], dvae, grid)}
    for name, tensor in found.items():
        assert tensor.shape == given[name].shape, (name, tensor.shape, given[name].shape)
    largest = {name: (tensor - given[name]).abs().max().item() for name, tensor in found.items()}
    return largest | {"image_codes": (image_codes != given["image_codes"]).float().mean().item()}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    for name, difference in differences(*sys.argv[1:]).items():
        print(f"{name:<14} {difference:.2e}")
