#include "serve/image_fields.h"

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/base64.h"
#include "core/seeds.h"
#include "serve/api_error.h"
#include "serve/awaited_reply.h"
#include "serve/image_size.h"
#include "serve/request_fields.h"

namespace dalle {
namespace {

ImageFields parse(const std::string& json, ImageEndpoint endpoint = ImageEndpoint::kGenerations) {
  return parse_image_fields(json_request("", json), endpoint);
}

/// "status field: message" of what `work` throws.
std::string refusal_of(const std::function<void()>& work) {
  try {
    work();
  } catch (...) {
    const ApiError error = current_api_error("test");
    return fmt::format("{} {}: {}", error.status, error.field, error.what());
  }
  return "no error";
}

std::string refusal_of(const std::string& json,
                       ImageEndpoint endpoint = ImageEndpoint::kGenerations) {
  return refusal_of([&] { parse(json, endpoint); });
}

TEST(ImageFieldsTest, HasTheDefaultsOfTheApi) {
  const ImageFields fields = parse(R"({"prompt": "a red circle"})");
  EXPECT_EQ(fields.prompt, "a red circle");
  EXPECT_EQ(fields.n, 1);
  EXPECT_EQ(fields.best_of, 0);
  EXPECT_EQ(fields.seed, std::nullopt);
  EXPECT_EQ(fields.answer.format, ImageFormat::kPng);
  EXPECT_FALSE(fields.answer.size);
  EXPECT_FALSE(fields.as_url || fields.is_streamed);
}

TEST(ImageFieldsTest, NullsAndUnknownFieldsAreIgnored) {
  const ImageFields fields =
      parse(R"({"prompt": "a", "n": null, "size": null, "future": {"a": [1]}, "frame_count": 9})");
  EXPECT_EQ(fields.n, 1);
}

TEST(ImageFieldsTest, ReadsAllFields) {
  const ImageFields fields = parse(
      R"({"prompt": "a", "model": "m", "n": 3, "size": "512x256", "quality": "low", "seed": 9,
          "background": "opaque", "style": "vivid", "moderation": "low", "user": "someone",
          "output_format": "webp", "output_compression": 40, "response_format": "b64_json",
          "stream": true, "partial_images": 2, "temperature": 0.5, "top_k": 7, "top_p": 0.9,
          "guidance": 2, "guidance_from": 0.1, "guidance_to": 0.8, "best_of": 5.0})");
  EXPECT_EQ(fields.model, "m");
  EXPECT_EQ(fields.n, 3);
  EXPECT_EQ(fields.answer.size->width, 512);
  EXPECT_EQ(fields.answer.size->height, 256);
  EXPECT_EQ(fields.quality, "low");
  EXPECT_EQ(fields.seed, 9);
  EXPECT_EQ(fields.safety_identifier, "someone");
  EXPECT_EQ(fields.answer.format, ImageFormat::kWebp);
  EXPECT_EQ(fields.answer.quality, 40);
  EXPECT_TRUE(fields.is_streamed);
  EXPECT_EQ(fields.previews, 2);
  EXPECT_EQ(fields.sampling.temperature, 0.5);
  EXPECT_EQ(fields.sampling.top_k, 7);
  EXPECT_EQ(fields.sampling.top_p, 0.9);
  EXPECT_EQ(fields.sampling.guidance, 2);
  EXPECT_EQ(fields.sampling.guidance_from, 0.1);
  EXPECT_EQ(fields.sampling.guidance_to, 0.8);
  EXPECT_EQ(fields.best_of, 5);
}

TEST(ImageFieldsTest, FormsHaveTheSameFields) {
  const ImageFields fields = parse_image_fields(form_request("", {{"image[]", "a.png", "bytes"},
                                                                  {"prompt", "", "a red circle"},
                                                                  {"n", "", "2"},
                                                                  {"seed", "", "5"},
                                                                  {"temperature", "", "1e-05"},
                                                                  {"keep", "", "1,2,3,4"},
                                                                  {"paste_original", "", "true"},
                                                                  {"unknown[a]", "", "x"}}),
                                                ImageEndpoint::kEdits);
  EXPECT_EQ(fields.image_prompt.image, "bytes");
  EXPECT_EQ(fields.prompt, "a red circle");
  EXPECT_EQ(fields.n, 2);
  EXPECT_EQ(fields.seed, 5);
  EXPECT_EQ(fields.sampling.temperature, 1e-5);
  EXPECT_EQ(fields.image_prompt.keep->y, 2);
  EXPECT_TRUE(fields.image_prompt.paste_original);
  EXPECT_EQ(fields.image_prompt.variation, std::nullopt);
}

TEST(ImageFieldsTest, JsonHasFilesInBase64) {
  const std::string file("\x89PNG\0", 5);
  for (const std::string& text : {base64(file), "data:image/png;base64," + base64(file)}) {
    const ImageFields fields =
        parse(R"({"prompt": "a", "keep": [0, 0, 8, 4], "image": ")" + text + "\"}",
              ImageEndpoint::kEdits);
    EXPECT_EQ(fields.image_prompt.image, file);
    EXPECT_EQ(fields.image_prompt.keep->height, 4);
  }
}

TEST(ImageFieldsTest, AnEditThatKeepsNothingInParticularIsAVariation) {
  const ImageFields edit = parse(R"({"prompt": "a", "image": "AAAA"})", ImageEndpoint::kEdits);
  EXPECT_EQ(edit.image_prompt.variation, kUsualVariation);
  const ImageFields variation = parse(R"({"image": "AAAA"})", ImageEndpoint::kVariations);
  EXPECT_EQ(variation.image_prompt.variation, kUsualVariation);
  EXPECT_EQ(variation.prompt, "");
}

TEST(ImageFieldsTest, WrongValuesNameTheirField) {
  const auto with = [](const std::string& field) { return R"({"prompt": "a", )" + field + "}"; };
  EXPECT_EQ(refusal_of(with(R"("n": 0)")), "400 n: n: found 0, expected an integer from 1 to 64");
  EXPECT_EQ(refusal_of(with(R"("n": "2")")),
            "400 n: n: found \"2\", expected an integer from 1 to 64");
  EXPECT_EQ(refusal_of(with(R"("n": 1.5)")),
            "400 n: n: found 1.5, expected an integer from 1 to 64");
  EXPECT_EQ(refusal_of(with(R"("seed": 9223372036854775808)")),
            "400 seed: seed: found 9223372036854775808, expected an integer of at least 0");
  EXPECT_EQ(refusal_of(with(R"("temperature": [1])")),
            "400 temperature: temperature: found an array, expected a number from 0 to 100");
  EXPECT_EQ(refusal_of(with(R"("stream": "yes")")),
            "400 stream: stream: found \"yes\", expected true or false");
  EXPECT_EQ(refusal_of(with(R"("output_format": "gif")")),
            "400 output_format: output_format: found \"gif\", expected one of: png jpeg webp");
  EXPECT_EQ(refusal_of(with(R"("size": "large")")),
            "400 size: size: expected auto or WIDTHxHEIGHT, such as 512x512");
  EXPECT_EQ(refusal_of(with(R"("n": 4, "best_of": 3)")),
            "400 best_of: best_of: found 3, expected at least n, which is 4");
  EXPECT_EQ(refusal_of(with(R"("stream": true, "response_format": "url")")),
            "400 response_format: response_format: found url, expected b64_json in a stream");
  EXPECT_EQ(refusal_of(with("\"model\": \"" + std::string(600, 'x') + '"')),
            "400 model: model: found 600 bytes, expected at most 512");
}

TEST(ImageFieldsTest, EveryFieldIsChecked) {
  for (const ImageEndpoint endpoint :
       {ImageEndpoint::kGenerations, ImageEndpoint::kEdits, ImageEndpoint::kVariations})
    for (const RequestField& field : image_request_fields(endpoint)) {
      nlohmann::json body{{"prompt", "a"}, {"image", "AAAA"}};
      body[std::string(field.name)] = {{"an", "object"}};
      EXPECT_TRUE(refusal_of(body.dump(), endpoint).starts_with(fmt::format("400 {}:", field.name)))
          << field.name << ": " << refusal_of(body.dump(), endpoint);
    }
}

TEST(ImageFieldsTest, APromptIsRequired) {
  for (const char* json : {"{}", R"({"prompt": null})", R"({"prompt": "  "})"})
    EXPECT_EQ(refusal_of(json), "400 prompt: prompt: empty; expected text");
  EXPECT_EQ(refusal_of(R"({"prompt": "a\u0000b"})"),
            "400 prompt: prompt: found a zero byte, expected text");
}

TEST(ImageFieldsTest, ContradictionsAreRefused) {
  const auto edit = [](const std::string& fields) {
    return refusal_of(R"({"prompt": "a", "image": "AAAA", )" + fields + "}", ImageEndpoint::kEdits);
  };
  EXPECT_EQ(edit(R"("keep": "0,0,4,4", "keep_rows": 0.5)"),
            "400 keep: keep: cannot be combined with keep_rows");
  EXPECT_EQ(edit(R"("mask": "AAAA", "keep_rows": 0.5)"),
            "400 mask: mask: cannot be combined with keep_rows");
  EXPECT_EQ(edit(R"("variation": 0.5, "keep_rows": 0.5, "strict": true)"),
            "400 strict: strict: cannot be combined with variation");
  EXPECT_EQ(edit(R"("variation": 0.5, "keep_rows": 0.5, "paste_original": true)"),
            "400 paste_original: paste_original: cannot be combined with variation");
  for (const std::string field : {"paste_original", "strict"})
    EXPECT_EQ(edit('"' + field + "\": true"),
              fmt::format("400 {0}: {0}: requires mask, keep or keep_rows", field));
  EXPECT_EQ(refusal_of(R"({"prompt": "a"})", ImageEndpoint::kEdits),
            "400 image: image: missing, expected an image file");
  EXPECT_EQ(refusal_of(R"({"prompt": "a", "image": ["AAAA", "AAAA"]})", ImageEndpoint::kEdits),
            "400 image: image: found 2 images, expected one");
  EXPECT_EQ(edit(R"("keep": "1,2,3")"),
            "400 keep: keep: found \"1,2,3\", expected x,y,width,height as integers");
  EXPECT_EQ(edit(R"("mask": "*")"),
            "400 mask: mask: found text that is not base64, expected a file in base64");
}

TEST(ImageFieldsTest, OtherTypesOfContentAreRefusedWithStatus415) {
  HttpRequest request = json_request("", "prompt=a");
  request.headers = {{"content-type", "application/x-www-form-urlencoded"}};
  EXPECT_EQ(refusal_of([&] { parse_image_fields(request, ImageEndpoint::kGenerations); }),
            "415 : content-type: unsupported; expected application/json or multipart/form-data");
}

TEST(RequestFieldsTest, MalformedJsonIsTheCallersFault) {
  for (const char* body : {"", "{", "[]", "3", "{\"prompt\": \"\xff\"}", "{\"a\": 1e999}",
                           "{\"prompt\": \"a\"} x", "nul"})
    EXPECT_TRUE(refusal_of(body).starts_with("400 :")) << refusal_of(body);
  EXPECT_EQ(refusal_of(std::string("{}\0", 3)), "400 : JSON: found a zero byte");
}

TEST(RequestFieldsTest, ErrorsOfJsonDoNotQuoteIt) {
  const std::string refusal = refusal_of(R"({"prompt": "a secret)");
  EXPECT_TRUE(refusal.starts_with("400 : not valid JSON: ")) << refusal;
  EXPECT_EQ(refusal.find("secret"), refusal.npos) << refusal;
}

TEST(RequestFieldsTest, JsonIsBounded) {
  EXPECT_EQ(refusal_of(std::string(5'000'000, '[')), "400 : JSON: nested more than 32 levels deep");
  std::string many = "[1";
  for (int i = 0; i < 200'000; ++i) many += ",1";
  EXPECT_EQ(refusal_of(many + "]"), "400 : JSON: more than 100000 values");
}

TEST(RequestFieldsTest, WhateverIsSentIsReadOrRefused) {
  const std::vector<std::string> words = {
      "\"prompt\":", "\"n\":", "\"image\":", "\"keep\":", "\"size\":", "{",    "}",
      "[",           "]",      ",",          "\"a\"",     "\"2x2\"",   "null", "true",
      "-1e300",      "0.5",    "1e9",        "\xff",      "\\u0000",   "\"",   "\"1,2,3,4\"",
      "\"AAAA\"",    "--edge", "\r\n",       "name=",     ";",         " "};
  const std::string json = R"({"prompt": "a", "n": 2, "image": "AAAA", "keep": "1,2,3,4"})";
  const HttpRequest form = form_request(
      "", {{"prompt", "", "a"}, {"n", "", "2"}, {"image", "a.png", "x"}, {"keep", "", "1,2,3,4"}});
  SeedStream random(1);
  int64_t accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    HttpRequest request = round % 2 == 0 ? json_request("", json) : form;
    for (uint64_t edits = random.below(4); edits > 0; --edits) {
      const uint64_t place = random.below(request.body.size() + 1);
      request.body.replace(place, random.below(6), words[random.below(words.size())]);
    }
    const std::string refusal =
        refusal_of([&] { parse_image_fields(request, ImageEndpoint::kEdits); });
    if (refusal == "no error") ++accepted;
    EXPECT_TRUE(refusal == "no error" || refusal.starts_with("400 ")) << request.body << refusal;
  }
  EXPECT_GT(accepted, 5'000);  // else nothing but the beginning of a request would be tested
  EXPECT_LT(accepted, 15'000);
}

TEST(RequestFieldsTest, AFieldOfAFormThatIsGivenTwiceIsRefused) {
  EXPECT_EQ(refusal_of([] {
              parse_image_fields(form_request("", {{"n", "", "1"}, {"n", "", "2"}}),
                                 ImageEndpoint::kEdits);
            }),
            "400 n: n: found the field twice, expected it once");
}

TEST(ImageSizeTest, IsTheNearestMultipleOfTheModels) {
  const auto served = [](int64_t width, int64_t height, int64_t side, int64_t images = 1) {
    return side * enlargement_for({width, height}, side, images);
  };
  EXPECT_EQ(served(512, 512, 256), 512);
  EXPECT_EQ(served(256, 256, 256), 256);
  EXPECT_EQ(served(1024, 1536, 256), 1024);
  EXPECT_EQ(served(500, 500, 256), 512);
  EXPECT_EQ(served(1, 1, 256), 256);
  EXPECT_EQ(served(99'999, 99'999, 256), 2048);
  EXPECT_EQ(served(64, 64, 4096), 4096);
  EXPECT_EQ(served(2048, 2048, 256, 16), 2048);
  EXPECT_EQ(served(2048, 2048, 256, 64), 1024);
}

TEST(ImageSizeTest, IsReadStrictly) {
  EXPECT_TRUE(parse_image_size("1024x1536"));
  for (const char* text : {"", "x", "1x", "0x1", "-1x1", "1x1x1", "1 x 1", "1e2x1", "100000x1"})
    EXPECT_FALSE(parse_image_size(text)) << text;
}

TEST(ImageSizeTest, EnlargingRepeatsPixels) {
  const RgbImage image{.width = 2, .height = 1, .pixels = {1, 2, 3, 4, 5, 6}};
  const RgbImage expected{.width = 4, .height = 2, .pixels = {1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6,
                                                              1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6}};
  EXPECT_EQ(enlarge(image, 2), expected);
  EXPECT_EQ(enlarge(image, 1), image);
}

}  // namespace
}  // namespace dalle
