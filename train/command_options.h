#pragma once
// Flags that several commands have.
#include <string>

#include <CLI/CLI.hpp>
#include <c10/core/ScalarType.h>

namespace braid {

/// The positional MODEL.
void add_model(CLI::App& command, std::string& path);

/// --dtype float64 | float32 | bfloat16; `dtype` holds the default.
void add_dtype(CLI::App& command, at::ScalarType& dtype);

}  // namespace braid
