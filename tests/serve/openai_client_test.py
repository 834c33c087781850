#!/usr/bin/env python3
"""Tests dalle-serve with OpenAI's Python client as it is on PyPI. Exits with status 77, skipped, if it is missing.

Usage: openai_client_test.py FOLDER_OF_THE_BINARIES [-v] [-k PART_OF_A_NAME]...
"""
import asyncio
import base64
import sys
import unittest
import warnings

try:
    import openai
except ImportError:
    print("skipped: the package openai is missing")
    sys.exit(77)

from served_model import CODES, IMAGE, MASK, SIDE, ServeTestCase, enlarged, rows_of

PROMPT = "a red circle"
REFUSED = r'dalle_request_seconds_count\{.*status="400"\}'


class OpenaiClientTest(ServeTestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="none")
        self.addCleanup(self.client.close)

    def test_generating(self):
        answer = self.client.images.generate(model="gpt-image-1", prompt=PROMPT, extra_body={"seed": 7})
        self.assertEqual([rows_of(answer.data[0].b64_json)], self.sampled("--seed", 7, "--count", 1))
        self.assertEqual((answer.size, answer.quality, answer.background, answer.output_format), ("32x32", "high", "opaque", "png"))
        self.assertEqual(answer.usage.output_tokens, CODES)
        self.assertEqual((answer.seed, answer.model), (7, "tiny"))

    def test_several_images_are_those_of_dalle_sample(self):
        answer = self.client.images.generate(prompt=PROMPT, n=3, user="someone", extra_body={"seed": 2})
        self.assertEqual([rows_of(image.b64_json) for image in answer.data], self.sampled("--seed", 2, "--count", 3))
        self.assertEqual(answer.safety_identifier, "someone")

    def test_headers(self):
        raw = self.client.images.with_raw_response.generate(model="dall-e-3", prompt=PROMPT)
        self.assertEqual(raw.headers["x-dalle-model"], "tiny")
        self.assertTrue(raw.headers["x-request-id"])
        self.assertEqual(len(raw.parse().data), 1)

    def test_sizes(self):
        small, = self.sampled("--seed", 1, "--count", 1)
        for size, side in (("auto", 32), ("32x32", 32), ("64x64", 64), ("1024x1024", 1024), ("1024x1536", 1024), ("50x50", 64), ("1x1", 32)):
            answer = self.client.images.generate(prompt=PROMPT, size=size, extra_body={"seed": 1})
            self.assertEqual(answer.size, f"{side}x{side}")
            self.assertEqual(rows_of(answer.data[0].b64_json), enlarged(small, side // SIDE))

    def test_formats(self):
        for name, place, signature in (("png", 1, b"PNG"), ("jpeg", 0, b"\xff\xd8"), ("webp", 8, b"WEBP")):
            files = []
            for compression in (5, 100):
                answer = self.client.images.generate(prompt=PROMPT, output_format=name, output_compression=compression, size="512x512",
                                                     extra_body={"seed": 1})
                self.assertEqual(answer.output_format, name)
                files.append(base64.b64decode(answer.data[0].b64_json))
                self.assertEqual(files[-1][place:place + len(signature)], signature)
            if name != "png":
                self.assertLess(len(files[0]), len(files[1]))

    def test_urls(self):
        answer = self.client.images.generate(prompt=PROMPT, response_format="url", n=2, extra_body={"seed": 7})
        for image, sampled in zip(answer.data, self.sampled("--seed", 7, "--count", 2), strict=True):
            self.assertTrue(image.url.startswith(f"{self.server.url}/images/"))
            status, headers, content = self.server.ask("GET", image.url.removeprefix(self.server.url))
            self.assertEqual((status, headers["content-type"]), (200, "image/png"))
            self.assertEqual(rows_of(base64.b64encode(content)), sampled)

    def test_streaming(self):
        with self.client.images.generate(prompt=PROMPT, stream=True, partial_images=3, n=2, extra_body={"seed": 7}) as stream:
            events = list(stream)
        completed = {}
        for event in events:
            self.assertNotIn(event.image, completed)  # an image's previews come before it
            self.assertEqual((event.size, event.quality, event.output_format), ("32x32", "high", "png"))
            if event.type == "image_generation.completed":
                completed[event.image] = rows_of(event.b64_json)
                self.assertEqual(event.usage.output_tokens, CODES)
        self.assertEqual([completed[0], completed[1]], self.sampled("--seed", 7, "--count", 2))
        for image in range(2):
            previews = [event.partial_image_index for event in events
                        if event.type == "image_generation.partial_image" and event.image == image]
            self.assertEqual(previews, [0, 1, 2])

    def test_editing_with_a_mask(self):
        answer = self.client.images.edit(image=("image.png", IMAGE), mask=("mask.png", MASK), prompt=PROMPT, extra_body={"seed": 3})
        sampled = self.sampled("--seed", 3, "--count", 1, "--image", self.work / "image.png", "--mask", self.work / "mask.png")
        self.assertEqual([rows_of(answer.data[0].b64_json)], sampled)
        self.assertEqual(answer.usage.input_tokens_details.image_tokens, CODES // 2)

    def test_editing_in_a_stream(self):
        stream = self.client.images.edit(image=[("image.png", IMAGE)], prompt=PROMPT, stream=True, partial_images=1,
                                         extra_body={"seed": 3, "keep_rows": 0.5, "paste_original": True})
        events = list(stream)
        self.assertEqual([event.type for event in events], ["image_edit.partial_image", "image_edit.completed"])
        sampled = self.sampled("--seed", 3, "--count", 1, "--image", self.work / "image.png", "--keep-rows", 0.5, "--paste-original")
        self.assertEqual([rows_of(events[-1].b64_json)], sampled)

    def test_variations(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            answer = self.client.images.create_variation(image=("image.png", IMAGE), n=2, extra_body={"seed": 3})
        self.assertEqual(answer.data[0].revised_prompt, PROMPT)  # the first of the config's captions
        sampled = self.sampled("--seed", 3, "--count", 2, "--image", self.work / "image.png", "--variation", 0.5)
        self.assertEqual([rows_of(image.b64_json) for image in answer.data], sampled)

    def test_the_best_images_come_first(self):
        answer = self.client.images.generate(prompt=PROMPT, n=2, extra_body={"seed": 5, "best_of": 6})
        all_images = self.sampled("--seed", 5, "--count", 6)
        self.assertGreater(answer.data[0].score, answer.data[1].score)
        for image in answer.data:
            self.assertEqual(rows_of(image.b64_json), all_images[image.image])
        kept = self.sampled("--seed", 5, "--count", 2, "--best-of", 6, "--rank-by", "likelihood")
        self.assertCountEqual([rows_of(image.b64_json) for image in answer.data], kept)
        self.assertEqual(answer.usage.output_tokens, 6 * CODES)

    def test_bad_input_is_a_bad_request_and_not_repeated(self):
        for options in ({"n": 0}, {"size": "large"}, {"extra_body": {"seed": -1}}, {"extra_body": {"top_p": 2}}):
            before = self.server.metric(REFUSED)
            with self.assertRaises(openai.BadRequestError) as caught:
                self.client.images.generate(prompt=PROMPT, **options)
            field = next(iter(options.get("extra_body", options)))
            self.assertEqual(caught.exception.param, field)
            self.assertEqual(caught.exception.code, "invalid_value")
            self.assertEqual(caught.exception.type, "invalid_request_error")
            self.assertTrue(caught.exception.request_id)
            self.assertEqual(self.server.metric(REFUSED), before + 1)

    def test_errors_have_their_classes(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.models.retrieve("none")
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.serving("--queue", "512", "--batch-size", "1", DALLE_API_KEY="secret") as server:
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
            with self.assertRaises(openai.AuthenticationError) as caught:
                client.images.generate(prompt=PROMPT)
            self.assertEqual(caught.exception.code, "invalid_api_key")
            client = client.with_options(api_key="secret")
            self.assertEqual([model.id for model in client.models.list()], ["tiny"])
            slow = {"best_of": 512, "guidance": 3}
            with client.images.generate(prompt=PROMPT, stream=True, extra_body=slow), self.assertRaises(openai.RateLimitError) as caught:
                client.images.generate(prompt=PROMPT, extra_body=slow)
            self.assertGreaterEqual(int(caught.exception.response.headers["retry-after"]), 1)

    def test_a_client_that_gives_up_frees_its_place(self):
        canceled = self.server.metric(r"dalle_canceled_images_total\{.*\}")
        with self.assertRaises(openai.APITimeoutError):
            self.client.with_options(timeout=0.1, max_retries=0).images.generate(prompt=PROMPT, extra_body={"best_of": 512, "guidance": 3})
        self.server.wait_for_metric(r"dalle_canceled_images_total\{.*\}", canceled + 1)
        self.assertEqual(len(self.client.images.generate(prompt=PROMPT).data), 1)

    def test_concurrent_requests_do_not_change_images(self):
        async def generate_all():
            async with openai.AsyncOpenAI(base_url=f"{self.server.url}/v1", api_key="none") as client:
                async def streamed(seed):
                    async for event in await client.images.generate(prompt=PROMPT, stream=True, partial_images=1, extra_body={"seed": seed}):
                        last = event
                    return [rows_of(last.b64_json)]

                async def answered(seed):
                    answer = await client.images.generate(prompt=PROMPT, n=2, extra_body={"seed": seed})
                    return [rows_of(image.b64_json) for image in answer.data]

                return await asyncio.gather(*(streamed(seed) if seed % 2 else answered(seed) for seed in range(8)))

        for seed, images in enumerate(asyncio.run(generate_all())):
            self.assertEqual(images, self.sampled("--seed", seed, "--count", len(images)))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
