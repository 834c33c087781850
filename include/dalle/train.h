#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "dalle/export.h"

namespace dalle {

/// What to train; the options of dalle-train.
struct TrainRequest {
  std::filesystem::path config = {};        ///< the experiment's YAML file
  std::vector<std::string> overrides = {};  ///< "key=value" each: "dalle.train.batch_size=8"
  std::filesystem::path run_folder = {};    ///< where everything is written; empty: runs/<name>
  std::string stage = {};       ///< "tokenizer", "dvae" or "dalle"; empty: all, in order
  std::string device = "auto";  ///< "auto" (a GPU if there is one), "cpu", "cuda", "cuda:N"
  bool restart = false;         ///< rename the old run folder and start over
  /// Resume even if the config or the images differ from those that the run started with.
  bool allow_config_change = false;
};

/// How a training ended without an error.
struct TrainResult {
  std::filesystem::path run_folder = {};  ///< for Model::load(), once the stage dalle has run
  int signal = 0;                         ///< that stopped it; 0: every requested stage is finished

  bool finished() const { return signal == 0; }
};

/// Trains an experiment, as dalle-train does: finished stages are skipped, an interrupted one
/// resumes from its newest checkpoint, and the result is the same, bit for bit.
///
/// Several ranks train together if this program was started by torchrun, srun or mpirun. They call
/// train() once and together; if one is lost, this process exits.
///
/// Until it returns, the first SIGINT, SIGTERM, SIGUSR1 or SIGHUP saves and stops the training, and
/// a second one exits at once. Before the first step there is nothing to save, and the first signal
/// exits at once. The previous handlers are restored.
///
/// Settings of the process that stay changed: LibTorch's number of threads (no more than the CPUs
/// that the process may use, divided by the ranks of the machine, and one with
/// `distributed.bitwise`; OMP_NUM_THREADS overrides it), no TF32, deterministic kernels with
/// `distributed.bitwise` on a GPU, LibTorch's log silenced unless TORCH_CPP_LOG_LEVEL is set, and
/// freed memory kept for later allocations (glibc).
///
/// Only one call at a time in a process.
///
/// @throws dalle::Error naming every problem of the config; if the config or the images differ from
///         those that the run started with; if the data, the run folder or the device cannot be
///         used; if too many steps in a row have a loss that is not finite; if another call is
///         running
/// @throws c10::Error, std::bad_alloc if memory runs out
DALLE_API TrainResult train(const TrainRequest& request);

}  // namespace dalle
