// W' built from a stored factor against U diag(sigma z) V^T from LAPACK's dgesdd in float64.
#include "svd/factor.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "checkpoints/file.h"
#include "checkpoints/hdf5_image.h"
#include "checkpoints/safetensors.h"
#include "comm/error.h"
#include "comm/stage.h"
#include "svd/store.h"

namespace svfleet {
namespace {

Target target_of(int64_t rows, int64_t cols, Form form) {
  return {"model.layers.0.mlp.up_proj.weight", "up_proj", 0, rows, cols, form, 0};
}
// On the smaller side.
Target target_of(int64_t rows, int64_t cols) {
  return on_smaller_side(target_of(rows, cols, Form::kRight));
}

at::Tensor seeded(std::vector<int64_t> shape, int seed) {
  at::manual_seed(seed);
  return at::randn(shape, at::kDouble);
}

// Gaussian; a bulk with power-law outliers, as in language models; condition number 1e4; a matrix
// that lacks rank.
std::vector<at::Tensor> spectra(int64_t rows, int64_t cols) {
  const int64_t r = std::min(rows, cols);
  auto with = [&](const at::Tensor& sigma, int seed) {
    auto [u, s0, v0] = at::linalg_svd(seeded({rows, cols}, seed), false);
    return (u * sigma).mm(v0);
  };
  at::Tensor i = at::arange(1, r + 1, at::kDouble);
  at::Tensor outliers = at::ones({r}, at::kDouble) + 50 / i.pow(1.2);
  at::Tensor steep = at::pow(10.0, -4.0 * (i - 1) / double(r - 1));
  at::Tensor short_rank = at::where(i <= r / 2, 1 / i, at::zeros_like(i));
  return {seeded({rows, cols}, 1), with(outliers, 2), with(steep, 3), with(short_rank, 4)};
}

double relative(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

// W' = W + W Q diag(d) Q^T or W + Q diag(d) Q^T W, in W's type.
void merge(Form form, const at::Tensor& w, const at::Tensor& q, const at::Tensor& d,
           at::Tensor& merged) {
  const at::Tensor basis = q.to(w.scalar_type()), c = (basis * d.to(w.scalar_type())).mm(basis.t());
  merged = w + (form == Form::kRight ? w.mm(c) : c.mm(w));
}

struct Shape {
  int64_t rows, cols;
};
// Each side of each shape: two are thin.
const Target kTargets[] = {target_of(96, 40, Form::kRight), target_of(40, 96, Form::kLeft),
                           target_of(96, 40, Form::kLeft),  target_of(40, 96, Form::kRight),
                           target_of(64, 64, Form::kRight), target_of(64, 64, Form::kLeft)};

// W' in float64 from a stored basis: what remains is the storage of Q alone.
at::Tensor merged_wide(const Factor& f, const at::Tensor& w, const at::Tensor& z) {
  at::Tensor out = at::empty_like(w);
  merge(f.target.form, w, f.q, z - 1, out);
  return out;
}

at::Tensor exact(const at::Tensor& w, const at::Tensor& z) {
  auto [u, s, vh] = at::linalg_svd(w, false);  // gesdd, on a CPU
  return (u * (s * z)).mm(vh);
}

TEST(Factor, AgreesWithLapackAtEverySpectrumFormAndStorage) {
  for (const Target& t : kTargets) {
    int number = 0;
    for (const at::Tensor& w64 : spectra(t.rows, t.cols)) {
      // z within 1 +- 0.1; for the rank-deficient matrix the null space's z are free.
      at::Tensor w = w64.to(at::kFloat);
      at::Tensor z = 1 + 0.1 * (2 * at::rand({t.length()}, at::kDouble) - 1);
      at::Tensor truth = exact(w.to(at::kDouble), z);
      Factor f32 = decompose(t, w, at::kFloat), bf16 = decompose(t, w, at::kBFloat16);
      at::Tensor wide = w.to(at::kDouble);
      EXPECT_LT(relative(merged_wide(f32, wide, z), truth), 1e-6) << number;
      EXPECT_LT(relative(merged_wide(bf16, wide, z), truth), 5e-4) << number;
      // The same through the float32 merge that training uses.
      at::Tensor merged = at::empty_like(w);
      merge(t.form, w, f32.q, (z - 1).to(at::kFloat), merged);
      EXPECT_LT(relative(merged.to(at::kDouble), truth), 1e-6) << number;
      // The certificates say so, each within a factor of three of what was measured.
      EXPECT_LT(f32.certificate.predicted_error, 1e-7);
      double measured = relative(merged_wide(bf16, wide, z), truth);
      EXPECT_LT(bf16.certificate.predicted_error, 3 * measured + 1e-6);
      EXPECT_GT(bf16.certificate.predicted_error, measured / 3);
      ++number;
    }
  }
}

// Before storage: what a basis costs on either side is the eigensolver's, 1.3e-11 at a condition of
// 1e4.
TEST(Factor, BothSidesAreTheSameWeightInFloat64) {
  for (const Target& t : kTargets) {
    double worst = 0;
    for (const at::Tensor& w : spectra(t.rows, t.cols)) {
      const at::Tensor z = 1 + 0.5 * (2 * at::rand({t.length()}, at::kDouble) - 1);
      const Factor f = decompose(t, w.clone(), at::kDouble);
      ASSERT_EQ(f.q.sizes(), at::IntArrayRef({t.basis_rows(), t.length()}));
      worst = std::max(worst, relative(merged_wide(f, w, z), exact(w, z)));
    }
    std::printf("%ld x %ld %s: W' is %.1e off\n", long(t.rows), long(t.cols), form_name(t.form),
                worst);
    EXPECT_LT(worst, 1e-10);
  }
}

// Control: the basis of the smaller side, with zeros below it, where the thin one of the larger
// side belongs; and a thin one that has a direction of the null space in place of its last.
TEST(Factor, TheComparisonNoticesTheWrongSide) {
  const at::Tensor w = seeded({40, 96}, 1), z = 1 + 0.1 * (2 * at::rand({40}, at::kDouble) - 1);
  const Factor thin = decompose(target_of(40, 96, Form::kRight), w, at::kFloat);
  Factor wrong = thin;
  wrong.q = at::zeros_like(thin.q);
  wrong.q.narrow(0, 0, 40).copy_(decompose(target_of(40, 96), w, at::kFloat).q);
  EXPECT_LT(relative(merged_wide(thin, w, z), exact(w, z)), 1e-6);
  EXPECT_GT(relative(merged_wide(wrong, w, z), exact(w, z)), 1e-2);
  const auto [u, s, all] = at::linalg_svd(w, true);
  wrong.q = thin.q.clone();
  wrong.q.select(1, 0).copy_(all[95]);
  EXPECT_GT(relative(merged_wide(wrong, w, z), exact(w, z)), 1e-3);
}

// Control: the same comparison notices a z that is shuffled, and a basis of another matrix.
TEST(Factor, TheComparisonNoticesWrongZAndWrongBasis) {
  at::Tensor w = seeded({96, 40}, 1);
  at::Tensor z = 1 + 0.1 * (2 * at::rand({40}, at::kDouble) - 1);
  Factor f = decompose(target_of(96, 40), w, at::kFloat);
  EXPECT_GT(relative(merged_wide(f, w, z.flip(0)), exact(w, z)), 1e-2);
  Factor other = decompose(target_of(96, 40), seeded({96, 40}, 9), at::kFloat);
  EXPECT_GT(relative(merged_wide(other, w, z), exact(w, z)), 1e-2);
}

TEST(Factor, MovesFromStageToStage) {
  StageCounter counter;
  const Counted counted(&counter);
  decompose(target_of(96, 40), seeded({96, 40}, 1), at::kFloat);
  EXPECT_EQ(counter.value() >> 16, 5u);  // Gram matrix, eigensolver, check, certificate, end
  EXPECT_TRUE(stages_seen()[size_t(Stage::kEigen)]);
}

TEST(Factor, SingularValuesAreLapacks) {
  at::Tensor w = seeded({96, 40}, 6);
  Factor f = decompose(target_of(96, 40), w, at::kFloat);
  at::Tensor s = at::linalg_svdvals(w);
  for (int64_t i = 0; i < 40; ++i) EXPECT_NEAR(f.sigma[i], s[i].item<double>(), 1e-10);
}

TEST(Factor, NotFiniteIsRefusedByName) {
  at::Tensor w = seeded({8, 4}, 7);
  w[3][2] = std::numeric_limits<double>::quiet_NaN();
  try {
    decompose(target_of(8, 4), w, at::kFloat);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("up_proj"), std::string::npos);
  }
}

// "VmRSS:" or "VmHWM:" of this process, in bytes.
int64_t resident(const std::string& key) {
  std::ifstream lines("/proc/self/status");
  for (std::string line; std::getline(lines, line);)
    if (line.rfind(key, 0) == 0) return std::stoll(line.substr(key.size())) * 1024;
  return 0;
}

// What decompose_bytes promises, by which several are done side by side.
TEST(Factor, TakesNoMoreMemoryThanItSays) {
  decompose(target_of(512, 256), seeded({512, 256}, 1), at::kFloat);  // the libraries' own buffers
  for (const Target& t : {target_of(12288, 768), target_of(768, 12288), target_of(1280, 1280),
                          target_of(960, 1280, Form::kRight)}) {
    at::Tensor w = seeded({t.rows, t.cols}, 1).to(at::kFloat);
    malloc_trim(0);  // what the shape before has left would else be used again, unseen
    const int64_t before = resident("VmRSS:");
    std::ofstream("/proc/self/clear_refs") << "5\n";  // the highest from here on
    if (resident("VmHWM:") > before + (1 << 20)) GTEST_SKIP() << "the peak cannot be measured here";
    decompose(t, w.to(at::kDouble), at::kFloat);
    const int64_t took = resident("VmHWM:") - before;
    EXPECT_LE(took, decompose_bytes(t)) << t.rows << " x " << t.cols;
    const int64_t r = t.basis_rows();
    EXPECT_GT(took, 8 * (t.rows * t.cols + 3 * r * r))
        << "control: weight and eigensolver are seen";
  }
}

class Store : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove_all(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_ = ::testing::TempDir() + "svfleet_store_test";
};

TEST_F(Store, GivesBackWhatWasSaved) {
  for (at::ScalarType storage : {at::kFloat, at::kBFloat16}) {
    Factor f = decompose(target_of(96, 40), seeded({96, 40}, 8), storage);
    f.source_hash = "abc";
    FactorStore store(folder_ + (storage == at::kFloat ? "/float32" : "/bfloat16"));
    EXPECT_TRUE(store.publish(f));
    Factor g = store.load(f.target, "abc", 1e-3);
    EXPECT_EQ(factor_hash(f), factor_hash(g));
    EXPECT_EQ(f.certificate.predicted_error, g.certificate.predicted_error);
    std::string why;
    EXPECT_TRUE(store.find(f.target, "abc", storage, &why));
    // A whole file of something else is refused, never replaced.
    EXPECT_THROW(store.find(f.target, "other", storage, &why), Error);
    EXPECT_THROW(
        store.find(f.target, "abc", storage == at::kFloat ? at::kBFloat16 : at::kFloat, &why),
        Error);
    Factor other = decompose(f.target, seeded({96, 40}, 9), storage);
    EXPECT_FALSE(store.publish(other));
    EXPECT_EQ(factor_hash(f), factor_hash(store.load(f.target, "abc", 1e-3)));
    EXPECT_EQ(why, "");
    EXPECT_THROW(store.load(f.target, "other", 1e-3), Error);
    EXPECT_THROW(store.load(f.target, "abc", 1e-12), Error);  // certificate above tolerance
    EXPECT_THROW(store.load(target_of(96, 41), "abc", 1e-3), Error);
  }
}

int64_t version_of(const std::string& path) {
  return Hdf5Reader(read_file(path), path).integer("version");
}

// Version 2 where Q is not on the smaller side; a file of version 1 keeps its form, also where a
// thin one is asked for.
TEST_F(Store, AFileSaysWhichSideItHas) {
  const FactorStore store(folder_), other(folder_ + "/2");
  const at::Tensor w = seeded({40, 96}, 8);
  const Target thin = target_of(40, 96, Form::kRight), square = target_of(40, 96);
  EXPECT_EQ(square.form, Form::kLeft);
  EXPECT_EQ(in_version(thin, 1).form, Form::kLeft);
  EXPECT_EQ(in_version(thin, 2).form, Form::kRight);
  store.publish(decompose(square, w, at::kFloat));
  other.publish(decompose(thin, w, at::kFloat));
  EXPECT_EQ(version_of(store.path(thin)), 1);
  EXPECT_EQ(version_of(other.path(thin)), 2);
  const Factor one = store.load(thin, "", 1e-3), two = other.load(thin, "", 1e-3);
  EXPECT_EQ(one.target.form, Form::kLeft);
  EXPECT_EQ(one.q.sizes(), at::IntArrayRef({40, 40}));
  EXPECT_EQ(two.target.form, Form::kRight);
  EXPECT_EQ(two.q.sizes(), at::IntArrayRef({96, 40}));
  EXPECT_NE(factor_hash(one), factor_hash(two));
  std::string why;
  EXPECT_EQ(store.find(thin, "", at::kFloat, &why)->target.form, Form::kLeft);
  const at::Tensor z = 1 + 0.1 * (2 * at::rand({40}, at::kDouble) - 1);
  EXPECT_LT(relative(merged_wide(one, w, z), merged_wide(two, w, z)), 1e-6);
  EXPECT_EQ(other.load(square, "", 1e-3).target.form, Form::kRight);
  // Control: up_proj is nowhere left on its larger side.
  const FactorStore wrong(folder_ + "/wrong");
  wrong.publish(decompose(target_of(96, 40, Form::kLeft), seeded({96, 40}, 8), at::kFloat));
  EXPECT_THROW(wrong.load(target_of(96, 40), "", 1e-3), Error);
}

// Every later version must read them. Both are of one weight; version 1 is of a program that knew
// no other.
TEST_F(Store, ReadsTheFilesOfEveryVersion) {
  const char* given = std::getenv("SVFLEET_SOURCE");
  const std::string data = std::string(given ? given : SVFLEET_SOURCE_DIR) + "/tests/data/",
                    name = "model.layers.0.self_attn.q_proj.weight";
  const Target target{name, "q_proj", 0, 32, 48, Form::kRight, 0};
  const SafetensorsFolder model(data + "models/families/gemma3_text");
  const TensorView& view = model.at(name);
  ASSERT_EQ(view.type, TensorType::kBF16);
  at::Tensor w = at::empty({32, 48}, at::kBFloat16);
  std::memcpy(w.data_ptr(), view.data, view.bytes);
  w = w.to(at::kDouble);
  const at::Tensor z = 1 + 0.1 * (2 * at::rand({32}, at::kDouble) - 1);
  for (const int version : {1, 2}) {
    const FactorStore store(data + "formats/store_v" + std::to_string(version));
    FactorStore::Manifest manifest;
    ASSERT_TRUE(store.load_manifest(&manifest));
    EXPECT_EQ(manifest.version, version);
    EXPECT_EQ(version_of(store.path(target)), version);
    const Factor f = store.load(target, model.tensor_hash(name), 1e-3);
    EXPECT_EQ(f.target.form, version == 1 ? Form::kLeft : Form::kRight);
    EXPECT_LT(relative(merged_wide(f, w, z), exact(w, z)), 1e-6);
  }
}

TEST_F(Store, OneFlippedBitIsNoticedEverywhere) {
  Factor f = decompose(target_of(12, 6), seeded({12, 6}, 8), at::kFloat);
  FactorStore store(folder_);
  store.publish(f);
  std::string path = store.path(f.target), why;
  std::string good;
  {
    std::ifstream in(path, std::ios::binary);
    good.assign(std::istreambuf_iterator<char>(in), {});
  }
  for (size_t at = 0; at < good.size(); at += 131) {
    std::string bad = good;
    bad[at] ^= 4;
    std::ofstream(path, std::ios::binary) << bad;
    EXPECT_FALSE(store.find(f.target, "", at::kFloat, &why)) << at;
    EXPECT_THROW(store.load(f.target, "", 1e-3), Error) << at;
  }
  // A damaged file may be replaced, with the same bytes.
  EXPECT_TRUE(store.publish(f));
  EXPECT_EQ(read_file(path), good);
  std::ofstream(path, std::ios::binary) << good.substr(0, good.size() / 2);
  EXPECT_THROW(store.load(f.target, "", 1e-3), Error);
}

FactorStore::Manifest manifest_of(const std::string& storage, const std::string& machine) {
  FactorStore::Manifest manifest;
  manifest.model_hash = "model", manifest.model_fingerprint = "print " + machine;
  manifest.tensor_hashes = {{"w", "tensor"}};
  manifest.storage = storage;
  manifest.machines = {{machine, "{\"cpu\":\"" + machine + "\"}"}};
  return manifest;
}

TEST_F(Store, TheManifestIsOfAllRunsThatDecomposeIntoIt) {
  FactorStore store(folder_);
  FactorStore::Manifest now;
  EXPECT_FALSE(store.load_manifest(&now));
  store.settle(manifest_of("float32", "a"));
  store.note_made({{"w", "a"}});
  store.settle(manifest_of("float32", "b"));
  store.note_made({{"x", "b"}});
  FactorStore::Manifest quiet = manifest_of("", "b");  // of a run that decomposes nothing
  quiet.model_fingerprint = "touched";
  store.settle(quiet);
  ASSERT_TRUE(store.load_manifest(&now));
  EXPECT_EQ(now.storage, "float32");
  EXPECT_EQ(now.model_fingerprint, "touched");
  EXPECT_EQ(now.machines.size(), 2u);
  EXPECT_EQ(now.made_on, (std::map<std::string, std::string>{{"w", "a"}, {"x", "b"}}));
  try {
    store.settle(manifest_of("bfloat16", "c"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_NE(std::string(error.what()).find("set svd.store to another"), std::string::npos);
  }
}

// A store.json of before names neither storage nor machines.
TEST_F(Store, AnOlderManifestIsRead) {
  FactorStore store(folder_);
  make_folder(folder_);
  write_file_atomic(folder_ + "/store.json",
                    R"({"format": "svfleet-factor-store", "version": 1, "model_hash": "m",
                        "model_fingerprint": "f", "tensor_hashes": {"w": "t"}})");
  FactorStore::Manifest now;
  ASSERT_TRUE(store.load_manifest(&now));
  EXPECT_EQ(now.model_hash + now.storage, "m");
  store.settle(manifest_of("bfloat16", "c"));
  ASSERT_TRUE(store.load_manifest(&now));
  EXPECT_EQ(now.storage, "bfloat16");
  EXPECT_EQ(now.version, 1);  // it goes on as it was begun
}

TEST_F(Store, TheManifestKeepsItsVersion) {
  FactorStore store(folder_);
  FactorStore::Manifest now = manifest_of("float32", "a");
  now.version = 2;
  store.settle(now);
  ASSERT_TRUE(store.load_manifest(&now));
  EXPECT_EQ(now.version, 2);
  store.note_made({{"w", "a"}});
  ASSERT_TRUE(store.load_manifest(&now));
  EXPECT_EQ(now.version, 2);
}

}  // namespace
}  // namespace svfleet
