#include "data/file_format.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "data/json_line.h"

namespace braid {
namespace {

using std::string_view_literals::operator""sv;

constexpr const char* kToJsonl = "convert it to JSONL: scripts/to_jsonl.py FILE.jsonl FILE";
constexpr const char* kExtractText = "extract its text into *.txt or *.jsonl files";
constexpr const char* kNoText = "it holds no text to train on; is the path right?";
constexpr const char* kWeights = "these are weights, not text; is the path right?";
constexpr const char* kUnpack = "unpack it and name the text files in it";

struct Signature {
  std::size_t offset;
  std::string_view bytes;
  const char* format;
  const char* advice;
};

// What is read as text or decompressed before is not here, except for what was compressed twice.
constexpr std::array kSignatures = {
    Signature{0, "PAR1"sv, "a Parquet file", kToJsonl},
    Signature{0, "ARROW1"sv, "an Arrow (Feather) file", kToJsonl},
    Signature{0, "FEA1"sv, "a Feather file", kToJsonl},
    Signature{0, "\xFF\xFF\xFF\xFF"sv, "an Arrow stream", kToJsonl},
    Signature{0, "Obj\x01"sv, "an Avro file", "convert it to JSONL"},
    Signature{0, "\xFD\x37zXZ\0"sv, "compressed with xz", "unpack it: xz -d FILE"},
    Signature{0, "BZh91AY&SY"sv, "compressed with bzip2", "unpack it: bzip2 -d FILE"},
    Signature{0, "\x1F\x8B"sv, "compressed with gzip, twice", "unpack it once: gzip -d FILE"},
    Signature{0, "\x28\xB5\x2F\xFD"sv, "compressed twice", "unpack it once: zstd -d FILE"},
    Signature{0, "\x04\x22\x4D\x18"sv, "compressed with LZ4", "unpack it: lz4 -d FILE"},
    Signature{0, "LZIP\x01"sv, "compressed with lzip", "unpack it: lzip -d FILE"},
    Signature{0, "\x5D\0\0"sv, "compressed with LZMA", "unpack it: xz -d --format=lzma FILE"},
    Signature{0, "\x1F\x9D"sv, "compressed with compress", "unpack it: gzip -d FILE"},
    Signature{0, "PK\x03\x04"sv, "a zip archive (or docx, xlsx, npz, pt)", kUnpack},
    Signature{0, "PK\x05\x06"sv, "a zip archive without files", kUnpack},
    Signature{0, "PK\x07\x08"sv, "a zip archive in parts", kUnpack},
    Signature{0, "7z\xBC\xAF\x27\x1C"sv, "a 7z archive", kUnpack},
    Signature{0, "Rar!\x1A\x07"sv, "a RAR archive", kUnpack},
    Signature{257, "ustar"sv, "a tar archive", kUnpack},
    Signature{0, "SQLite format 3\0"sv, "an SQLite database", "export its text as JSONL"},
    Signature{0, "%PDF-"sv, "a PDF document", kExtractText},
    Signature{0, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"sv, "an old Office document", kExtractText},
    Signature{0, "\x89PNG\r\n"sv, "a PNG image", kNoText},
    Signature{0, "\xFF\xD8\xFF"sv, "a JPEG image", kNoText},
    Signature{0, "GIF87a"sv, "a GIF image", kNoText},
    Signature{0, "GIF89a"sv, "a GIF image", kNoText},
    Signature{0,
              "\x7F"
              "ELF"sv,
              "a program or library (ELF)",
              kNoText},
    Signature{0, "MZ\x90\0"sv, "a Windows program", kNoText},
    Signature{0, "\0asm"sv, "a WebAssembly program", kNoText},
    Signature{0, "\x89HDF\r\n\x1A\n"sv, "an HDF5 file", kNoText},
    Signature{0, "\x93NUMPY"sv, "a NumPy array", kNoText},
    Signature{0, "\x80\x02}"sv, "a Python pickle", kNoText},
    Signature{0, "\x80\x04\x95"sv, "a Python pickle", kNoText},
    Signature{0, "\x80\x05\x95"sv, "a Python pickle", kNoText},
    Signature{0, "MMIDIDX\0"sv, "an index of Megatron's token files", "name the texts themselves"},
    Signature{
        0, "BRAIDTOK"sv, "a token store of Braid", "name it itself, not a folder that has it"},
    Signature{0, "GGUF"sv, "a GGUF file", kWeights},
    Signature{0,
              "version https://git-lfs.github.com/spec/"sv,
              "a Git LFS pointer, not the file itself",
              "fetch the file: git lfs pull"},
    Signature{0,
              "/annex/objects/"sv,
              "a git-annex pointer, not the file itself",
              "fetch the file: git annex get FILE"},
    // Marks of UTF-16 begin those of UTF-32.
    Signature{0, "\xFF\xFE\0\0"sv, "UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8"},
    Signature{0, "\0\0\xFE\xFF"sv, "UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8"},
    Signature{0, "\xFF\xFE"sv, "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"},
    Signature{0, "\xFE\xFF"sv, "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"},
};

[[noreturn]] void fail_format(const std::string& name, const char* format, const char* advice) {
  fail(name,
       ": is ",
       format,
       "; Braid reads plain text (UTF-8) and JSONL, as they are or compressed with gzip or "
       "Zstandard: ",
       advice);
}

// A header's length in 8 bytes, then the header, which is JSON.
bool is_safetensors(std::string_view head) {
  return head.size() > 10 && head.substr(4, 4) == "\0\0\0\0"sv && head.substr(8, 2) == "{\"";
}

/// Text of wide characters without their mark, by its zeros; nullptr for anything else.
const char* wide_text(std::string_view head) {
  if (head.size() < 8) {
    return nullptr;
  }
  std::array<double, 4> zeros{};  // share among the bytes 0, 4, 8, ..., 1, 5, ...
  const std::size_t units = head.size() / 4;
  for (std::size_t i = 0; i < units * 4; ++i) {
    zeros[i % 4] += head[i] == '\0' ? 1.0 / static_cast<double>(units) : 0;
  }
  const auto are = [&](bool a, bool b, bool c, bool d) {
    const std::array wanted = {a, b, c, d};
    for (std::size_t i = 0; i < 4; ++i) {
      if (wanted[i] ? zeros[i] < 0.7 : zeros[i] > 0.1) {
        return false;
      }
    }
    return true;
  };
  return are(false, true, false, true)   ? "UTF-16LE text (every second byte is 0)"
         : are(true, false, true, false) ? "UTF-16BE text (every second byte is 0)"
         : are(false, true, true, true)  ? "UTF-32LE text (three of four bytes are 0)"
         : are(true, true, true, false)  ? "UTF-32BE text (three of four bytes are 0)"
                                         : nullptr;
}

std::string_view without_space(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  return text;
}

bool is_array_of_objects(std::string_view head) {
  std::string_view rest = without_space(head);
  if (!rest.starts_with('[')) {
    return false;
  }
  rest = without_space(rest.substr(1));
  if (!rest.starts_with('{')) {
    return false;
  }
  rest = without_space(rest.substr(1));
  return rest.starts_with('"') || rest.starts_with('}');
}

}  // namespace

std::string_view without_byte_order_mark(std::string_view text) {
  return text.starts_with("\xEF\xBB\xBF") ? text.substr(3) : text;
}

void require_text(std::string_view head, const std::string& name, bool may_be_array) {
  for (const auto& [offset, bytes, format, advice] : kSignatures) {
    if (head.size() >= offset + bytes.size() && head.substr(offset, bytes.size()) == bytes) {
      fail_format(name, format, advice);
    }
  }
  if (is_safetensors(head)) {
    fail_format(name, "a safetensors file", kWeights);
  }
  if (const char* format = wide_text(head)) {
    fail_format(name, format, "convert it: iconv -f UTF-16LE -t UTF-8 (or as it is encoded)");
  }
  if (!may_be_array && is_array_of_objects(without_byte_order_mark(head))) {
    fail_format(name, "a JSON array", "write an object a line: jq -c '.[]' FILE > FILE.jsonl");
  }
}

void require_plain_text(std::string_view head,
                        const std::string& text_key,
                        const std::string& name) {
  require_text(head, name);
  head = without_space(without_byte_order_mark(head));
  std::string text;
  const std::string_view line = head.substr(0, head.find('\n'));
  if (line.size() < head.size() && take_json_text(line, text_key, text).empty()) {
    fail(name,
         ": is JSONL by another name (its first line is a JSON object with a string under '",
         text_key,
         "'); call it *.jsonl");
  }
}

}  // namespace braid
