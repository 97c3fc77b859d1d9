#include "parallel/cuda_plugin.h"

#include <cstdlib>
#include <cstring>

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>

#include "core/error.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibrary = "libbraid_cuda.so";

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  fail("no GPU can be used: ", parts...);
}

// dlerror() begins with the library that is missing, or with the one that has a fault.
[[noreturn]] void refuse_library(const fs::path& path) {
  const std::string said = dlerror();
  const auto end = said.find(": cannot open shared object file");
  if (end == std::string::npos) {
    refuse(path.string(), " does not load: ", said);
  }
  const auto missing = said.substr(0, end);
  if (missing == path) {
    refuse(missing, " is missing; scripts/setup.sh --cuda installs it");
  }
  refuse(
      path.string(), " needs ", missing, ", which is missing; scripts/setup.sh --cuda installs it");
}

void* open_library(const fs::path& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    refuse_library(path);
  }
  return library;
}

fs::path existing_plugin(const std::vector<fs::path>& places) {
  std::string looked_at;
  for (const auto& place : places) {
    std::error_code ignored;
    if (fs::exists(place, ignored)) {
      return place;
    }
    looked_at += text(looked_at.empty() ? "" : ", ", place.string());
  }
  refuse("the plugin ",
         kLibrary,
         " is not there (",
         looked_at,
         "); scripts/setup.sh --cuda, cmake --preset cuda and ninja -C build-cuda make it");
}

// A driver is looked for before 500 MB of libraries are loaded in vain.
void require_driver(const std::string& driver) {
  if (dlopen(driver.c_str(), RTLD_LAZY | RTLD_GLOBAL) == nullptr) {
    refuse(
        "there is no NVIDIA driver (", driver, " does not load); install it, or train on the CPU");
  }
}

std::string version_text(int version) {
  return text(version / 1000, ".", version % 1000 / 10);
}

void require_device(const CudaPlugin& plugin) {
  const int driver = plugin.driver_version();
  if (driver == 0) {
    refuse(
        "there is no NVIDIA driver (CUDA's runtime finds none); install it, or train on the CPU");
  }
  if (driver / 1000 < plugin.cuda_version / 1000) {
    refuse("the NVIDIA driver is too old: it knows CUDA ",
           version_text(driver),
           ", and ",
           kLibrary,
           " needs CUDA ",
           version_text(plugin.cuda_version / 1000 * 1000),
           " or newer; update the driver");
  }
  if (plugin.device_count() == 0) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    refuse("the NVIDIA driver shows no GPU (",
           plugin.device_problem(),
           visible == nullptr ? "" : text("; CUDA_VISIBLE_DEVICES is '", visible, "'"),
           "); nvidia-smi lists those of the machine");
  }
}

}  // namespace

const char* cuda_plugin_stamp() {
  return BRAID_CUDA_STAMP;
}

CudaPluginPlaces CudaPluginPlaces::usual() {
  CudaPluginPlaces places;
  if (const char* given = std::getenv("BRAID_CUDA_PLUGIN")) {
    places.plugin = {given};
  } else {
    const auto folder = fs::read_symlink("/proc/self/exe").parent_path();
    places.plugin = {folder / kLibrary, folder.parent_path() / BRAID_LIBDIR / kLibrary};
  }
  Dl_info torch_cpu{};
  require(dladdr(reinterpret_cast<const void*>(&at::globalContext), &torch_cpu) != 0,
          "LibTorch's folder is not known; this should not happen");
  places.torch = fs::path(torch_cpu.dli_fname).parent_path() / "libtorch_cuda.so";
  return places;
}

const CudaPlugin& open_cuda_plugin(const CudaPluginPlaces& places) {
  const auto path = existing_plugin(places.plugin);
  require_driver(places.driver);
  // First and for everyone: its kernels register themselves, and the plugin's symbols are there.
  open_library(places.torch);
  void* library = open_library(path);
  const auto* stamp = static_cast<const char*>(dlsym(library, kCudaPluginStampSymbol));
  if (stamp == nullptr || std::strcmp(stamp, cuda_plugin_stamp()) != 0) {
    refuse(path.string(),
           " is of another build of Braid (",
           stamp == nullptr ? "unknown" : stamp,
           "; this program is ",
           cuda_plugin_stamp(),
           "); build and install both together");
  }
  const auto plugin = reinterpret_cast<const CudaPlugin* (*)()>(dlsym(library, kCudaPluginSymbol));
  require(plugin != nullptr, path.string(), " has no ", kCudaPluginSymbol, "()");
  require_device(*plugin());
  return *plugin();
}

const CudaPlugin& cuda_plugin() {
  static const CudaPlugin& plugin = [&]() -> const CudaPlugin& {
    const auto& opened = open_cuda_plugin(CudaPluginPlaces::usual());
    require(at::detail::getCUDAHooks().hasCUDART(),
            "LibTorch was asked about GPUs before libbraid_cuda.so was opened, and remembers that "
            "there are none; this should not happen");
    return opened;
  }();
  return plugin;
}

}  // namespace braid
