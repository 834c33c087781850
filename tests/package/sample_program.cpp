// Generates images 1 and 2 of seed 7: sample_program MODEL CAPTION FOLDER
#include <dalle/dalle.h>

#include <iostream>
#include <string>

int main(int argc, char** argv) try {
  if (argc != 4) return 2;
  const dalle::Model model = dalle::Model::load(argv[1], "cpu");
  const at::Tensor images = model.generate(argv[2], {.seed = 7, .first = 1, .count = 2});
  for (int64_t i = 0; i < images.size(0); ++i)
    dalle::save_image(images[i], std::string(argv[3]) + "/" + std::to_string(1 + i) + ".png");
  return 0;
} catch (const dalle::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
