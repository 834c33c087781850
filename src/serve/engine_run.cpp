#include "serve/engine_run.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace dalle {
namespace {

/// The state of a run, used only by its tasks. The engine's events keep it alive.
class EngineRun : public std::enable_shared_from_this<EngineRun> {
 public:
  EngineRun(GenerationEngine& engine, RunEvents events, AnsweredRequest answered)
      : engine_(engine), events_(std::move(events)), answered_(std::move(answered)) {}

  void submit(std::vector<GenerationRequest> requests) {
    pending_ = requests.size();
    for (size_t i = 0; i < requests.size(); ++i) {
      try {
        numbers_.push_back(engine_.submit(std::move(requests[i]), engine_events(i)));
      } catch (...) {
        is_over_ = true;
        cancel();
        throw;
      }
    }
  }

  void cancel() { canceler()(); }

  /// Cancels without keeping the run alive.
  std::function<void()> canceler() const {
    return [engine = &engine_, numbers = numbers_] {
      for (const uint64_t number : numbers) engine->cancel(number);
    };
  }

 private:
  /// Calls `work` in a task, if the run is not over and the client has not left by then.
  void post(std::function<void(EngineRun&)> work) {
    answered_.tasks->post([run = shared_from_this(), work = std::move(work)] {
      if (run->is_over_ || run->answered_.client->has_left()) return;
      try {
        work(*run);
      } catch (...) {  // the request was checked before: this is not the caller's fault
        run->fail(current_server_error(run->answered_.id));
      }
    });
  }

  void fail(const ApiError& error) {
    is_over_ = true;
    cancel();
    events_.failed(error);
  }

  void finish_one(const GenerationTimes& times) {
    times_.queue_s = std::max(times_.queue_s, times.queue_s);
    times_.decode_s = std::max(times_.decode_s, times.decode_s);
    times_.image_s += times.image_s;
    if (--pending_ > 0) return;
    is_over_ = true;
    events_.done(times_);
  }

  GenerationEvents engine_events(size_t request) {
    GenerationEvents events;
    const auto run = shared_from_this();
    if (events_.preview)
      events.preview = [run, request](int64_t image, int64_t number, const RgbImage& pixels) {
        run->post([request, image, number, pixels](EngineRun& self) {
          self.events_.preview(request, image, number, pixels);
        });
      };
    events.image = [run, request](const GeneratedImage& image) {
      run->post([request, image](EngineRun& self) { self.events_.image(request, image); });
    };
    events.done = [run](const GenerationTimes& times) {
      run->post([times](EngineRun& self) { self.finish_one(times); });
    };
    events.failed = [run](const std::string& reason) {
      run->post([reason](EngineRun&) { throw std::runtime_error(reason); });
    };
    return events;
  }

  GenerationEngine& engine_;
  RunEvents events_;
  AnsweredRequest answered_;
  std::vector<uint64_t> numbers_;  ///< of the requests, for the engine
  size_t pending_ = 0;
  bool is_over_ = false;
  GenerationTimes times_;
};

}  // namespace

void run_requests(GenerationEngine& engine, std::vector<GenerationRequest> requests,
                  RunEvents events, const AnsweredRequest& answered) {
  const auto run = std::make_shared<EngineRun>(engine, std::move(events), answered);
  run->submit(std::move(requests));
  answered.client->on_leaving(run->canceler());
}

}  // namespace dalle
