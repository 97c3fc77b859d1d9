// Throughput of a tokenizer.json on texts, and its ids for a comparison with another program.
//
//   tokenizer_bench TOKENIZER_JSON [--ids OUT] FILE...
//
// Prints MB/s, the best of five passes over documents of 4000 bytes (cut between characters), on
// one thread and on two. --ids: writes for each document its number of ids and the ids, as uint32.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/file.h"
#include "data/bpe_tokenizer.h"

namespace {

using namespace braid;

std::vector<std::string_view> documents_of(std::string_view text) {
  std::vector<std::string_view> documents;
  while (!text.empty()) {
    std::size_t size = std::min<std::size_t>(4000, text.size());
    while (size < text.size() && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) {
      ++size;
    }
    documents.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return documents;
}

double best_rate(const Tokenizer& tokenizer, std::string_view text, int thread_count) {
  const auto documents = documents_of(text);
  double best = 0;
  for (int pass = 0; pass < 5; ++pass) {
    std::atomic<std::size_t> next = 0;
    const auto work = [&] {
      for (std::size_t i = next++; i < documents.size(); i = next++) {
        tokenizer.encode(documents[i]);
      }
    };
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (int i = 1; i < thread_count; ++i) {
      others.emplace_back(work);
    }
    work();
    for (auto& thread : others) {
      thread.join();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(text.size()) / 1e6 / seconds.count());
  }
  return best;
}

void write_ids(const Tokenizer& tokenizer, std::string_view text, AtomicFile& out) {
  for (const auto document : documents_of(text)) {
    const auto ids = tokenizer.encode(document);
    std::vector<uint32_t> words = {static_cast<uint32_t>(ids.size())};
    words.insert(words.end(), ids.begin(), ids.end());
    out.write(words.data(), words.size() * sizeof(uint32_t));
  }
}

int run(std::vector<std::string> arguments) {
  std::string ids_path;
  if (arguments.size() > 2 && arguments[1] == "--ids") {
    ids_path = arguments[2];
    arguments.erase(arguments.begin() + 1, arguments.begin() + 3);
  }
  if (arguments.size() < 2) {
    std::fprintf(stderr, "usage: tokenizer_bench TOKENIZER_JSON [--ids OUT] FILE...\n");
    return 2;
  }
  const auto tokenizer = read_bpe_tokenizer(arguments[0]);
  if (!ids_path.empty()) {
    AtomicFile out(ids_path);
    for (std::size_t i = 1; i < arguments.size(); ++i) {
      write_ids(*tokenizer, read_file(arguments[i]), out);
    }
    out.commit();
  }
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::string text = read_file(arguments[i]);
    const double one = best_rate(*tokenizer, text, 1), two = best_rate(*tokenizer, text, 2);
    std::printf("%s: %.1f MB/s on one thread, %.1f on two (%.2f times)\n",
                arguments[i].c_str(),
                one,
                two,
                two / one);
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return run({arguments + 1, arguments + count});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tokenizer_bench: %s\n", error.what());
    return 1;
  }
}
