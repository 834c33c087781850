// Writes the events of a run that was killed at step 5, in the middle of a record, and resumed from
// step 3. tests/python/tensorboard_test.py reads them back.
#include <cstdio>
#include <filesystem>
#include <string>

#include "core/error.h"
#include "data/image/small_png.h"
#include "metrics/event_writer.h"

int main(int argument_count, char** arguments) {
  if (argument_count != 2) {
    std::fputs("usage: tensorboard_example FOLDER\n", stderr);
    return 2;
  }
  try {
    std::filesystem::path killed;
    {
      dalle::EventWriter events(arguments[1], 0);
      for (int step = 1; step <= 5; ++step) events.scalar(step, "loss", 10.0 / step);
      const std::string png = dalle::small_png();
      for (const int step : {2, 5})
        events.image(step, "samples", {.file = png, .width = 3, .height = 2});
      events.scalar(5, "loss/text", 0.5);
      killed = events.path();
    }
    std::filesystem::resize_file(killed, std::filesystem::file_size(killed) - 7);
    dalle::EventWriter events(arguments[1], 3);
    for (int step = 4; step <= 6; ++step) events.scalar(step, "loss", 100.0 + step);
  } catch (const dalle::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
