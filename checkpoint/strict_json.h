#pragma once
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace braid {

/// A file that was not downloaded.
class LfsPointerError : public Error {
 public:
  using Error::Error;
};

/// Throws LfsPointerError where contents are a Git LFS pointer, a few lines that stand for a file
/// that was not downloaded.
void require_no_lfs_pointer(std::string_view contents, const std::string& where);

/// Parses JSON, refusing what nlohmann lets pass: a key twice in one object, and nesting deeper
/// than 8. Throws Error that begins with `where`, also for a Git LFS pointer.
nlohmann::json parse_strict_json(std::string_view text, const std::string& where);

/// object[key]; throws Error that begins with `where` when `object` is no object or lacks the key.
const nlohmann::json& json_field(const nlohmann::json& object,
                                 const char* key,
                                 const std::string& where);

}  // namespace braid
