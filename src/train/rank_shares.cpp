#include "train/rank_shares.h"

#include <algorithm>
#include <exception>

#include "core/error.h"
#include "tensor/torch_error.h"

namespace dalle {
namespace {

// The first byte of a rank's report.
constexpr char kShareDone = 'd', kShareStopped = 's', kShareFailed = 'f';

}  // namespace

std::vector<std::string> run_on_ranks(ProcessGroup& group, const CheckStop& check_stop,
                                      const std::function<std::string(const RankShare&)>& work) {
  const RankShare share{
      .rank = group.rank(), .world_size = group.world_size(), .check_stop = check_stop};
  std::string report;
  std::exception_ptr failure;
  try {
    report = kShareDone + work(share);
  } catch (const StopRequested&) {
    report = kShareStopped;
  } catch (const std::exception& error) {
    failure = std::current_exception();
    report = kShareFailed + error_text(error);
  }
  std::vector<std::string> reports = group.all_gather_strings(report);
  if (failure) std::rethrow_exception(failure);
  for (size_t rank = 0; rank < reports.size(); ++rank)
    if (reports[rank].front() == kShareFailed)
      throw Error("rank {}: {}", rank, reports[rank].substr(1));
  for (std::string& result : reports) {
    if (result.front() == kShareStopped) throw StopRequested();
    result.erase(0, 1);
  }
  return reports;
}

}  // namespace dalle
