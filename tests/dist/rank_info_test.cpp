#include "dist/rank_info.h"

#include <cstdlib>
#include <map>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "error_of.h"

namespace dalle {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Variables = std::map<std::string, std::string>;

RankInfo rank_info_of(const Variables& variables) {
  return rank_info([&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  });
}

std::string error_with(Variables variables, const Variables& changes) {
  for (const auto& [name, value] : changes) {
    if (value.empty())
      variables.erase(name);
    else
      variables[name] = value;
  }
  return error_of([&] { rank_info_of(variables); });
}

const Variables kTorchrun = {
    {"RANK", "5"},           {"WORLD_SIZE", "8"},       {"LOCAL_RANK", "1"},
    {"MASTER_ADDR", "gpu7"}, {"LOCAL_WORLD_SIZE", "4"}, {"MASTER_PORT", "29511"},
};
const Variables kSlurm = {
    {"SLURM_STEP_ID", "0"},
    {"SLURM_PROCID", "3"},
    {"SLURM_NTASKS", "8"},
    {"SLURM_LOCALID", "1"},
    {"SLURM_NNODES", "4"},
    {"SLURM_JOB_ID", "1234567"},
    {"SLURM_JOB_NODELIST", "gpu[03-05,9],login"},
};
const Variables kOpenMpi = {
    {"OMPI_COMM_WORLD_RANK", "2"},
    {"OMPI_COMM_WORLD_SIZE", "4"},
    {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
    {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
};

TEST(RankInfo, WithoutVariablesIsASingleRank) {
  const RankInfo info = rank_info_of({});
  EXPECT_TRUE(info.alone());
  EXPECT_EQ(info.rank, 0);
  EXPECT_EQ(info.launcher, "none");
}

TEST(RankInfo, ReadsTorchrun) {
  const RankInfo info = rank_info_of(kTorchrun);
  EXPECT_EQ(info.launcher, "torchrun");
  EXPECT_EQ(info.rank, 5);
  EXPECT_EQ(info.world_size, 8);
  EXPECT_EQ(info.local_rank, 1);
  EXPECT_EQ(info.local_world_size, 4);
  EXPECT_EQ(info.host, "gpu7");
  EXPECT_EQ(info.port, 29511);
  EXPECT_FALSE(info.store_is_served);
  EXPECT_EQ(info.store_prefix, "");
}

TEST(RankInfo, UsesTheStoreOfTorchrunsAgent) {
  Variables variables = kTorchrun;
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  variables["TORCHELASTIC_RESTART_COUNT"] = "2";
  const RankInfo info = rank_info_of(variables);
  EXPECT_TRUE(info.store_is_served);
  EXPECT_EQ(info.store_prefix, "/worker/attempt_2");
  variables[kStoreSocketVariable] =
      "3";  // ranks that a process of torchrun started have a store of their own
  EXPECT_EQ(rank_info_of(variables).store_prefix, "");
}

TEST(RankInfo, ReadsKubernetesVariablesWithoutLocalOnes) {
  const RankInfo info =
      rank_info_of({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "job-master-0"}});
  EXPECT_EQ(info.rank, 1);
  EXPECT_EQ(info.world_size, 2);
  EXPECT_EQ(info.local_rank, 0);
  EXPECT_EQ(info.local_world_size, 1);
  EXPECT_EQ(info.host, "job-master-0");
  EXPECT_EQ(info.port, 29400);
}

TEST(RankInfo, TreatsAPodAsAMachineEvenIfItsAddressIsTheLoopback) {
  const RankInfo info = rank_info_of({{"RANK", "0"},
                                      {"WORLD_SIZE", "2"},
                                      {"MASTER_ADDR", "localhost"},
                                      {"KUBERNETES_SERVICE_HOST", "10.0.0.1"}});
  EXPECT_EQ(info.local_rank, 0);
  EXPECT_EQ(info.local_world_size, 1);
}

TEST(RankInfo, WithoutLocalVariablesRanksThatMeetOnTheLoopbackShareAMachine) {
  for (const char* host : {"localhost", "127.0.0.1", "127.0.1.1", "::1"}) {
    const RankInfo info = rank_info_of({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", host}});
    EXPECT_EQ(info.local_rank, 1) << host;
    EXPECT_EQ(info.local_world_size, 2) << host;
  }
}

TEST(RankInfo, ReadsSlurm) {
  const RankInfo info = rank_info_of(kSlurm);
  EXPECT_EQ(info.launcher, "Slurm");
  EXPECT_EQ(info.rank, 3);
  EXPECT_EQ(info.world_size, 8);
  EXPECT_EQ(info.local_rank, 1);
  EXPECT_EQ(info.local_world_size, 2);
  EXPECT_EQ(info.host, "gpu03");
  EXPECT_EQ(info.port, 20000 + 4567);
}

TEST(RankInfo, CountsTheTasksOfItsOwnNodeInAnUnevenSlurmStep) {
  Variables variables = kSlurm;
  variables["SLURM_NTASKS"] = "6";
  variables["SLURM_NNODES"] = "3";
  variables["SLURM_TASKS_PER_NODE"] = "2(x3)";  // of the whole job
  variables["SLURM_STEP_TASKS_PER_NODE"] = "4,1(x2)";
  const int64_t tasks[] = {4, 1, 1};
  for (int node = 0; node < 3; ++node) {
    variables["SLURM_NODEID"] = std::to_string(node);
    variables["SLURM_LOCALID"] = std::to_string(tasks[node] - 1);
    EXPECT_EQ(rank_info_of(variables).local_world_size, tasks[node]) << node;
  }
  variables.erase("SLURM_STEP_TASKS_PER_NODE");
  EXPECT_EQ(rank_info_of(variables).local_world_size, 2);
}

TEST(RankInfo, RejectsAnInvalidListOfSlurmTasks) {
  const auto error_of_list = [](const std::string& list) {
    return error_with(kSlurm, {{"SLURM_STEP_TASKS_PER_NODE", list}, {"SLURM_NODEID", "3"}});
  };
  for (const char* list : {"4,x", "4(2)", "4(x2", "4(x)", "(x4)", "4,,1,1"})
    EXPECT_THAT(error_of_list(list), HasSubstr("SLURM_STEP_TASKS_PER_NODE: found")) << list;
  EXPECT_EQ(error_of_list("4,1(x2)"),
            "SLURM_NODEID is 3, but SLURM_STEP_TASKS_PER_NODE is \"4,1(x2)\"; nodes count from 0");
}

TEST(RankInfo, TreatsABatchScriptWithoutSrunAsASingleRank) {
  Variables variables = kSlurm;
  variables.erase("SLURM_STEP_ID");
  variables["SLURM_PROCID"] = "0";
  EXPECT_TRUE(rank_info_of(variables).alone());
}

TEST(RankInfo, FindsTheFirstOfSlurmsNodes) {
  const std::map<std::string, std::string> first_of = {
      {"alpha", "alpha"},     {"alpha,beta", "alpha"}, {"n[1-3]", "n1"},
      {"n[007,009]", "n007"}, {"a,b[1-2]", "a"},       {"rack2-gpu[11]", "rack2-gpu11"},
  };
  for (const auto& [nodes, first] : first_of) {
    Variables variables = kSlurm;
    variables["SLURM_JOB_NODELIST"] = nodes;
    EXPECT_EQ(rank_info_of(variables).host, first) << nodes;
  }
}

TEST(RankInfo, ReadsOpenMpi) {
  const RankInfo info = rank_info_of(kOpenMpi);
  EXPECT_EQ(info.launcher, "Open MPI");
  EXPECT_EQ(info.rank, 2);
  EXPECT_EQ(info.world_size, 4);
  EXPECT_EQ(info.host, "127.0.0.1");
}

TEST(RankInfo, PrefersTorchrunToTheCluster) {
  Variables variables = kSlurm;
  variables.insert(kTorchrun.begin(), kTorchrun.end());
  EXPECT_EQ(rank_info_of(variables).launcher, "torchrun");
}

TEST(RankInfo, PrefersOpenMpiToTheSlurmThatStartedIt) {
  Variables variables = kSlurm;
  variables.insert(kOpenMpi.begin(), kOpenMpi.end());
  EXPECT_EQ(rank_info_of(variables).launcher, "Open MPI");
  EXPECT_EQ(rank_info_of(variables).rank, 2);
}

TEST(RankInfo, RecognizesTheRanksOfItsOwnLauncher) {
  Variables variables = kTorchrun;
  variables[kStoreSocketVariable] = "7";
  EXPECT_EQ(rank_info_of(variables).launcher, kLocalLauncher);
  EXPECT_EQ(rank_info_of(variables).store_socket, std::nullopt);
  variables["RANK"] = "0";
  EXPECT_EQ(rank_info_of(variables).store_socket, 7);
}

TEST(RankInfo, TreatsAnEmptyVariableAsNotSet) {
  ::setenv("DALLE_TEST_EMPTY", "", 1);
  EXPECT_EQ(environment_variable("DALLE_TEST_EMPTY"), std::nullopt);
  ::unsetenv("DALLE_TEST_EMPTY");
}

TEST(RankInfo, AbbreviatesListsOfRanks) {
  EXPECT_EQ(name_ranks({3}), "rank 3");
  EXPECT_EQ(name_ranks({1, 2}), "ranks 1, 2");
  EXPECT_EQ(name_ranks({0, 2, 8, 9, 10, 11}), "ranks 0, 2, 8-11");
  EXPECT_EQ(name_ranks({0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20}),
            "ranks 0, 2, 4, 6, 8, 10, 12, 14 and 3 more");
}

TEST(RankInfo, NamesMissingVariables) {
  EXPECT_EQ(error_with(kTorchrun, {{"WORLD_SIZE", ""}}), "WORLD_SIZE is not set, but RANK is");
  EXPECT_EQ(error_with(kTorchrun, {{"RANK", ""}}), "RANK is not set, but WORLD_SIZE is");
  EXPECT_EQ(error_with(kTorchrun, {{"MASTER_ADDR", ""}}),
            "MASTER_ADDR is not set, but WORLD_SIZE is");
  EXPECT_EQ(error_with(kSlurm, {{"SLURM_NTASKS", ""}}),
            "SLURM_NTASKS is not set, but SLURM_PROCID is");
  EXPECT_EQ(error_with(kSlurm, {{"SLURM_JOB_NODELIST", ""}}),
            "SLURM_JOB_NODELIST is not set, but SLURM_PROCID is");
  EXPECT_EQ(error_with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", ""}}),
            "OMPI_COMM_WORLD_LOCAL_SIZE is not set, but OMPI_COMM_WORLD_RANK is");
  EXPECT_THAT(error_with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "3"}}),
              HasSubstr("MASTER_ADDR is not set"));
}

TEST(RankInfo, NamesVariablesThatAreNotNumbers) {
  EXPECT_THAT(error_with(kTorchrun, {{"RANK", "-1"}}),
              AllOf(HasSubstr("RANK"), HasSubstr("\"-1\"")));
  EXPECT_THAT(error_with(kTorchrun, {{"WORLD_SIZE", "8x"}}), HasSubstr("WORLD_SIZE: found \"8x\""));
  EXPECT_THAT(error_with(kTorchrun, {{"MASTER_PORT", "70000"}}),
              HasSubstr("MASTER_PORT: found 70000"));
  EXPECT_THAT(error_with(kSlurm, {{"SLURM_JOB_NODELIST", "gpu["}}),
              HasSubstr("SLURM_JOB_NODELIST: found \"gpu[\""));
}

TEST(RankInfo, NamesContradictions) {
  EXPECT_EQ(error_with(kTorchrun, {{"RANK", "8"}}),
            "RANK is 8, but WORLD_SIZE is 8; ranks count from 0");
  EXPECT_EQ(error_with(kTorchrun, {{"WORLD_SIZE", "0"}}),
            "WORLD_SIZE: found 0, expected at least 1");
  EXPECT_EQ(error_with(kTorchrun, {{"LOCAL_RANK", "4"}}),
            "LOCAL_RANK is 4, but this machine has 4 ranks, out of 8 in total");
  EXPECT_THAT(error_with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "5"}}),
              HasSubstr("OMPI_COMM_WORLD_LOCAL_RANK is 2, but this machine has 5 ranks"));
}

}  // namespace
}  // namespace dalle
