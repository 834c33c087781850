#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "dalle/export.h"

namespace dalle {

/// What to train. The members correspond to the options of dalle-train.
struct TrainRequest {
  std::filesystem::path config = {};  ///< the experiment's YAML file
  /// Fine-tuning: a finished run or a checkpoint that initializes the run. Without `config`, its
  /// config is used, with "-tuned" at the end of the name.
  std::filesystem::path from = {};
  std::vector<std::string> overrides = {};  ///< "key=value" each: "dalle.train.batch_size=8"
  std::filesystem::path run_folder = {};    ///< where all output goes; empty: runs/<name>
  std::string stage = {};       ///< "tokenizer", "dvae", "dalle" or "clip"; empty: all, in order
  std::string device = "auto";  ///< "auto" (a GPU if there is one), "cpu", "cuda", "cuda:N"
  bool restart = false;         ///< rename the old run folder and start over
  /// Resume even if the config or the images differ from those that the run started with.
  bool allow_config_change = false;
};

/// How training ended, if not with an error.
struct TrainResult {
  std::filesystem::path run_folder = {};  ///< for Model::load(), once the dalle stage has run
  int signal = 0;  ///< the one that stopped it; 0: all requested stages are finished

  bool finished() const { return signal == 0; }
};

/// Trains an experiment, as dalle-train does. Finished stages are skipped. An interrupted stage
/// resumes from its newest checkpoint and ends with the same weights, bit for bit, as without the
/// interruption (on a GPU, with `distributed.bitwise`).
///
/// Several ranks train together if this program was started by torchrun, srun or mpirun. They call
/// train() together, and only once. If one of them is lost, train() throws or, where it cannot
/// return because an NCCL collective hangs, this process exits with status 3.
///
/// While it runs, the first SIGINT, SIGTERM, SIGUSR1 or SIGHUP saves and stops the training, and a
/// second one (except SIGHUP), at least a second later, ends the process at once. Before the first
/// step there is nothing to save, and the first signal ends the process at once. The previous
/// handlers are restored on return.
///
/// It changes these settings of the process for good: LibTorch's number of threads (this rank's
/// share of the CPUs that the process may use, or one with `distributed.bitwise`; OMP_NUM_THREADS
/// overrides both), which a later call can only lower; TF32 is disabled; with `distributed.bitwise`
/// on a GPU, kernels are deterministic; the thread's CUDA device is that of the rank; on ranks
/// above 0, only errors go to the console; LibTorch's log is silenced unless TORCH_CPP_LOG_LEVEL is
/// set; OpenCV uses one thread; and glibc keeps freed memory for later allocations.
///
/// Only one call may run in a process at a time.
///
/// @throws dalle::Error if the config is invalid, naming every problem; if the config or the images
///         differ from those that the run started with; if the data, the run folder or the device
///         cannot be used; if too many steps in a row have a loss that is not finite; if another
///         call is running
/// @throws c10::Error or std::bad_alloc if memory runs out
DALLE_API TrainResult train(const TrainRequest& request);

}  // namespace dalle
