#pragma once
#include "parallel/communicator.h"

namespace braid::testing {

/// All ranks that run the tests; every rank runs every test.
Communicator& ranks();

}  // namespace braid::testing
