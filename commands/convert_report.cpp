#include "commands/convert_report.h"

#include <cmath>
#include <iomanip>
#include <iostream>

#include "commands/interrupt.h"
#include "run/memory.h"
#include "run/progress.h"

namespace braid {
namespace {

std::string counted(int64_t tensors) {
  return std::to_string(tensors) + (tensors == 1 ? " tensor" : " tensors");
}

// Of the adapters that were added.
void print_update(const ConvertedClass& c) {
  if (c.updated == 0) {
    return;
  }
  std::cout << "; " << c.updated << " with an update";
  if (c.update_squares > 0) {
    std::cout << ", whose rounding error is " << std::sqrt(c.update_error / c.update_squares)
              << " of it and of which " << 100 * c.survived() << " % survived";
  } else {
    std::cout << " that is zero";
  }
}

}  // namespace

const std::map<std::string, StoredAs> kLayouts = {{"same", StoredAs::kSame},
                                                  {"instruct", StoredAs::kInstruct},
                                                  {"base", StoredAs::kBase},
                                                  {"bf16", StoredAs::kBfloat16},
                                                  {"f32", StoredAs::kFloat32}};

// Classes that were rounded one by one, the others by their forms.
void print(const ConvertReport& report) {
  std::map<std::pair<std::string, std::string>, ConvertedClass> exact;
  int64_t tensors = 0, bytes = 0;
  for (const auto& c : report.classes) {
    tensors += c.tensors;
    bytes += c.bytes;
    if (c.largest_error > 0 || c.updated > 0) {
      std::cout << c.name << ": " << c.from << " -> " << c.to << ", " << counted(c.tensors) << ", "
                << bytes_text(c.bytes) << ", largest rounding error " << std::setprecision(3)
                << c.largest_error << ", relative (L2) "
                << (c.squares > 0 ? std::sqrt(c.squared_error / c.squares) : 0);
      print_update(c);
      std::cout << "\n";
      continue;
    }
    auto& sum = exact[{c.from, c.to}];
    sum.tensors += c.tensors;
    sum.bytes += c.bytes;
  }
  for (const auto& [forms, c] : exact) {
    std::cout << (forms.first == forms.second ? forms.first + " as it was"
                                              : forms.first + " -> " + forms.second + ", exact")
              << ": " << counted(c.tensors) << ", " << bytes_text(c.bytes) << "\n";
  }
  for (const auto& note : report.notes) {
    std::cout << "note: " << note << "\n";
  }
  if (!report.left_out.empty()) {
    std::cout << "left out, for Hugging Face has no MTP block: " << report.left_out.size()
              << " tensors (" << report.left_out.front() << ", ...)\n";
  }
  std::cout << "in all " << tensors << " parameters, " << bytes_text(bytes) << ", in "
            << report.shards << (report.shards == 1 ? " file" : " files");
  if (report.shards_found > 0) {
    std::cout << " (" << report.shards_found << " were there from a process that was stopped)";
  }
  std::cout << std::endl;
  for (const auto& warning : report.warnings) {
    std::cerr << "warning: " << warning << std::endl;
  }
}

ConvertReport convert_and_show(const std::string& source,
                               const std::string& target,
                               ConvertOptions options) {
  Progress progress("converted", WorkUnit::kBytes);
  options.progress = [&progress](std::size_t done, std::size_t total) {
    progress.update(static_cast<int64_t>(done), static_cast<int64_t>(total));
  };
  const InterruptGuard guard("stopping after this tensor");
  return convert(source, target, options);
}

}  // namespace braid
