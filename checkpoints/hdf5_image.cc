#include "checkpoints/hdf5_image.h"

#include <hdf5.h>
#include <xxhash.h>

#include <atomic>
#include <cstring>
#include <mutex>

#include "comm/error.h"

namespace svfleet {
namespace {

// Trailer: 8 bytes magic, uint32 version, uint32 zero, uint64 length of the HDF5 image, uint64
// XXH3-64 of the image and of the trailer's first 24 bytes. Never renumber; docs/formats.md.
constexpr char kImageMagic[9] = "SVFLEET\x1a";
constexpr uint32_t kTrailerVersion = 1;
constexpr size_t kTrailerBytes = 32;

// Held around every use of the HDF5 library, which is not thread-safe.
class Library {
 public:
  Library() : lock_(mutex()) { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

 private:
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  std::lock_guard<std::mutex> lock_;
};

// The innermost message of HDF5's error stack, which is then emptied.
std::string hdf5_reason() {
  std::string text = "no reason given";
  auto visit = [](unsigned n, const H5E_error2_t* error, void* out) -> herr_t {
    if (n == 0 && error->desc) *static_cast<std::string*>(out) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, visit, &text);
  H5Eclear2(H5E_DEFAULT);
  return text;
}

class Handle {
 public:
  Handle() = default;
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept { *this = std::move(other); }
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Handle() { close(); }
  bool close() {
    const bool good = id_ < 0 || close_(id_) >= 0;
    id_ = -1;
    return good;
  }
  operator hid_t() const { return id_; }

 private:
  hid_t id_ = -1;
  herr_t (*close_)(hid_t) = nullptr;
};

// HDF5 takes two files of the same name for one file, in memory too.
std::string unique_name() {
  static std::atomic<int64_t> count{0};
  return "image-" + std::to_string(count++);
}

uint64_t product(const std::vector<int64_t>& shape) {
  uint64_t n = 1;
  for (int64_t size : shape) n *= static_cast<uint64_t>(size);
  return n;
}

// H5T_ names are macros that call into HDF5: only under its lock.
hid_t file_type(float) {
  return H5T_IEEE_F32LE;
}
hid_t file_type(double) {
  return H5T_IEEE_F64LE;
}
hid_t file_type(int64_t) {
  return H5T_STD_I64LE;
}
hid_t file_type(uint16_t) {
  return H5T_STD_U16LE;
}

[[noreturn]] void hdf5_failed(const std::string& what) {
  throw make_error(kExitInternal, "HDF5 cannot write ", what, ": ", hdf5_reason());
}
template <class T>
T wrote(T result, const std::string& what) {
  if (result < 0) hdf5_failed(what);
  return result;
}

}  // namespace

namespace {

// "p", or "experts/max3/p": a name, below groups.
bool is_path(const std::string& name) {
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    if (part.empty() || part == ".") return false;
    begin = end + 1;
  }
  return true;
}

}  // namespace

struct Hdf5Writer::Impl {
  Handle file;

  void put(const std::string& name, hid_t type, const std::vector<int64_t>* shape, uint64_t count,
           const void* data, const char* attribute = nullptr) {
    SVFLEET_CHECK(file >= 0, name, " after finish()");
    SVFLEET_CHECK(is_path(name), "name ", name);
    Handle space;
    if (shape && !shape->empty()) {
      for (int64_t size : *shape) SVFLEET_CHECK(size >= 0, name, " has a size of ", size);
      SVFLEET_CHECK(product(*shape) == count, name, ": ", count, " values in the wrong shape");
      const std::vector<hsize_t> sizes(shape->begin(), shape->end());
      const int rank = static_cast<int>(sizes.size());
      space = Handle(H5Screate_simple(rank, sizes.data(), nullptr), H5Sclose);
    } else {
      SVFLEET_CHECK(count <= 1, name, ": ", count, " values in a scalar");
      space = Handle(H5Screate(count == 0 ? H5S_NULL : H5S_SCALAR), H5Sclose);
    }
    wrote<hid_t>(space, name);
    // The same content gives the same bytes: no times, one layout, no fill values.
    const Handle properties(wrote(H5Pcreate(H5P_DATASET_CREATE), name), H5Pclose);
    wrote(H5Pset_obj_track_times(properties, false), name);
    wrote(H5Pset_layout(properties, H5D_CONTIGUOUS), name);
    wrote(H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER), name);
    const Handle links(wrote(H5Pcreate(H5P_LINK_CREATE), name), H5Pclose);
    wrote(H5Pset_create_intermediate_group(links, 1), name);
    const Handle set(
        wrote(H5Dcreate2(file, name.c_str(), type, space, links, properties, H5P_DEFAULT), name),
        H5Dclose);
    if (count > 0) wrote(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), name);
    if (attribute) {
      const Handle text(wrote(H5Tcopy(H5T_C_S1), name), H5Tclose);
      wrote(H5Tset_size(text, std::strlen(attribute)), name);
      wrote(H5Tset_strpad(text, H5T_STR_NULLPAD), name);
      const Handle one(wrote(H5Screate(H5S_SCALAR), name), H5Sclose);
      const Handle note(wrote(H5Acreate2(set, "type", text, one, H5P_DEFAULT, H5P_DEFAULT), name),
                        H5Aclose);
      wrote(H5Awrite(note, text, attribute), name);
    }
  }
};

Hdf5Writer::Hdf5Writer() : impl_(std::make_unique<Impl>()) {
  Library library;
  const std::string what = "a new file";
  const Handle access(wrote(H5Pcreate(H5P_FILE_ACCESS), what), H5Pclose);
  wrote(H5Pset_fapl_core(access, 1 << 20, false), what);
  // The oldest layout: HDF5 1.10's H5Fget_file_image spoils the checksum that newer superblocks
  // have.
  wrote(H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_V18), what);
  const Handle creation(wrote(H5Pcreate(H5P_FILE_CREATE), what), H5Pclose);
  wrote(H5Pset_obj_track_times(creation, false), what);
  impl_->file = Handle(
      wrote(H5Fcreate(unique_name().c_str(), H5F_ACC_TRUNC, creation, access), what), H5Fclose);
}

Hdf5Writer::~Hdf5Writer() {
  Library library;
  impl_->file.close();
}

void Hdf5Writer::text(const std::string& name, std::string_view value) {
  Library library;
  const Handle type(wrote(H5Tcopy(H5T_C_S1), name), H5Tclose);
  wrote(H5Tset_size(type, value.empty() ? 1 : value.size()), name);
  wrote(H5Tset_cset(type, H5T_CSET_UTF8), name);
  wrote(H5Tset_strpad(type, H5T_STR_NULLPAD), name);
  impl_->put(name, type, nullptr, value.empty() ? 0 : 1, value.data());
}

void Hdf5Writer::integer(const std::string& name, int64_t value) {
  Library library;
  impl_->put(name, H5T_STD_I64LE, nullptr, 1, &value);
}

void Hdf5Writer::real(const std::string& name, double value) {
  Library library;
  impl_->put(name, H5T_IEEE_F64LE, nullptr, 1, &value);
}

void Hdf5Writer::floats(const std::string& name, std::span<const float> v,
                        std::vector<int64_t> shape) {
  Library library;
  impl_->put(name, H5T_IEEE_F32LE, &shape, v.size(), v.data());
}

void Hdf5Writer::doubles(const std::string& name, std::span<const double> v,
                         std::vector<int64_t> shape) {
  Library library;
  impl_->put(name, H5T_IEEE_F64LE, &shape, v.size(), v.data());
}

void Hdf5Writer::integers(const std::string& name, std::span<const int64_t> v) {
  Library library;
  const std::vector<int64_t> shape{static_cast<int64_t>(v.size())};
  impl_->put(name, H5T_STD_I64LE, &shape, v.size(), v.data());
}

void Hdf5Writer::bfloat16s(const std::string& name, std::span<const uint16_t> v,
                           std::vector<int64_t> shape) {
  Library library;
  impl_->put(name, H5T_STD_U16LE, &shape, v.size(), v.data(), "bfloat16");
}

std::string Hdf5Writer::finish() {
  std::string image;
  {
    Library library;
    SVFLEET_CHECK(impl_->file >= 0, "finish()", " twice");
    wrote(H5Fflush(impl_->file, H5F_SCOPE_GLOBAL), "the file");
    const ssize_t size = wrote(H5Fget_file_image(impl_->file, nullptr, 0), "the file");
    image.reserve(static_cast<size_t>(size) + kTrailerBytes);
    image.resize(static_cast<size_t>(size));
    wrote(H5Fget_file_image(impl_->file, image.data(), image.size()), "the file");
    if (!impl_->file.close()) hdf5_failed("the file");
  }
  const uint64_t length = image.size();
  const uint32_t version[2] = {kTrailerVersion, 0};
  image.append(kImageMagic, 8);
  image.append(reinterpret_cast<const char*>(version), sizeof version);
  image.append(reinterpret_cast<const char*>(&length), sizeof length);
  const uint64_t hash = XXH3_64bits(image.data(), image.size());
  image.append(reinterpret_cast<const char*>(&hash), sizeof hash);
  return image;
}

namespace {

// Throws unless `image` ends in a trailer that fits; returns the length of the HDF5 part.
size_t check_trailer(const std::string& image, const std::string& origin) {
  if (image.size() < kTrailerBytes)
    throw disk_error("'", origin, "' is damaged: only ", image.size(), " bytes long");
  const size_t length = image.size() - kTrailerBytes;
  const char* trailer = image.data() + length;
  if (std::memcmp(trailer, kImageMagic, 8) != 0)
    throw disk_error("'", origin, "' is damaged or not a svfleet file: its end is missing");
  uint32_t version;
  std::memcpy(&version, trailer + 8, sizeof version);
  uint64_t stored_length, hash;
  std::memcpy(&stored_length, trailer + 16, sizeof stored_length);
  std::memcpy(&hash, trailer + 24, sizeof hash);
  if (hash != XXH3_64bits(image.data(), image.size() - sizeof hash) || stored_length != length)
    throw disk_error("'", origin, "' is damaged: its checksum is wrong");
  if (version != kTrailerVersion)
    throw user_error("'", origin, "' was written by a newer svfleet (trailer version ", version,
                     "); use that one");
  return length;
}

}  // namespace

struct Hdf5Reader::Impl {
  std::string image;
  size_t length = 0;  // of the HDF5 part
  std::string origin;
  Handle file;

  template <class T>
  T good(T result, const std::string& name) const {
    if (result < 0)
      throw disk_error("'", origin, "': entry '", name, "' cannot be read: ", hdf5_reason());
    return result;
  }

  void open() {
    // HDF5 would copy the image twice; these callbacks lend it ours. Read-only, so unchanged.
    H5FD_file_image_callbacks_t lend = {
        [](size_t, H5FD_file_image_op_t, void* self) -> void* {
          return static_cast<Impl*>(self)->image.data();
        },
        [](void* to, const void* from, size_t bytes, H5FD_file_image_op_t, void*) -> void* {
          return to == from ? to : std::memcpy(to, from, bytes);
        },
        [](void*, size_t, H5FD_file_image_op_t, void*) -> void* { return nullptr; },
        [](void*, H5FD_file_image_op_t, void*) -> herr_t { return 0; },
        [](void* self) -> void* { return self; },
        [](void*) -> herr_t { return 0; },
        this};
    const std::string all = "/";
    const Handle access(good(H5Pcreate(H5P_FILE_ACCESS), all), H5Pclose);
    good(H5Pset_fapl_core(access, 1 << 20, false), all);
    good(H5Pset_file_image_callbacks(access, &lend), all);
    good(H5Pset_file_image(access, image.data(), length), all);
    file = Handle(good(H5Fopen(unique_name().c_str(), H5F_ACC_RDONLY, access), all), H5Fclose);
  }

  struct Entry {
    Handle set, type;
    std::vector<int64_t> shape;
    uint64_t count = 0;
  };
  Entry entry(const std::string& name) const {
    if (name.empty() || good(H5Lexists(file, name.c_str(), H5P_DEFAULT), name) == 0)
      throw disk_error("'", origin, "': entry '", name, "' is missing");
    Entry e;
    e.set = Handle(good(H5Dopen2(file, name.c_str(), H5P_DEFAULT), name), H5Dclose);
    e.type = Handle(good(H5Dget_type(e.set), name), H5Tclose);
    const Handle space(good(H5Dget_space(e.set), name), H5Sclose);
    const int rank = good(H5Sget_simple_extent_ndims(space), name);
    std::vector<hsize_t> sizes(static_cast<size_t>(rank));
    if (rank > 0) good(H5Sget_simple_extent_dims(space, sizes.data(), nullptr), name);
    e.shape.assign(sizes.begin(), sizes.end());
    const bool empty = good(H5Sget_simple_extent_type(space), name) == H5S_NULL;
    e.count = empty ? 0 : static_cast<uint64_t>(good(H5Sget_simple_extent_npoints(space), name));
    const uint64_t size = H5Tget_size(e.type);
    // libhdf5 1.10 copies from where the file says, without a look at where the file ends, or
    // whether there is anything at all.
    const haddr_t place = H5Dget_offset(e.set);
    const uint64_t stored = H5Dget_storage_size(e.set);
    const bool outside =
        stored < e.count * size ||
        (place != HADDR_UNDEF && (place > length || e.count * size > length - place));
    if (size == 0 || e.count > length / size || outside)
      throw disk_error("'", origin, "': entry '", name, "' is larger than the file");
    return e;
  }

  bool has_type(const Entry& e, hid_t type, const std::string& name) const {
    return good(H5Tequal(e.type, type), name) > 0;
  }
  void read(const Entry& e, const std::string& name, void* to) const {
    if (e.count > 0) good(H5Dread(e.set, e.type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to), name);
  }
  template <class T>
  std::vector<T> values(const std::string& name, const char* type_name) const {
    Library library;
    const Entry e = entry(name);
    if (!has_type(e, file_type(T()), name))
      throw disk_error("'", origin, "': entry '", name, "' is not of type ", type_name);
    std::vector<T> out(e.count);
    read(e, name, out.data());
    return out;
  }
  template <class T>
  T value(const std::string& name, const char* type_name) const {
    const std::vector<T> all = values<T>(name, type_name);
    if (all.size() != 1)
      throw disk_error("'", origin, "': entry '", name, "' is not a single value");
    return all[0];
  }
};

Hdf5Reader::Hdf5Reader(std::string image, std::string origin) : impl_(std::make_unique<Impl>()) {
  impl_->length = check_trailer(image, origin);
  impl_->image = std::move(image);
  impl_->origin = std::move(origin);
  Library library;
  impl_->open();
}

Hdf5Reader::~Hdf5Reader() {
  Library library;
  impl_->file.close();
}

bool Hdf5Reader::has(const std::string& name) const {
  Library library;
  return !name.empty() && impl_->good(H5Lexists(impl_->file, name.c_str(), H5P_DEFAULT), name) > 0;
}

std::string Hdf5Reader::text(const std::string& name) const {
  Library library;
  const Impl::Entry e = impl_->entry(name);
  if (H5Tget_class(e.type) != H5T_STRING || H5Tis_variable_str(e.type) != 0 || e.count > 1)
    throw disk_error("'", impl_->origin, "': entry '", name, "' is not of type text");
  std::string out(e.count * H5Tget_size(e.type), '\0');
  impl_->read(e, name, out.data());
  return out;
}

int64_t Hdf5Reader::integer(const std::string& name) const {
  return impl_->value<int64_t>(name, "int64");
}
double Hdf5Reader::real(const std::string& name) const {
  return impl_->value<double>(name, "float64");
}
std::vector<float> Hdf5Reader::floats(const std::string& name) const {
  return impl_->values<float>(name, "float32");
}
std::vector<double> Hdf5Reader::doubles(const std::string& name) const {
  return impl_->values<double>(name, "float64");
}
std::vector<int64_t> Hdf5Reader::integers(const std::string& name) const {
  return impl_->values<int64_t>(name, "int64");
}
std::vector<uint16_t> Hdf5Reader::bfloat16s(const std::string& name) const {
  return impl_->values<uint16_t>(name, "bfloat16");
}

std::vector<int64_t> Hdf5Reader::shape(const std::string& name) const {
  Library library;
  return impl_->entry(name).shape;
}

bool Hdf5Reader::is_bfloat16(const std::string& name) const {
  Library library;
  const Impl::Entry e = impl_->entry(name);
  return impl_->has_type(e, H5T_STD_U16LE, name) && impl_->good(H5Aexists(e.set, "type"), name) > 0;
}

void Hdf5Reader::read_into(const std::string& name, void* destination, size_t bytes) const {
  Library library;
  const Impl::Entry e = impl_->entry(name);
  if (!impl_->has_type(e, H5T_IEEE_F32LE, name) && !impl_->has_type(e, H5T_STD_U16LE, name))
    throw disk_error("'", impl_->origin, "': entry '", name, "' is neither float32 nor bfloat16");
  const uint64_t stored = e.count * H5Tget_size(e.type);
  if (stored != bytes)
    throw disk_error("'", impl_->origin, "': entry '", name, "' has ", stored, " bytes, not ",
                     bytes);
  impl_->read(e, name, destination);
}

}  // namespace svfleet
