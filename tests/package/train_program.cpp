// Trains an experiment: train_program CONFIG RUN_FOLDER
#include <dalle/dalle.h>

#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 3) return 2;
  const dalle::TrainResult result =
      dalle::train({.config = argv[1], .run_folder = argv[2], .device = "cpu"});
  std::cout << result.run_folder.string() << '\n';
  return result.finished() ? 0 : 128 + result.signal;
} catch (const dalle::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
