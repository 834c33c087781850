#pragma once

#include "dalle/dist/process_group.h"
#include "dalle/optim/flat_parameters.h"

namespace dalle {

/// Compares the weights of all ranks, which must be the same bits: a rank whose memory is damaged,
/// or that computes otherwise than the rest, would spoil the others' weights, unseen.
///
/// What is compared is a 64-bit sum of each parameter's bits; a single flipped bit always shows.
/// @throws dalle::Error, on every rank, naming the first parameter that differs and the ranks whose
///         value the fewest others share
void check_replicas(const FlatParameters& parameters, ProcessGroup& group);

}  // namespace dalle
