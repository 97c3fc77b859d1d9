#include "formats/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "checkpoint/names.h"
#include "checkpoint/store.h"
#include "core/error.h"
#include "core/file.h"
#include "core/interruption.h"
#include "core/output_place.h"
#include "core/own_folder.h"
#include "data/byte_tokenizer.h"
#include "formats/adapters.h"
#include "formats/convert_plan.h"
#include "formats/convert_rows.h"
#include "formats/model_json.h"
#include "formats/model_tokenizer.h"
#include "formats/tensor_table.h"
#include "run/memory.h"
#include "run/run_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kProgress = "convert.json";

// Small files of a published model that say how it is used.
constexpr const char* kCompanions[] = {"tokenizer.json",
                                       "tokenizer_config.json",
                                       "special_tokens_map.json",
                                       "generation_config.json",
                                       "chat_template.jinja",
                                       "LICENSE"};

/// "layers.*.ffn.experts.*.w1.weight": every number between dots becomes a star.
std::string class_of(const std::string& name) {
  std::string result;
  for (std::size_t begin = 0; begin <= name.size();) {
    const auto end = std::min(name.find('.', begin), name.size());
    const auto part = name.substr(begin, end - begin);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    result += (begin > 0 ? "." : "") + (number ? std::string("*") : part);
    begin = end + 1;
  }
  return result;
}

/// What was written so far, kept beside the shards.
class Tallies {
 public:
  ConvertedClass& of(const Conversion& conversion) {
    const auto key =
        std::array{class_of(conversion.name), form_of(conversion.stored), form_of(conversion)};
    auto& entry = classes_[key];
    entry.name = key[0];
    entry.from = key[1];
    entry.to = key[2];
    return entry;
  }

  std::vector<ConvertedClass> all() const {
    std::vector<ConvertedClass> result;
    for (const auto& [key, entry] : classes_) {
      result.push_back(entry);
    }
    return result;
  }

  Json json() const {
    auto result = Json::array();
    for (const auto& [key, c] : classes_) {
      result.push_back(Json::array({c.name,
                                    c.from,
                                    c.to,
                                    c.tensors,
                                    c.bytes,
                                    c.largest_error,
                                    c.squared_error,
                                    c.squares,
                                    c.updated,
                                    c.update_squares,
                                    c.update_error,
                                    c.update_product}));
    }
    return result;
  }

  explicit Tallies(const Json& json = Json::array()) {
    for (const auto& c : json) {
      classes_[{c[0], c[1], c[2]}] = {
          c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c.at(8), c.at(9), c.at(10), c.at(11)};
    }
  }

 private:
  std::map<std::array<std::string, 3>, ConvertedClass> classes_;
};

/// Bytes that a folder's files take on the disk, as a part of their lengths (holes take none).
double allocated_part(const std::vector<fs::path>& files) {
  double allocated = 0, length = 0;
  for (const auto& file : files) {
    struct stat status {};
    if (::stat(file.c_str(), &status) == 0) {
      allocated += static_cast<double>(status.st_blocks) * 512;
      length += static_cast<double>(status.st_size);
    }
  }
  return length > 0 ? std::min(1.0, allocated / length) : 1.0;
}

bool all_zero(const char* bytes, std::size_t size) {
  return size == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size - 1) == 0);
}

class Converter {
 public:
  Converter(const fs::path& source, fs::path target, const ConvertOptions& options)
      : options_(options), target_(std::move(target)), partial_(target_.string() + ".partial") {
    require(target_.has_filename(), "'", target_.string(), "' does not end in a folder's name");
    require_absent(target_, "remove it or choose another folder to convert into");
    model_ = read_model(source);
    require(options.merged || !model_.lora,
            model_.source,
            ": has LoRA adapters beside its weights; `braid merge` makes one model of both, and "
            "convert --to peft writes the adapters alone");
    const auto updates = options.merged ? updates_of_adapters() : MatrixUpdates();
    std::vector<fs::path> inputs = {model_.source, model_.base};
    inputs.insert(inputs.end(), adapter_folders_.begin(), adapter_folders_.end());
    require_not_an_input(target_, inputs);
    require_expressible(model_.config, options.to);
    stored_as_ = resolved(options.stored_as, options.to, model_);
    conversions_ = conversions_of(model_, options.to, stored_as_, updates, report_.left_out);
    if (options.to != ConvertTo::kCheckpoint) {
      json_ = json();  // before anything is written: it may not be able to say what the model is
    }
    add_notes();
    plan();
  }

  ConvertReport run() {
    GrowingFolder folder(target_, "another process is converting into it");
    resume(folder);
    require_room();
    const bool to_hdf5 = options_.to == ConvertTo::kCheckpoint;
    for (std::size_t i = finished_; i < files_.size(); ++i) {
      to_hdf5 ? write_checkpoint_shard(i) : write_safetensors_shard(i);
      finished_ = i + 1;
      save_progress();
    }
    to_hdf5 ? complete() : write_companions();
    fs::remove(partial_ / kProgress);
    folder.commit();
    report_.classes = tallies_.all();
    add_warnings();
    report_.shards = static_cast<int64_t>(files_.size());
    return report_;
  }

 private:
  struct File {
    std::string name, header;
    std::size_t bytes = 0;
    std::vector<SafetensorsEntry> entries;    // of safetensors
    std::vector<const Conversion*> contents;  // with a tensor in it
  };

  // The model's own, and those that are named.
  MatrixUpdates updates_of_adapters() {
    require(options_.to != ConvertTo::kCheckpoint,
            "a merged model is written in the release's or Hugging Face's names; --to release is "
            "read as any checkpoint is");
    std::vector<std::vector<LowRankUpdate>> lists;
    if (auto own = take_adapters(model_); !own.empty()) {
      lists.push_back(std::move(own));
    }
    for (const auto& adapter : adapters_for(model_, *options_.merged)) {
      adapter_folders_.emplace_back(adapter.source);
      lists.push_back(adapter.updates);
    }
    require_addable(lists, model_.source);
    MatrixUpdates updates;
    for (const auto& list : lists) {
      for (const auto& update : list) {
        updates[update.matrix].push_back(update);
      }
    }
    require(!updates.empty(),
            model_.source,
            ": has no adapters of its own, and none are named to be merged into it");
    return updates;
  }

  void add_warnings() {
    constexpr double kLittle = 0.5;
    for (const auto& c : report_.classes) {
      if (c.updated > 0 && c.update_squares > 0 && c.survived() < kLittle) {
        report_.warnings.push_back(text("rounding to ",
                                        c.to,
                                        " left ",
                                        std::lround(100 * c.survived()),
                                        " % of the update of ",
                                        c.name,
                                        "; --layout bf16 or f32 keeps it, and so does serving the "
                                        "adapter beside its base"));
      }
    }
  }

  void plan() {
    if (options_.to == ConvertTo::kCheckpoint) {
      plan_checkpoint();
    } else {
      plan_safetensors();
    }
    for (const auto& file : files_) {
      total_ += file.bytes;
    }
    digest_ = xxh3_128(description());
  }

  void plan_checkpoint() {
    std::vector<File> files(1);
    for (const auto& conversion : conversions_) {
      std::size_t bytes = 0;
      for (const auto& tensor : conversion.tensors) {
        bytes += bytes_of(tensor);
      }
      if (files.back().bytes > 0 && files.back().bytes + bytes > options_.shard_bytes) {
        files.emplace_back();
      }
      files.back().bytes += bytes;
      files.back().contents.push_back(&conversion);
    }
    for (std::size_t i = 0; i < files.size(); ++i) {
      files[i].name = shard_name(i, files.size());
    }
    files_ = std::move(files);
  }

  void plan_safetensors() {
    shards_ = plan_shards(tensors_at_target(conversions_, options_.to), options_.shard_bytes);
    std::map<std::string, std::size_t> file_of;
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      files_.push_back(
          {shards_[i].file, shards_[i].header, shards_[i].bytes, shards_[i].entries, {}});
      for (const auto& entry : shards_[i].entries) {
        file_of[entry.name] = i;
      }
    }
    for (const auto& conversion : conversions_) {
      std::set<std::size_t> places;  // codes and scales may lie in two files
      for (const auto& tensor : conversion.tensors) {
        places.insert(file_of.at(entry_name(tensor.name)));
      }
      for (const auto place : places) {
        files_[place].contents.push_back(&conversion);
      }
    }
  }

  std::string entry_name(const std::string& tensor) const {
    return options_.to == ConvertTo::kHf ? hf_place(tensor)->name : tensor;
  }

  std::vector<fs::path> source_files() const {
    std::set<fs::path> folders = {model_.source};
    if (!model_.published.empty()) {
      folders.insert(model_.published);
    }
    folders.insert(adapter_folders_.begin(), adapter_folders_.end());
    std::set<fs::path> files;
    for (const auto& folder : folders) {
      for (const auto& entry : fs::directory_iterator(folder)) {
        if (entry.is_regular_file()) {
          files.insert(entry.path());
        }
      }
    }
    return {files.begin(), files.end()};
  }

  // Whether two processes would write the same: the plan and what it is made from.
  std::string description() const {
    std::string result = text("2 ",  // the form of convert.json
                              static_cast<int>(stored_as_),
                              ' ',
                              static_cast<int>(options_.to));
    for (const auto& file : source_files()) {
      struct stat status {};
      ::stat(file.c_str(), &status);
      result += text('\n',
                     fs::absolute(file).string(),
                     ' ',
                     status.st_size,
                     ' ',
                     status.st_mtim.tv_sec,
                     '.',
                     status.st_mtim.tv_nsec);
    }
    for (const auto& file : files_) {
      result += text('\n', file.name, ' ', file.bytes, ' ', file.header);
    }
    return result;
  }

  void resume(const GrowingFolder& folder) {
    if (fs::exists(partial_ / kProgress)) {
      try {
        const auto progress = Json::parse(read_file(partial_ / kProgress));
        if (progress.at("plan") == digest_) {
          finished_ = progress.at("finished").get<std::size_t>();
          tallies_ = Tallies(progress.at("classes"));
          report_.shards_found = static_cast<int64_t>(finished_);
          for (std::size_t i = 0; i < finished_; ++i) {
            done_ += files_.at(i).bytes;
          }
          return;
        }
      } catch (const Json::exception&) {  // damaged, or of another version: start again
      }
    }
    folder.clear();
    finished_ = 0;
  }

  void save_progress() const {
    const Json progress = {
        {"plan", digest_}, {"finished", finished_}, {"classes", tallies_.json()}};
    write_file_atomically(partial_ / kProgress, progress.dump() + "\n");
  }

  void require_room() const {
    const auto needed = static_cast<std::size_t>(static_cast<double>(total_ - done_) *
                                                 allocated_part(source_files()));
    const auto available = fs::space(partial_).available;
    require(needed <= available,
            target_.string(),
            ": ",
            bytes_text(static_cast<int64_t>(needed)),
            " are still to be written, but the disk has room for ",
            bytes_text(static_cast<int64_t>(available)));
  }

  void report_progress(std::size_t bytes) {
    stop_if_interrupted();
    done_ += bytes;
    if (options_.progress) {
      options_.progress(done_, total_);
    }
  }

  // A parameter is counted in the file that holds its values.
  void count(const Conversion& conversion, ConvertedClass& tally) const {
    ++tally.tensors;
    for (const auto& tensor : conversion.tensors) {
      tally.bytes += static_cast<int64_t>(bytes_of(tensor));
    }
  }

  void write_safetensors_shard(std::size_t index) {
    const auto& file = files_[index];
    std::map<std::string, std::size_t> begins;
    for (const auto& entry : file.entries) {
      begins[entry.name] = entry.begin;
    }
    AtomicFile out(partial_ / file.name);
    out.resize(file.bytes);
    out.write_at(0, file.header.data(), file.header.size());
    report_progress(file.header.size());
    for (const auto* conversion : file.contents) {
      const auto& values = conversion->tensors.front();
      std::size_t offset = 0;
      if (const auto place = options_.to == ConvertTo::kHf ? hf_place(values.name) : std::nullopt;
          place && place->expert >= 0) {
        offset =
            bytes_of(values) * (static_cast<std::size_t>(place->expert) * (place->in_half ? 2 : 1) +
                                static_cast<std::size_t>(place->half));
      }
      require_finite(conversion->name, conversion->stored.values, model_.source);
      ConvertedClass tally;
      convert_rows(
          *conversion,
          [&](const std::string& tensor, int64_t first_row, const at::Tensor& rows) {
            const auto begin = begins.find(entry_name(tensor));
            if (begin == begins.end()) {
              return;
            }
            const auto row_bytes = rows.dim() > 0 && rows.size(0) > 0
                                       ? rows.nbytes() / static_cast<std::size_t>(rows.size(0))
                                       : 0;
            const auto* bytes = static_cast<const char*>(rows.const_data_ptr());
            if (!all_zero(bytes, rows.nbytes())) {
              out.write_at(begin->second + offset + static_cast<std::size_t>(first_row) * row_bytes,
                           bytes,
                           rows.nbytes());
            }
            report_progress(rows.nbytes());
          },
          tally);
      if (begins.contains(entry_name(values.name))) {
        add(tally, *conversion);
      }
    }
    out.commit();
  }

  void add(const ConvertedClass& tally, const Conversion& conversion) {
    auto& total = tallies_.of(conversion);
    count(conversion, total);
    total.largest_error = std::max(total.largest_error, tally.largest_error);
    total.squared_error += tally.squared_error;
    total.squares += tally.squares;
    total.updated += tally.updated;
    total.update_squares += tally.update_squares;
    total.update_error += tally.update_error;
    total.update_product += tally.update_product;
  }

  static std::vector<TensorPiece> checkpoint_tensors(const File& file) {
    std::vector<NamedTensor> tensors;
    for (const auto* conversion : file.contents) {
      tensors.push_back(
          {(conversion->of_drafter ? kDrafter : "model/") + conversion->tensors[0].name,
           conversion->stored.values});
      if (conversion->stored.quantized()) {
        tensors.push_back({"model/" + conversion->tensors[1].name, conversion->stored.scales});
      }
    }
    return whole(tensors);
  }

  void write_checkpoint_shard(std::size_t index) {
    for (const auto* conversion : files_[index].contents) {
      require_finite(conversion->name, conversion->stored.values, model_.source);
    }
    write_shard(partial_ / files_[index].name,
                checkpoint_tensors(files_[index]),
                [this](const TensorPiece& tensor) { report_progress(tensor.value.nbytes()); });
    for (const auto* conversion : files_[index].contents) {
      add({}, *conversion);
    }
  }

  // A converted checkpoint is at step 0 and has no optimizer state.
  void complete() {
    std::vector<std::vector<TensorPiece>> shards;
    for (const auto& file : files_) {
      shards.push_back(checkpoint_tensors(file));
    }
    auto files = companions();
    const auto yaml = fs::path(model_.source) / kConfigFile;
    const auto json = fs::path(model_.source) / "config.json";
    if (fs::exists(json)) {
      files["config.json"] = read_file(json);
    } else {
      files[kConfigFile] = read_file(yaml);
    }
    complete_checkpoint(partial_, shards, {{"step", int64_t{0}}, {"tokens", int64_t{0}}}, files);
  }

  std::map<std::string, std::string> companions() const {
    std::map<std::string, std::string> files;
    for (const char* name : kCompanions) {
      if (const auto path = model_.published / name;
          !model_.published.empty() && fs::exists(path)) {
        files[name] = read_file(path);
      }
    }
    if (!model_.tokenizer) {
      return files;
    }
    if (model_.tokenizer->file == TokenizerConfig::kBytes) {
      files[kTokenizerFile] = dump_config(TokenizerFile{*model_.tokenizer});
      files["tokenizer.json"] = byte_tokenizer_json();
      files["tokenizer_config.json"] = byte_tokenizer_config_json();
      return files;
    }
    const fs::path named(model_.tokenizer->file);
    const auto file = fs::is_directory(named) ? named / "tokenizer.json" : named;
    files["tokenizer.json"] = read_file(file);
    if (const auto config = file.parent_path() / "tokenizer_config.json"; fs::exists(config)) {
      files["tokenizer_config.json"] = read_file(config);
    }
    return files;
  }

  void write_companions() const {
    for (const auto& [name, contents] : companions()) {
      write_file_atomically(partial_ / name, contents);
    }
    write_file_atomically(partial_ / "config.json", json_);
    if (shards_.size() > 1) {
      write_file_atomically(partial_ / "model.safetensors.index.json", index_json(shards_));
    }
  }

  std::string json() const {
    const auto base = model_.published.empty() ? fs::path() : model_.published / "config.json";
    if (stored_as_ == StoredAs::kSame && !base.empty() && model_.published == model_.source) {
      return read_file(base);
    }
    std::optional<ReleaseLayout> layout;
    if (stored_as_ == StoredAs::kInstruct || stored_as_ == StoredAs::kBase) {
      layout = stored_as_ == StoredAs::kInstruct ? ReleaseLayout::kInstruct : ReleaseLayout::kBase;
    }
    auto config = model_.config;
    if (options_.to == ConvertTo::kHf) {
      config.num_nextn_predict_layers = 0;
    }
    return model_json(config,
                      layout,
                      base,
                      conversions_.front().tensors.front().dtype,
                      !model_.drafter.empty() && options_.to == ConvertTo::kRelease);
  }

  void add_notes() {
    report_.notes = model_.notes;
    if (options_.to == ConvertTo::kCheckpoint) {
      return;
    }
    if (model_.config.qat_experts != QuantFormat::kOff) {
      report_.notes.emplace_back(
          "experts are written as model.qat_experts rounded them in training; --to checkpoint "
          "keeps the masters");
    }
    if (options_.to == ConvertTo::kHf && model_.config.qat_indexer != QuantFormat::kOff) {
      report_.notes.emplace_back(
          "model.qat_indexer: transformers scores entries without the rounding that training had, "
          "so that a query may choose other entries where scores are close");
    }
  }

  const ConvertOptions& options_;
  fs::path target_, partial_;
  StoredModel model_;
  std::vector<fs::path> adapter_folders_;
  StoredAs stored_as_ = StoredAs::kSame;
  std::vector<Conversion> conversions_;
  std::vector<ShardPlan> shards_;
  std::vector<File> files_;
  std::string json_;  // of config.json, where one is written
  std::string digest_;
  Tallies tallies_;
  ConvertReport report_;
  std::size_t finished_ = 0, done_ = 0, total_ = 0;
};

}  // namespace

ConvertReport convert(const fs::path& source,
                      const fs::path& target,
                      const ConvertOptions& options) {
  return Converter(source, target, options).run();
}

}  // namespace braid
