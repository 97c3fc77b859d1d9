#pragma once
#include <map>
#include <string>

#include "formats/convert.h"

namespace braid {

/// --layout of the commands that write models.
extern const std::map<std::string, StoredAs> kLayouts;

/// What was written, rounded and left out, on standard output; warnings on standard error.
void print(const ConvertReport& report);

/// convert(), with a line of progress, until a signal asks to stop.
ConvertReport convert_and_show(const std::string& source,
                               const std::string& target,
                               ConvertOptions options);

}  // namespace braid
