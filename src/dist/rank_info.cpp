#include "dist/rank_info.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <sstream>

#include <fmt/ranges.h>

#include "core/error.h"
#include "core/loopback.h"

namespace dalle {
namespace {

constexpr uint16_t kDefaultPort = 29400;

std::string required(const Environment& variable, const std::string& name,
                     const std::string& because) {
  if (const auto value = variable(name); value && !value->empty()) return *value;
  throw Error("{} is not set, but {} is", name, because);
}

int64_t number(const std::string& name, const std::string& text) {
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0)
    throw Error("{}: found {:?}, expected an integer of at least 0", name, text);
  return value;
}

int64_t required_number(const Environment& variable, const std::string& name,
                        const std::string& because) {
  return number(name, required(variable, name, because));
}

int64_t number_or(const Environment& variable, const std::string& name, int64_t fallback) {
  const auto text = variable(name);
  return text ? number(name, *text) : fallback;
}

uint16_t port_of(const Environment& variable, const std::string& name, uint16_t fallback) {
  const auto text = variable(name);
  if (!text) return fallback;
  const int64_t port = number(name, *text);
  if (port < 1 || port > 65535)
    throw Error("{}: found {}, expected a port in [1, 65535]", name, port);
  return static_cast<uint16_t>(port);
}

void check(const RankInfo& info, const std::string& rank, const std::string& world,
           const std::string& local_rank) {
  if (info.world_size < 1) throw Error("{}: found {}, expected at least 1", world, info.world_size);
  if (info.rank >= info.world_size)
    throw Error("{} is {}, but {} is {}; ranks count from 0", rank, info.rank, world,
                info.world_size);
  if (info.local_rank >= info.local_world_size || info.local_world_size > info.world_size)
    throw Error("{} is {}, but this machine has {} ranks, out of {} in total", local_rank,
                info.local_rank, info.local_world_size, info.world_size);
}

RankInfo of_torchrun(const Environment& variable) {
  RankInfo info;
  info.launcher = "torchrun";
  info.rank = required_number(variable, "RANK", "WORLD_SIZE");
  info.world_size = required_number(variable, "WORLD_SIZE", "RANK");
  // The Kubernetes operator starts one process per pod and sets no local variables. Its first
  // versions gave the first pod, which the others find by name, localhost as its address.
  const bool is_one_per_machine = !variable("LOCAL_RANK") && !variable("LOCAL_WORLD_SIZE") &&
                                  (variable("KUBERNETES_SERVICE_HOST") ||
                                   !is_loopback(variable("MASTER_ADDR").value_or("localhost")));
  info.local_rank = number_or(variable, "LOCAL_RANK", is_one_per_machine ? 0 : info.rank);
  info.local_world_size =
      number_or(variable, "LOCAL_WORLD_SIZE", is_one_per_machine ? 1 : info.world_size);
  check(info, "RANK", "WORLD_SIZE", "LOCAL_RANK");
  if (info.alone()) return info;
  info.host = required(variable, "MASTER_ADDR", "WORLD_SIZE");
  info.port = port_of(variable, "MASTER_PORT", kDefaultPort);
  info.store_is_served = variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (const auto socket = variable(kStoreSocketVariable)) {
    info.launcher = kLocalLauncher;
    if (info.rank == 0) info.store_socket = static_cast<int>(number(kStoreSocketVariable, *socket));
  }
  if (const auto attempt = variable("TORCHELASTIC_RESTART_COUNT");
      attempt && info.launcher != kLocalLauncher)
    info.store_prefix = "/worker/attempt_" + *attempt;
  return info;
}

/// The first name in Slurm's list of nodes: gpu03 in "gpu[03-05,9],login".
std::string first_host(const std::string& nodes) {
  const size_t bracket = nodes.find_first_of("[,");
  if (bracket == std::string::npos || nodes[bracket] == ',') return nodes.substr(0, bracket);
  const size_t end = nodes.find_first_of("-,]", bracket);
  if (end == std::string::npos)
    throw Error("SLURM_JOB_NODELIST: found {:?}, expected names such as node[01-04]", nodes);
  return nodes.substr(0, bracket) + nodes.substr(bracket + 1, end - bracket - 1);
}

/// One node's entry in Slurm's list of task counts; "4,1(x2)" stands for 4, 1 and 1.
int64_t tasks_on_node(const std::string& name, const std::string& list, int64_t node) {
  std::istringstream parts(list);
  int64_t nodes = 0;
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t times = part.find("(x");
    if (times != std::string::npos && !part.ends_with(')'))
      throw Error("{}: found {:?}, expected numbers such as 4,1(x2)", name, list);
    const int64_t tasks = number(name, part.substr(0, times));
    nodes += times == std::string::npos
                 ? 1
                 : number(name, part.substr(times + 2, part.size() - times - 3));
    if (node < nodes) return tasks;
  }
  throw Error("SLURM_NODEID is {}, but {} is {:?}; nodes count from 0", node, name, list);
}

/// The number of tasks on this node: from Slurm's list, from the number requested, or an equal
/// share.
int64_t slurm_local_world_size(const Environment& variable, int64_t world_size) {
  if (const auto node = variable("SLURM_NODEID"))
    for (const char* name : {"SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"})
      if (const auto list = variable(name))
        return tasks_on_node(name, *list, number("SLURM_NODEID", *node));
  if (const auto tasks = variable("SLURM_NTASKS_PER_NODE"))
    return number("SLURM_NTASKS_PER_NODE", *tasks);
  const int64_t nodes = std::max<int64_t>(1, number_or(variable, "SLURM_NNODES", 1));
  return (world_size + nodes - 1) / nodes;
}

RankInfo of_slurm(const Environment& variable) {
  RankInfo info;
  info.launcher = "Slurm";
  info.rank = required_number(variable, "SLURM_PROCID", "SLURM_NTASKS");
  info.world_size = required_number(variable, "SLURM_NTASKS", "SLURM_PROCID");
  info.local_rank = required_number(variable, "SLURM_LOCALID", "SLURM_PROCID");
  info.local_world_size = slurm_local_world_size(variable, info.world_size);
  check(info, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID");
  if (info.alone()) return info;
  const auto host = variable("MASTER_ADDR");
  info.host = host ? *host : first_host(required(variable, "SLURM_JOB_NODELIST", "SLURM_PROCID"));
  // Jobs that share a node must not share a port.
  const auto job = variable("SLURM_JOB_ID");
  const uint16_t by_job =
      job ? static_cast<uint16_t>(20000 + number("SLURM_JOB_ID", *job) % 10000) : kDefaultPort;
  info.port = port_of(variable, "MASTER_PORT", by_job);
  return info;
}

RankInfo of_open_mpi(const Environment& variable) {
  RankInfo info;
  info.launcher = "Open MPI";
  info.rank = required_number(variable, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
  info.world_size = required_number(variable, "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK");
  info.local_rank = required_number(variable, "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_RANK");
  info.local_world_size =
      required_number(variable, "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_RANK");
  check(info, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK");
  if (info.alone()) return info;
  if (const auto host = variable("MASTER_ADDR"))
    info.host = *host;
  else if (info.local_world_size == info.world_size)
    info.host = "127.0.0.1";
  else
    throw Error(
        "MASTER_ADDR is not set; with mpirun on several machines, set it to rank 0's machine");
  info.port = port_of(variable, "MASTER_PORT", kDefaultPort);
  return info;
}

}  // namespace

std::optional<std::string> environment_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::string>(value);
}

RankInfo rank_info(const Environment& variable) {
  if (variable("RANK") || variable("WORLD_SIZE")) return of_torchrun(variable);
  // This comes before Slurm: mpirun starts its daemons on other nodes with srun, and their ranks
  // inherit srun's variables.
  if (variable("OMPI_COMM_WORLD_RANK") || variable("OMPI_COMM_WORLD_SIZE"))
    return of_open_mpi(variable);
  // A batch script has a SLURM_PROCID too, but what it starts without srun belongs to no step and
  // runs alone.
  if (variable("SLURM_PROCID") && variable("SLURM_STEP_ID")) return of_slurm(variable);
  return {};
}

std::string name_ranks(const std::vector<int64_t>& ranks) {
  constexpr size_t kMostParts = 8;
  std::vector<std::string> parts;
  size_t named = 0;
  while (named < ranks.size() && parts.size() < kMostParts) {
    size_t end = named + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    if (end - named < 3) end = named + 1;
    parts.push_back(end == named + 1 ? fmt::format("{}", ranks[named])
                                     : fmt::format("{}-{}", ranks[named], ranks[end - 1]));
    named = end;
  }
  std::string text =
      fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(parts, ", "));
  if (named < ranks.size()) text += fmt::format(" and {} more", ranks.size() - named);
  return text;
}

}  // namespace dalle
