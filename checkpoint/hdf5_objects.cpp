#include "checkpoint/hdf5_objects.h"

#include <limits>
#include <vector>

#include <ATen/ATen.h>

namespace braid {
namespace {

// A float of 16 bits: sign, `exponent_bits`, mantissa.
Hdf5Handle half_type(size_t exponent_bits, size_t bias) {
  const size_t mantissa_bits = 15 - exponent_bits;
  Hdf5Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  H5Tset_fields(type, 15, mantissa_bits, exponent_bits, 0, mantissa_bits);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, bias);
  return type;
}

Hdf5Handle string_type() {
  Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, H5T_VARIABLE);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

}  // namespace

Hdf5Handle hdf5_type(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return {H5Tcopy(H5T_IEEE_F64LE), H5Tclose};
    case at::kFloat:
      return {H5Tcopy(H5T_IEEE_F32LE), H5Tclose};
    case at::kHalf:
      return half_type(5, 15);
    case at::kBFloat16:
      return half_type(8, 127);
    case at::kLong:
      return {H5Tcopy(H5T_STD_I64LE), H5Tclose};
    case at::kInt:
      return {H5Tcopy(H5T_STD_I32LE), H5Tclose};
    case at::kShort:
      return {H5Tcopy(H5T_STD_I16LE), H5Tclose};
    case at::kChar:
      return {H5Tcopy(H5T_STD_I8LE), H5Tclose};
    default:  // U8, BOOL, F8_E4M3, F8_E8M0; dtype_name() refuses all others
      return {H5Tcopy(H5T_STD_U8LE), H5Tclose};
  }
}

Hdf5Handle hdf5_space(at::IntArrayRef shape) {
  if (shape.empty()) {
    return {H5Screate(H5S_SCALAR), H5Sclose};
  }
  const std::vector<hsize_t> sizes(shape.begin(), shape.end());
  return {H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr), H5Sclose};
}

Hdf5Handle without_times(hid_t properties_class) {
  Hdf5Handle properties(H5Pcreate(properties_class), H5Pclose);
  H5Pset_obj_track_times(properties, false);
  return properties;
}

Hdf5Handle dataset_properties(at::ScalarType dtype, hid_t type) {
  auto properties = without_times(H5P_DATASET_CREATE);
  if (dtype == at::kDouble || dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16) {
    const auto nan = at::scalar_tensor(std::numeric_limits<double>::quiet_NaN(), dtype);
    H5Pset_fill_value(properties, type, nan.const_data_ptr());
  }
  return properties;
}

herr_t write_attribute(hid_t object, const char* name, hid_t type, hid_t space, const void* value) {
  const Hdf5Handle attribute(H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT),
                             H5Aclose);
  if (attribute < 0) {
    return -1;
  }
  return H5Sget_simple_extent_npoints(space) == 0 ? 0 : H5Awrite(attribute, type, value);
}

herr_t write_string_attribute(hid_t object, const char* name, const std::string& value) {
  const char* characters = value.c_str();
  return write_attribute(object, name, string_type(), hdf5_space({}), &characters);
}

std::optional<std::string> read_string_attribute(hid_t attribute) {
  char* characters = nullptr;
  if (H5Aread(attribute, string_type(), &characters) < 0 || characters == nullptr) {
    return std::nullopt;
  }
  std::string value = characters;
  H5free_memory(characters);
  return value;
}

}  // namespace braid
