#include "checkpoint/hdf5.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <ATen/ATen.h>

#include "checkpoint/dtype.h"
#include "checkpoint/hdf5_driver.h"
#include "checkpoint/hdf5_objects.h"
#include "core/error.h"

namespace braid {
namespace {

std::recursive_mutex& process_wide_lock() {
  static std::recursive_mutex mutex;
  return mutex;
}

constexpr hsize_t kAlignment = 64;  // bytes

std::string innermost_message() {
  std::string message = "unknown reason";
  const auto take_first = [](unsigned number, const H5E_error2_t* error, void* target) -> herr_t {
    if (number == 0 && error->desc != nullptr) {
      *static_cast<std::string*>(target) = error->desc;
    }
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, &message);
  return message;
}

// The library's text names its own functions and fields; what it says of the system or the file
// becomes a sentence.
std::string in_our_words(const std::string& said) {
  const std::string number_follows = "errno = ";
  if (const auto at = said.find(number_follows); at != std::string::npos) {
    return std::strerror(std::atoi(said.c_str() + at + number_follows.size()));
  }
  const auto says = [&said](const char* words) { return said.find(words) != std::string::npos; };
  if (says("signature not found")) {
    return "is no HDF5 file, or its beginning is damaged";
  }
  if (says("truncated file")) {
    return "is cut off: shorter than its header says";
  }
  if (says("doesn't exist") || says("not found")) {
    return "there is no such object in the file";
  }
  return "the file is damaged, or holds what Braid does not read (" + said + ")";
}

}  // namespace

template <class T>
T Hdf5File::checked(T result, const char* action, const std::string& object) const {
  if (result < 0) [[unlikely]] {
    const std::string reason = innermost_message();  // the next HDF5 call forgets it
    require_written();
    fail("cannot ",
         action,
         object.empty() ? "" : " '" + object + "' in",
         " ",
         path_.string(),
         ": ",
         in_our_words(reason));
  }
  return result;
}

void Hdf5File::require_written() const {
  require(*write_error_ == 0, "cannot write ", path_.string(), ": ", std::strerror(*write_error_));
}

Hdf5File::Hdf5File(const std::filesystem::path& path, bool create)
    : path_(path), lock_(process_wide_lock()) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // errors become exceptions, not prints
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
  // Some network file systems have no locks; a checkpoint is renamed into place when finished.
  H5Pset_file_locking(access, false, true);
  if (create) {
    H5Pset_alignment(access, /*threshold=*/512, kAlignment);  // for view_tensor()
    use_remembering_driver(access, write_error_.get());
    id_ = checked(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, without_times(H5P_FILE_CREATE), access),
                  "create");
  } else {
    id_ = checked(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), "open");
  }
}

Hdf5File Hdf5File::create(const std::filesystem::path& path) {
  return Hdf5File(path, true);
}

Hdf5File Hdf5File::open(const std::filesystem::path& path) {
  return Hdf5File(path, false);
}

Hdf5File::Hdf5File(Hdf5File&& other) noexcept
    : path_(std::move(other.path_)),
      lock_(std::move(other.lock_)),
      write_error_(std::move(other.write_error_)),
      id_(std::exchange(other.id_, H5I_INVALID_HID)) {}

Hdf5File::~Hdf5File() {
  if (id_ >= 0) {
    H5Fclose(id_);
  }
}

void Hdf5File::close() {
  checked(H5Fclose(std::exchange(id_, H5I_INVALID_HID)), "close");
  lock_.unlock();
  require_written();
}

// Those that exist stay.
void Hdf5File::create_groups_above(const std::string& name) {
  for (auto slash = name.find('/', 1); slash != std::string::npos;
       slash = name.find('/', slash + 1)) {
    const auto group = name.substr(0, slash);
    if (H5Lexists(id_, group.c_str(), H5P_DEFAULT) <= 0) {
      create_group(group);
    }
  }
}

Hdf5Handle Hdf5File::create_group(const std::string& name) {
  return {checked(H5Gcreate2(
                      id_, name.c_str(), H5P_DEFAULT, without_times(H5P_GROUP_CREATE), H5P_DEFAULT),
                  "create",
                  name),
          H5Gclose};
}

std::string dataset_name(const TensorPiece& piece) {
  return piece.is_whole() ? piece.name : text(piece.name, '@', piece.offset);
}

Hdf5Handle Hdf5File::create_dataset(const std::string& name,
                                    at::ScalarType dtype,
                                    at::IntArrayRef sizes,
                                    const TensorPiece& piece,
                                    hid_t properties) {
  const Hdf5Handle type = hdf5_type(dtype), space = hdf5_space(sizes);
  create_groups_above(name);
  Hdf5Handle dataset(
      checked(H5Dcreate2(id_, name.c_str(), type, space, H5P_DEFAULT, properties, H5P_DEFAULT),
              "create",
              name),
      H5Dclose);
  const auto rank = static_cast<hsize_t>(piece.shape.size());
  const Hdf5Handle rank_space(H5Screate_simple(1, &rank, nullptr), H5Sclose);
  std::vector<int64_t> offset(piece.shape.size(), 0);
  if (!offset.empty()) {
    offset[0] = piece.offset;
  }
  const bool good =
      write_string_attribute(dataset, "dtype", dtype_name(dtype)) >= 0 &&
      write_attribute(dataset, "global_shape", H5T_STD_I64LE, rank_space, piece.shape.data()) >=
          0 &&
      write_attribute(dataset, "offset", H5T_STD_I64LE, rank_space, offset.data()) >= 0;
  checked(good ? 0 : -1, "write the attributes of", name);
  return dataset;
}

void Hdf5File::write_tensor(const std::string& name, const at::Tensor& tensor) {
  write_piece(whole({name, tensor}));
}

void Hdf5File::write_piece(const TensorPiece& piece, int deflate_level) {
  constexpr std::size_t kWorthCompressing = 1 << 16;  // bytes
  constexpr int64_t kChunk = 1 << 18;                 // elements
  const auto& tensor = piece.value;
  const auto name = dataset_name(piece);
  const Hdf5Handle type = hdf5_type(tensor.scalar_type()),
                   properties = dataset_properties(tensor.scalar_type(), type);
  if (deflate_level > 0 && tensor.dim() > 0 && tensor.nbytes() >= kWorthCompressing) {
    std::vector<hsize_t> chunk(tensor.sizes().begin(), tensor.sizes().end());
    const int64_t row = tensor.numel() / tensor.size(0);
    chunk[0] = static_cast<hsize_t>(std::clamp<int64_t>(kChunk / row, 1, tensor.size(0)));
    H5Pset_chunk(properties, static_cast<int>(chunk.size()), chunk.data());
    H5Pset_shuffle(properties);
    H5Pset_deflate(properties, static_cast<unsigned>(deflate_level));
  }
  const Hdf5Handle dataset =
      create_dataset(name, tensor.scalar_type(), tensor.sizes(), piece, properties);
  if (tensor.numel() > 0) {
    const auto contiguous = tensor.detach().cpu().contiguous();
    checked(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, contiguous.const_data_ptr()),
            "write",
            name);
  }
  require_written();
}

void Hdf5File::write_virtual(const std::string& name,
                             const at::Tensor& tensor,
                             const std::string& source) {
  write_virtual({{whole({name, tensor}), source}});
}

void Hdf5File::write_virtual(const std::vector<VirtualPart>& parts) {
  const auto& first = parts.front().piece;
  if (first.value.dim() == 0 || first.value.numel() == 0) {
    write_piece(first);
    return;
  }
  const auto dtype = first.value.scalar_type();
  const Hdf5Handle type = hdf5_type(dtype), properties = dataset_properties(dtype, type);
  for (const auto& [piece, source] : parts) {
    const Hdf5Handle own = hdf5_space(piece.value.sizes()), target = hdf5_space(piece.shape);
    std::vector<hsize_t> start(piece.shape.size(), 0),
        count(piece.value.sizes().begin(), piece.value.sizes().end());
    start[0] = static_cast<hsize_t>(piece.offset);
    checked(
        H5Sselect_hyperslab(target, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr),
        "map",
        piece.name);
    checked(H5Pset_virtual(
                properties, target, source.c_str(), text("/", dataset_name(piece)).c_str(), own),
            "map",
            piece.name);
  }
  const TensorPiece all{first.name, {}, first.shape, 0};
  const Hdf5Handle dataset = create_dataset(first.name, dtype, first.shape, all, properties);
  require_written();
}

Hdf5Handle Hdf5File::open_dataset(const std::string& name) const {
  return {checked(H5Dopen2(id_, name.c_str(), H5P_DEFAULT), "open", name), H5Dclose};
}

at::Tensor Hdf5File::described(hid_t dataset, const std::string& name) const {
  const Hdf5Handle attribute(
      checked(H5Aopen(dataset, "dtype", H5P_DEFAULT), "find the dtype of", name), H5Aclose);
  const std::string spelling = read_string_attribute(attribute).value_or("");
  const auto dtype = dtype_from_name(spelling);
  require(dtype.has_value(),
          path_.string(),
          ": dtype '",
          spelling,
          "' of '",
          name,
          "' is not one of ",
          known_dtype_names());
  const Hdf5Handle space(checked(H5Dget_space(dataset), "read the shape of", name), H5Sclose);
  std::vector<hsize_t> sizes(
      static_cast<size_t>(checked(H5Sget_simple_extent_ndims(space), "read the shape of", name)));
  checked(H5Sget_simple_extent_dims(space, sizes.data(), nullptr), "read the shape of", name);
  const Hdf5Handle type = hdf5_type(*dtype),
                   stored(checked(H5Dget_type(dataset), "read the type of", name), H5Tclose);
  require(H5Tequal(type, stored) > 0,
          path_.string(),
          ": '",
          name,
          "' is not stored as its dtype ",
          spelling,
          " says");
  return at::empty(std::vector<int64_t>(sizes.begin(), sizes.end()),
                   at::device(at::kMeta).dtype(*dtype));
}

at::Tensor Hdf5File::describe_tensor(const std::string& name) const {
  return described(open_dataset(name), name);
}

std::vector<int64_t> Hdf5File::read_numbers(hid_t dataset, const char* name) const {
  const Hdf5Handle attribute(checked(H5Aopen(dataset, name, H5P_DEFAULT), "find", name), H5Aclose);
  const Hdf5Handle space(checked(H5Aget_space(attribute), "read", name), H5Sclose);
  std::vector<int64_t> numbers(
      static_cast<std::size_t>(checked(H5Sget_simple_extent_npoints(space), "read", name)));
  if (!numbers.empty()) {
    checked(H5Aread(attribute, H5T_NATIVE_INT64, numbers.data()), "read", name);
  }
  return numbers;
}

TensorPiece Hdf5File::describe_piece(const std::string& its_dataset) const {
  const auto dataset = open_dataset(its_dataset);
  TensorPiece piece{its_dataset, described(dataset, its_dataset), {}, 0};
  piece.shape = read_numbers(dataset, "global_shape");
  const auto offset = read_numbers(dataset, "offset");
  piece.offset = offset.empty() ? 0 : offset[0];
  const auto& sizes = piece.value.sizes();
  bool fits = sizes.size() == piece.shape.size() && piece.offset >= 0;
  for (std::size_t i = 0; fits && i < piece.shape.size(); ++i) {
    fits = i == 0 ? piece.offset + sizes[i] <= piece.shape[i] : sizes[i] == piece.shape[i];
  }
  require(fits,
          path_.string(),
          ": '",
          its_dataset,
          "' of shape ",
          sizes,
          " at ",
          piece.offset,
          " does not lie within ",
          at::IntArrayRef(piece.shape));
  if (const auto at = its_dataset.rfind('@'); !piece.is_whole() && at != std::string::npos) {
    piece.name.erase(at);
  }
  return piece;
}

at::Tensor Hdf5File::read_tensor(const std::string& name) const {
  const auto dataset = open_dataset(name);
  const auto shape = described(dataset, name);
  auto tensor = at::empty(shape.sizes(), shape.scalar_type());
  if (tensor.numel() > 0) {
    const auto type = hdf5_type(tensor.scalar_type());
    checked(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, tensor.mutable_data_ptr()),
            "read",
            name);
  }
  return tensor;
}

at::Tensor Hdf5File::view_tensor(const std::string& name,
                                 const std::shared_ptr<const MappedFile>& mapped) const {
  const auto dataset = open_dataset(name);
  const auto shape = described(dataset, name);
  const Hdf5Handle properties(checked(H5Dget_create_plist(dataset), "look at", name), H5Pclose);
  if (H5Pget_layout(properties) == H5D_CHUNKED) {  // compressed
    return read_tensor(name);
  }
  const haddr_t offset = shape.numel() > 0 ? H5Dget_offset(dataset) : 0;
  require(offset != HADDR_UNDEF,
          path_.string(),
          ": '",
          name,
          "' is not stored in one piece, as Braid writes tensors");
  if (offset % shape.element_size() != 0) {
    return read_tensor(name);
  }
  require(offset <= mapped->size() && shape.nbytes() <= mapped->size() - offset,
          path_.string(),
          ": '",
          name,
          "' reaches beyond the end of the file");
  return at::from_blob(
      const_cast<std::byte*>(mapped->data() + offset),
      shape.sizes(),
      [mapped](void*) {},
      at::dtype(shape.scalar_type()));
}

std::vector<std::string> Hdf5File::tensor_names() const {
  std::vector<std::string> names;
  const auto add_dataset =
      [](hid_t, const char* name, const H5O_info_t* info, void* target) -> herr_t {
    if (info->type == H5O_TYPE_DATASET) {
      static_cast<std::vector<std::string>*>(target)->emplace_back(name);
    }
    return 0;
  };
  checked(H5Ovisit2(id_, H5_INDEX_NAME, H5_ITER_INC, add_dataset, &names, H5O_INFO_BASIC), "list");
  return names;
}

void Hdf5File::write_attributes(const std::string& group_name, const Hdf5Attributes& attributes) {
  create_groups_above(group_name);
  const auto group = create_group(group_name);
  const Hdf5Handle space = hdf5_space({});
  for (const auto& [name, value] : attributes) {
    herr_t result = 0;
    if (const auto* integer = std::get_if<int64_t>(&value)) {
      result = write_attribute(group, name.c_str(), H5T_STD_I64LE, space, integer);
    } else if (const auto* real = std::get_if<double>(&value)) {
      result = write_attribute(group, name.c_str(), H5T_IEEE_F64LE, space, real);
    } else {
      const auto& characters = std::get<std::string>(value);
      require(characters.find('\0') == std::string::npos,
              "attribute '",
              name,
              "' for ",
              path_.string(),
              " contains a NUL byte");
      result = write_string_attribute(group, name.c_str(), characters);
    }
    checked(result, "write attribute", group_name + "/" + name);
  }
  require_written();
}

Hdf5Attributes Hdf5File::read_attributes(const std::string& group_name) const {
  const Hdf5Handle group(
      checked(H5Gopen2(id_, group_name.c_str(), H5P_DEFAULT), "open", group_name), H5Gclose);
  std::vector<std::string> names;
  const auto add_name = [](hid_t, const char* name, const H5A_info_t*, void* target) -> herr_t {
    static_cast<std::vector<std::string>*>(target)->emplace_back(name);
    return 0;
  };
  checked(H5Aiterate2(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, add_name, &names),
          "list",
          group_name);
  Hdf5Attributes attributes;
  for (const auto& name : names) {
    const std::string object = group_name + "/" + name;
    const Hdf5Handle attribute(checked(H5Aopen(group, name.c_str(), H5P_DEFAULT), "open", object),
                               H5Aclose);
    const Hdf5Handle type(checked(H5Aget_type(attribute), "read", object), H5Tclose);
    if (H5Tget_class(type) == H5T_INTEGER) {
      int64_t value = 0;
      checked(H5Aread(attribute, H5T_STD_I64LE, &value), "read", object);
      attributes[name] = value;
    } else if (H5Tget_class(type) == H5T_FLOAT) {
      double value = 0;
      checked(H5Aread(attribute, H5T_IEEE_F64LE, &value), "read", object);
      attributes[name] = value;
    } else {
      const auto value = read_string_attribute(attribute);
      checked(value ? 0 : -1, "read", object);
      attributes[name] = *value;
    }
  }
  return attributes;
}

}  // namespace braid
