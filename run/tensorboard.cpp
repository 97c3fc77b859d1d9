#include "run/tensorboard.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <variant>

#include "core/error.h"
#include "core/file.h"
#include "core/output_place.h"

namespace braid {
namespace {

static_assert(std::endian::native == std::endian::little, "event files are little-endian");

// Field numbers of the messages.
namespace event_field {
constexpr uint32_t kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5;
}
namespace value_field {
constexpr uint32_t kTag = 1, kSimpleValue = 2, kHistogram = 5, kTensor = 8, kMetadata = 9;
}

constexpr const char* kFileVersion = "brain.Event:2";

template <class T>
std::string bytes_of(const T& value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// A protocol buffer message as it grows.
class Message {
 public:
  Message& varint(uint32_t field, uint64_t value) {
    key(field, 0);
    raw_varint(value);
    return *this;
  }
  Message& real64(uint32_t field, double value) {
    key(field, 1);
    bytes_ += bytes_of(value);
    return *this;
  }
  Message& real32(uint32_t field, float value) {
    key(field, 5);
    bytes_ += bytes_of(value);
    return *this;
  }
  Message& text(uint32_t field, std::string_view value) {
    key(field, 2);
    raw_varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(uint32_t field, const Message& value) { return text(field, value.bytes_); }
  Message& packed(uint32_t field, const std::vector<double>& values) {
    std::string all;
    for (const double value : values) {
      all += bytes_of(value);
    }
    return text(field, all);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(uint32_t field, uint32_t wire_type) { raw_varint((field << 3) | wire_type); }
  void raw_varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) {
      bytes_ += static_cast<char>((value & 0x7f) | 0x80);
    }
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

// The fields of a message, or nothing where it is none.
struct Field {
  uint32_t number = 0;
  uint64_t value = 0;           // of a varint
  std::string_view bytes = {};  // of all others
};
std::optional<std::vector<Field>> fields_of(std::string_view message) {
  std::vector<Field> fields;
  std::size_t at = 0;
  const auto varint = [&]() -> std::optional<uint64_t> {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && at < message.size(); shift += 7) {
      const auto byte = static_cast<uint8_t>(message[at++]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) {
        return value;
      }
    }
    return std::nullopt;
  };
  while (at < message.size()) {
    const auto key = varint();
    if (!key) {
      return std::nullopt;
    }
    Field field{.number = static_cast<uint32_t>(*key >> 3)};
    uint64_t size = 0;
    switch (*key & 7) {
      case 0:
      case 2: {
        const auto number = varint();
        if (!number) {
          return std::nullopt;
        }
        ((*key & 7) == 0 ? field.value : size) = *number;
        break;
      }
      case 1:
        size = 8;
        break;
      case 5:
        size = 4;
        break;
      default:
        return std::nullopt;
    }
    if (size > message.size() - at) {
      return std::nullopt;
    }
    field.bytes = message.substr(at, size);
    at += size;
    fields.push_back(field);
  }
  return fields;
}

// Length, its checksum, the bytes, their checksum.
std::string record_with(const std::string& event) {
  const auto length = bytes_of(static_cast<uint64_t>(event.size()));
  return length + bytes_of(masked_crc32c(length)) + event + bytes_of(masked_crc32c(event));
}

// The next whole record, which it takes off the front.
std::optional<std::string_view> take_record(std::string_view& bytes) {
  constexpr std::size_t kHead = 12, kTail = 4;
  const auto number = [](std::string_view from, auto& into) {
    std::memcpy(&into, from.data(), sizeof into);
  };
  uint64_t length = 0;
  uint32_t checksum = 0;
  if (bytes.size() < kHead + kTail) {
    return std::nullopt;
  }
  number(bytes, length);
  number(bytes.substr(8), checksum);
  if (checksum != masked_crc32c(bytes.substr(0, 8)) || length > bytes.size() - kHead - kTail) {
    return std::nullopt;
  }
  const auto event = bytes.substr(kHead, length);
  number(bytes.substr(kHead + length), checksum);
  if (checksum != masked_crc32c(event)) {
    return std::nullopt;
  }
  bytes.remove_prefix(kHead + length + kTail);
  return event;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Message event_at(double wall_time, int64_t step) {
  Message event;
  event.real64(event_field::kWallTime, wall_time);
  if (step != 0) {
    event.varint(event_field::kStep, static_cast<uint64_t>(step));
  }
  return event;
}

std::string first_event() {
  return event_at(seconds_now(), 0).text(event_field::kFileVersion, kFileVersion).bytes();
}

// A list of one text.
Message text_tensor(std::string_view text) {
  constexpr uint64_t kString = 7;  // DT_STRING
  const auto shape = Message().message(2, Message().varint(1, 1));
  return Message().varint(1, kString).message(2, shape).text(8, text);
}

std::string value_event(double wall_time, int64_t step, const Message& value) {
  return event_at(wall_time, step)
      .message(event_field::kSummary, Message().message(1, value))
      .bytes();
}

std::string text_event(double wall_time,
                       int64_t step,
                       const std::string& tag,
                       const Message& tensor) {
  const auto metadata = Message().message(1, Message().text(1, "text"));
  const auto value = Message()
                         .text(value_field::kTag, tag)
                         .message(value_field::kTensor, tensor)
                         .message(value_field::kMetadata, metadata);
  return value_event(wall_time, step, value);
}

constexpr std::string_view kSampleTags = "sample/";

// "sample/The truth is, 1": a prompt and the number of its text, from 1.
std::string sample_event(double wall_time,
                         int64_t step,
                         const std::vector<Metrics::Value>& values) {
  std::string prompt, continuation;
  double number = 0;
  for (const auto& [key, value] : values) {
    const auto* words = std::get_if<std::string>(&value);
    const auto* count = std::get_if<double>(&value);
    if (key == "prompt" && words != nullptr) {
      prompt = *words;
    } else if (key == "text" && words != nullptr) {
      continuation = *words;
    } else if (key == "number" && count != nullptr) {
      number = *count;
    }
  }
  auto name = prompt.empty() ? std::string("beginning of a document") : prompt;
  std::ranges::replace(name, '\n', ' ');
  const auto tag = text(kSampleTags, name, ", ", static_cast<int64_t>(number) + 1);
  // Indented, so that TensorBoard's Markdown leaves it as it is.
  std::string markdown = "    ";
  for (const char c : prompt + continuation) {
    markdown += c;
    markdown += c == '\n' ? "    " : "";
  }
  return text_event(wall_time, step, tag, text_tensor(markdown));
}

// Empty of a record without numbers.
std::string event_of(double wall_time,
                     int64_t step,
                     const std::string& split,
                     const std::vector<Metrics::Value>& values) {
  if (split == "sample") {
    return sample_event(wall_time, step, values);
  }
  std::string set;
  for (const auto& [key, value] : values) {
    if (key == "set") {
      set = std::get<std::string>(value);
    }
  }
  Message summary;
  for (const auto& [key, value] : values) {
    if (const auto* number = std::get_if<double>(&value)) {
      summary.message(1,
                      Message()
                          .text(value_field::kTag, scalar_tag(key, split, set))
                          .real32(value_field::kSimpleValue, static_cast<float>(*number)));
    }
  }
  return summary.bytes().empty()
             ? std::string()
             : event_at(wall_time, step).message(event_field::kSummary, summary).bytes();
}

// Of a record as Metrics wrote it.
std::string event_of(double wall_time, const nlohmann::ordered_json& record) {
  std::vector<Metrics::Value> values;
  for (const auto& [key, value] : record.items()) {
    if (key == "step" || key == "split") {
      continue;
    }
    if (value.is_string()) {
      values.emplace_back(key, value.get<std::string>());
    } else {
      values.emplace_back(key, value.is_number() ? value.get<double>() : std::nan(""));
    }
  }
  return event_of(wall_time, record.at("step").get<int64_t>(), record.value("split", ""), values);
}

// What of an event decides whether it stays.
struct EventHead {
  int64_t step = 0;
  std::string tag;            // of its first value; empty of the file's version
  bool is_of_record = false;  // of metrics.jsonl
  uint32_t text = 0;          // checksum of the text, if it is one
};
std::optional<EventHead> head_of(std::string_view event) {
  const auto fields = fields_of(event);
  if (!fields) {
    return std::nullopt;
  }
  EventHead head;
  for (const auto& field : *fields) {
    if (field.number == event_field::kStep) {
      head.step = static_cast<int64_t>(field.value);
    } else if (field.number == event_field::kSummary) {
      const auto values = fields_of(field.bytes);
      const auto value =
          values && !values->empty() ? fields_of(values->front().bytes) : std::nullopt;
      if (!value) {
        return std::nullopt;
      }
      for (const auto& part : *value) {
        if (part.number == value_field::kTag) {
          head.tag = part.bytes;
        }
        head.is_of_record |= part.number == value_field::kSimpleValue;
        if (part.number == value_field::kTensor) {
          head.text = crc32c(part.bytes);
        }
      }
      head.is_of_record |= head.tag.starts_with(kSampleTags);
    }
  }
  return head;
}

constexpr std::string_view kValidationTags = "validation/";

// Seconds of a run's training steps, and the time of the last write.
struct Clock {
  double now = 0;

  explicit Clock(const std::filesystem::path& metrics) {
    double seconds = 0;
    read_metrics(metrics, [&](const nlohmann::ordered_json& record) {
      seconds += record.value("step_seconds", 0.0);
    });
    const auto written = std::filesystem::last_write_time(metrics);
    const auto age = std::filesystem::file_time_type::clock::now() - written;
    now = seconds_now() - std::chrono::duration<double>(age).count() - seconds;
  }
};

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static const auto table = [] {
    constexpr uint32_t kPolynomial = 0x82f63b78;  // reversed
    std::array<uint32_t, 256> values{};
    for (uint32_t i = 0; i < values.size(); ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) {
        value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
      }
      values[i] = value;
    }
    return values;
  }();
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc = (crc >> 8) ^ table[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  }
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8u;
}

std::string scalar_tag(const std::string& key, const std::string& split, const std::string& set) {
  auto tag = key;
  if (const auto dot = tag.find('.'); dot != std::string::npos) {
    tag[dot] = '/';
  }
  return (split.empty() ? "" : split + "/") + (set.empty() ? "" : set + "/") + tag;
}

EventFile::EventFile(const std::filesystem::path& path,
                     const std::filesystem::path& metrics,
                     int64_t step,
                     bool validated)
    : path_(path) {
  require_file_or_absent(path);
  std::string kept;
  int64_t last_step = 0;       // of numbers that were kept ...
  std::set<std::string> last;  // ... and the first tag of each record of that step
  const auto add = [&](const std::string& event) { kept += record_with(event); };
  if (std::filesystem::exists(path)) {
    const auto bytes = read_file(path);
    std::string_view rest = bytes;
    for (auto event = take_record(rest); event; event = take_record(rest)) {
      const auto head = head_of(*event);
      if (!head) {
        break;
      }
      const bool is_validation =
          head->tag.starts_with(kValidationTags) || head->tag.starts_with(kSampleTags);
      if (head->step > step || (head->step == step && is_validation && !validated)) {
        continue;
      }
      add(std::string(*event));
      if (head->is_of_record) {
        last = head->step > last_step ? std::set<std::string>() : last;
        last_step = head->step;
        last.insert(head->tag);
      } else if (head->text != 0) {
        last_text_[head->tag] = head->text;
      }
    }
  }
  if (kept.empty()) {
    add(first_event());
  }
  if (std::filesystem::exists(metrics)) {
    Clock clock(metrics);
    read_metrics(metrics, [&](const nlohmann::ordered_json& record) {
      clock.now += record.value("step_seconds", 0.0);
      const auto event = event_of(clock.now, record);
      const auto at = record.at("step").get<int64_t>();
      if (!event.empty() &&
          (at > last_step || (at == last_step && !last.contains(head_of(event)->tag)))) {
        add(event);
      }
    });
  }
  std::filesystem::create_directories(path.parent_path());
  write_file_atomically(path, kept);
  file_.open(path, std::ios::app | std::ios::binary);
  require(file_.good(), path.string(), ": cannot be written");
}

void EventFile::append(const std::string& event) {
  const auto record = record_with(event);
  file_.write(record.data(), static_cast<std::streamsize>(record.size())).flush();
  require(file_.good(), path_.string(), ": cannot be written; is the disk full?");
}

void EventFile::write(int64_t step,
                      const std::string& split,
                      const std::vector<Metrics::Value>& values) {
  if (const auto event = event_of(seconds_now(), step, split, values); !event.empty()) {
    append(event);
  }
}

void EventFile::write_histogram(int64_t step,
                                const std::string& tag,
                                const std::vector<double>& values) {
  if (values.empty() || !std::ranges::all_of(values, [](double v) { return std::isfinite(v); })) {
    return;
  }
  constexpr std::size_t kBins = 30;
  const auto [low, high] = std::ranges::minmax(values);
  const double width = (high - low) / kBins;
  std::vector<double> limits, counts(width > 0 ? kBins : 1, 0);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    limits.push_back(i + 1 == counts.size() ? high : low + width * static_cast<double>(i + 1));
  }
  double sum = 0, squares = 0;
  for (const double value : values) {
    const auto bin = width > 0 ? static_cast<std::size_t>((value - low) / width) : 0;
    ++counts[std::min(bin, counts.size() - 1)];
    sum += value;
    squares += value * value;
  }
  const auto histogram = Message()
                             .real64(1, low)
                             .real64(2, high)
                             .real64(3, static_cast<double>(values.size()))
                             .real64(4, sum)
                             .real64(5, squares)
                             .packed(6, limits)
                             .packed(7, counts);
  const auto value =
      Message().text(value_field::kTag, tag).message(value_field::kHistogram, histogram);
  append(value_event(seconds_now(), step, value));
}

void EventFile::write_changed_text(int64_t step,
                                   const std::string& tag,
                                   const std::string& markdown) {
  const auto tensor = text_tensor(markdown);
  const auto checksum = crc32c(tensor.bytes());
  const auto last = last_text_.find(tag);
  if (last == last_text_.end() || last->second != checksum) {
    last_text_[tag] = checksum;
    append(text_event(seconds_now(), step, tag, tensor));
  }
}

}  // namespace braid
