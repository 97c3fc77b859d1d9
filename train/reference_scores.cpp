#include "train/reference_scores.h"

#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "data/token_store.h"
#include "train/resumer.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

// File: magic, key, number of documents, their scores, digest of everything before it.
constexpr std::string_view kMagic = "BRAIDREF";
constexpr std::size_t kDigestSize = 32;

fs::path reference_of(const TokenStore& store) {
  return fs::path(store.path()).replace_extension(".reference");
}

// Everything that the scores depend on. A base is known by its name: that it changes under a run is
// found by its fingerprint (formats/open_model.h) where frozen weights stay in it.
std::string key_of(const RunConfig& config, const TokenStore& store, int64_t seq_len) {
  return xxh3_128(text(store.sources_digest(),
                       " ",
                       store.trailer().digest,
                       " ",
                       config.run.init_from,
                       " ",
                       config.lora() ? config.adapter.init_from : "",
                       " ",
                       config.run.seed,
                       " ",
                       scalar_type(config.train.dtype),
                       " ",
                       seq_len,
                       "\n",
                       dump_config<ModelConfig>(config.model)));
}

void write_scores(const fs::path& path,
                  const std::string& key,
                  const std::vector<DocumentScore>& scores) {
  std::string bytes = std::string(kMagic) + key;
  const auto append = [&](const auto& number) {
    bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
  };
  append(static_cast<uint64_t>(scores.size()));
  for (const auto& [log_probability, targets] : scores) {
    append(log_probability);
    append(targets);
  }
  write_file_atomically(path, bytes + xxh3_128(bytes));
}

// Nothing where the file is missing, damaged or another one.
std::optional<std::vector<DocumentScore>> read_scores(const fs::path& path,
                                                      const std::string& key,
                                                      int64_t documents) {
  const std::string head = std::string(kMagic) + key;
  const auto count = static_cast<std::size_t>(documents);
  constexpr std::size_t kScore = sizeof(double) + sizeof(int64_t);
  const std::size_t begin = head.size() + sizeof(uint64_t), end = begin + count * kScore;
  if (!fs::exists(path)) {
    return std::nullopt;
  }
  const auto bytes = read_file(path);
  if (bytes.size() != end + kDigestSize || !bytes.starts_with(head) ||
      xxh3_128(std::string_view(bytes).substr(0, end)) != bytes.substr(end)) {
    return std::nullopt;
  }
  std::vector<DocumentScore> scores(count);
  for (std::size_t i = 0; i < count; ++i) {
    const char* score = bytes.data() + begin + i * kScore;
    std::memcpy(&scores[i].log_probability, score, sizeof(double));
    std::memcpy(&scores[i].targets, score + sizeof(double), sizeof(int64_t));
  }
  return scores;
}

}  // namespace

ReferenceScores reference_scores(const RunConfig& config,
                                 const ProcessGrid& grid,
                                 RunFolder& folder,
                                 const PreparedData& data,
                                 at::Device device) {
  std::unique_ptr<Transformer> model;  // made when it is needed
  const auto scores_of = [&](const DocumentStore& documents, int64_t seq_len) {
    const auto& store = dynamic_cast<const TokenStore&>(documents);  // pairs are never a task's
    const auto path = reference_of(store);
    const auto key = key_of(config, store, seq_len);
    std::optional<std::vector<DocumentScore>> known;
    grid.world->all_or_none([&] { known = read_scores(path, key, store.num_documents()); },
                            "reference scores");
    // Either all ranks read the same file, or all compute.
    if (grid.world->sum({known ? 1 : 0}, "reference scores")[0] == grid.world->size()) {
      return *known;
    }
    if (!model) {
      folder.console().line("scoring the answers with the model that the run starts from");
      grid.world->all_or_none([&] { model = first_model(config, grid, folder, device).model; },
                              "the reference model");
    }
    auto scores = document_scores(*model, store, seq_len, 4, &grid);
    grid.world->first_alone([&] { write_scores(path, key, scores); }, "reference scores");
    return scores;
  };
  ReferenceScores result;
  for (const auto& source : data.training) {
    const auto scores = scores_of(*source.store, config.data.seq_len);
    result.training.insert(result.training.end(), scores.begin(), scores.end());
  }
  for (const auto& set : data.validation) {
    result.validation.push_back(scores_of(*set.store, config.data.validation_seq_len));
  }
  return result;
}

}  // namespace braid
