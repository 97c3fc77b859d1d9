#include "data/byte_stream.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#define ZLIB_CONST  // inflate() reads what next_in points to
#include <zlib.h>
#include <zstd.h>

#include "core/error.h"
#include "core/interruption.h"

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
    return piece;
  }

 private:
  std::string_view bytes_;
};

/// What both decoders do; decode() is theirs.
class DecodedStream : public ByteStream {
 public:
  std::string_view next() override {
    stop_if_interrupted();
    std::size_t filled = 0;
    while (filled == 0 && (used_ < bytes_.size() || !complete_)) {
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
  DecodedStream(std::string_view bytes, std::string name)
      : bytes_(bytes), name_(std::move(name)), piece_(kPieceSize) {}

  /// Decodes bytes_ from used_ on into piece_ and returns how many bytes it holds; sets complete_
  /// to whether a member or frame ends exactly at used_.
  virtual std::size_t decode() = 0;

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

  std::string_view bytes_;
  std::string name_;
  std::vector<char> piece_;
  std::size_t used_ = 0;
  bool complete_ = false;
};

class GzipStream : public DecodedStream {
 public:
  GzipStream(std::string_view bytes, std::string name) : DecodedStream(bytes, std::move(name)) {
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
    const std::size_t rest = bytes_.size() - used_;
    state_.next_in = reinterpret_cast<const Bytef*>(bytes_.data() + used_);
    state_.avail_in =
        static_cast<uInt>(std::min<std::size_t>(rest, std::numeric_limits<uInt>::max()));
    const uInt offered = state_.avail_in;
    state_.next_out = reinterpret_cast<Bytef*>(piece_.data());
    state_.avail_out = static_cast<uInt>(piece_.size());
    const int status = inflate(&state_, Z_NO_FLUSH);
    used_ += offered - state_.avail_in;
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
  ZstdStream(std::string_view bytes, std::string name)
      : DecodedStream(bytes, std::move(name)), state_(ZSTD_createDStream(), ZSTD_freeDStream) {
    require(state_ != nullptr, name_, ": not enough memory");
  }

 private:
  std::size_t decode() override {
    ZSTD_inBuffer in{bytes_.data(), bytes_.size(), used_};
    ZSTD_outBuffer out{piece_.data(), piece_.size(), 0};
    const std::size_t status = ZSTD_decompressStream(state_.get(), &out, &in);
    used_ = in.pos;
    if (ZSTD_isError(status)) {
      fail_corrupt("Zstandard", ZSTD_getErrorName(status));
    }
    complete_ = status == 0;
    return out.pos;
  }

  std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> state_;
};

}  // namespace

Compression compression_of(const std::filesystem::path& path) {
  const auto extension = path.extension();
  return extension == ".gz"    ? Compression::kGzip
         : extension == ".zst" ? Compression::kZstd
                               : Compression::kNone;
}

std::unique_ptr<ByteStream> decompressed(std::string_view bytes,
                                         Compression compression,
                                         const std::string& name) {
  switch (compression) {
    case Compression::kNone:
      return std::make_unique<PlainStream>(bytes);
    case Compression::kGzip:
      return std::make_unique<GzipStream>(bytes, name);
    case Compression::kZstd:
      return std::make_unique<ZstdStream>(bytes, name);
  }
  fail("unknown compression of ", name);
}

}  // namespace braid
