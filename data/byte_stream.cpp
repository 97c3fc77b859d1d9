#include "data/byte_stream.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#define ZLIB_CONST  // inflate() reads what next_in points to
#include <zlib.h>
#include <zstd.h>

#include "core/error.h"
#include "core/file.h"
#include "core/interruption.h"
#include "core/work.h"

namespace braid {
namespace {

constexpr std::size_t kPieceSize = std::size_t{1} << 18;

class PlainStream : public ByteStream {
 public:
  explicit PlainStream(std::string_view bytes) : bytes_(bytes) {}

  std::string_view next() override {
    stop_if_interrupted();
    const std::string_view piece = bytes_.substr(0, kPieceSize);
    bytes_.remove_prefix(piece.size());
    Work::did(static_cast<int64_t>(piece.size()));
    return piece;
  }

 private:
  std::string_view bytes_;
};

class FileStream : public ByteStream {
 public:
  explicit FileStream(const std::filesystem::path& path) : file_(path), piece_(kPieceSize) {}

  std::string_view next() override {
    stop_if_interrupted();
    const std::size_t size = std::min(kPieceSize, file_.size() - used_);
    file_.read_at(used_, piece_.data(), size);
    used_ += size;
    Work::did(static_cast<int64_t>(size));
    return {piece_.data(), size};
  }

 private:
  InputFile file_;
  std::vector<char> piece_;
  std::size_t used_ = 0;
};

/// What both decoders do; decode() is theirs.
class DecodedStream : public ByteStream {
 public:
  std::string_view next() override {
    std::size_t filled = 0;
    while (filled == 0) {
      if (rest_.empty() && !at_end_) {
        rest_ = bytes_->next();
        at_end_ = rest_.empty();
      }
      if (at_end_ && complete_) {
        break;
      }
      const std::size_t before = used_;
      filled = decode();
      require(filled > 0 || used_ > before || complete_,
              name_,
              ": cut short: the compressed data ends at byte ",
              used_,
              " before it is complete; copy or compress the file again");
    }
    return {piece_.data(), filled};
  }

 protected:
  DecodedStream(std::unique_ptr<ByteStream> bytes, std::string name)
      : bytes_(std::move(bytes)), name_(std::move(name)), piece_(kPieceSize) {}

  /// Decodes from rest_ into piece_ and returns how many bytes it holds; calls used() and sets
  /// complete_ to whether a member or frame ends exactly where rest_ then begins.
  virtual std::size_t decode() = 0;

  void used(std::size_t bytes) {
    rest_.remove_prefix(bytes);
    used_ += bytes;
  }

  [[noreturn]] void fail_corrupt(const char* format, const char* reason) const {
    fail(name_,
         ": corrupt ",
         format,
         " data at byte ",
         used_,
         " (",
         reason,
         "); copy or compress the file again");
  }

  std::unique_ptr<ByteStream> bytes_;
  std::string name_;
  std::vector<char> piece_;
  std::string_view rest_;  // of the last piece of bytes_
  std::size_t used_ = 0;   // of all bytes
  bool at_end_ = false;    // of bytes_
  bool complete_ = false;
};

class GzipStream : public DecodedStream {
 public:
  GzipStream(std::unique_ptr<ByteStream> bytes, std::string name)
      : DecodedStream(std::move(bytes), std::move(name)) {
    constexpr int kGzipOnly = 16;
    require(inflateInit2(&state_, MAX_WBITS + kGzipOnly) == Z_OK, name_, ": not enough memory");
  }
  ~GzipStream() override { inflateEnd(&state_); }
  GzipStream(const GzipStream&) = delete;
  GzipStream& operator=(const GzipStream&) = delete;

 private:
  std::size_t decode() override {
    if (std::exchange(complete_, false)) {
      inflateReset(&state_);  // another member follows
    }
    state_.next_in = reinterpret_cast<const Bytef*>(rest_.data());
    state_.avail_in =
        static_cast<uInt>(std::min<std::size_t>(rest_.size(), std::numeric_limits<uInt>::max()));
    const uInt offered = state_.avail_in;
    state_.next_out = reinterpret_cast<Bytef*>(piece_.data());
    state_.avail_out = static_cast<uInt>(piece_.size());
    const int status = inflate(&state_, Z_NO_FLUSH);
    used(offered - state_.avail_in);
    complete_ = status == Z_STREAM_END;
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
      fail_corrupt("gzip", state_.msg != nullptr ? state_.msg : zError(status));
    }
    return piece_.size() - state_.avail_out;
  }

  z_stream state_{};
};

class ZstdStream : public DecodedStream {
 public:
  ZstdStream(std::unique_ptr<ByteStream> bytes, std::string name)
      : DecodedStream(std::move(bytes), std::move(name)),
        state_(ZSTD_createDStream(), ZSTD_freeDStream) {
    require(state_ != nullptr, name_, ": not enough memory");
  }

 private:
  std::size_t decode() override {
    ZSTD_inBuffer in{rest_.data(), rest_.size(), 0};
    ZSTD_outBuffer out{piece_.data(), piece_.size(), 0};
    const std::size_t status = ZSTD_decompressStream(state_.get(), &out, &in);
    used(in.pos);
    if (ZSTD_isError(status)) {
      fail_corrupt("Zstandard", ZSTD_getErrorName(status));
    }
    complete_ = status == 0;
    return out.pos;
  }

  std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> state_;
};

}  // namespace

std::string lower_extension(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  for (char& letter : extension) {
    letter = static_cast<char>(letter >= 'A' && letter <= 'Z' ? letter - 'A' + 'a' : letter);
  }
  return extension;
}

Compression compression_of(const std::filesystem::path& path) {
  const std::string extension = lower_extension(path);
  return extension == ".gz"    ? Compression::kGzip
         : extension == ".zst" ? Compression::kZstd
                               : Compression::kNone;
}

Compression compression_in(std::string_view first_bytes) {
  if (first_bytes.starts_with("\x1F\x8B")) {
    return Compression::kGzip;
  }
  const bool zstd = first_bytes.starts_with("\x28\xB5\x2F\xFD");
  const bool skippable = first_bytes.size() >= 4 && (first_bytes[0] & '\xF0') == '\x50' &&
                         first_bytes.substr(1, 3) == "\x2A\x4D\x18";
  return zstd || skippable ? Compression::kZstd : Compression::kNone;
}

std::unique_ptr<ByteStream> stream_of(std::string_view bytes) {
  return std::make_unique<PlainStream>(bytes);
}

std::unique_ptr<ByteStream> stream_of_file(const std::filesystem::path& path) {
  return std::make_unique<FileStream>(path);
}

std::unique_ptr<ByteStream> decompressed(std::unique_ptr<ByteStream> bytes,
                                         Compression compression,
                                         const std::string& name) {
  switch (compression) {
    case Compression::kNone:
      return bytes;
    case Compression::kGzip:
      return std::make_unique<GzipStream>(std::move(bytes), name);
    case Compression::kZstd:
      return std::make_unique<ZstdStream>(std::move(bytes), name);
  }
  fail("unknown compression of ", name);
}

}  // namespace braid
