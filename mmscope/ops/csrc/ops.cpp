// The module of the CPU operators, and which instruction set they use. The
// operators are included: reading the headers of torch is what takes long.
#include <Python.h>

#include <torch/library.h>

#include <string>

#include "ops.h"
#include "ops_inner.h"
#include "ops_rows.h"
#include "ops_scan.h"

namespace mmscope {
namespace {

bool machine_runs(const std::string& name) {
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
  if (name == "avx512")
    return __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  if (name == "avx2")
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return name == "portable";
}

// Best first.
std::vector<const Kernels*> runnable_kernels() {
  std::vector<const Kernels*> found;
  for (const Kernels* k :
       {avx512_kernels(), avx2_kernels(), portable_kernels()})
    if (k && machine_runs(k->name)) found.push_back(k);
  return found;
}

const Kernels* kernels_named(const std::string& name) {
  std::string known;
  for (const Kernels* k : runnable_kernels()) {
    if (name == k->name) return k;
    known += known.empty() ? k->name : std::string(", ") + k->name;
  }
  TORCH_CHECK_VALUE(false, "instruction set '", name,
                    "' cannot run here; this machine and build have: ", known);
}

}  // namespace

std::atomic<const Kernels*>& current_kernels() {
  static std::atomic<const Kernels*> current(runnable_kernels().front());
  return current;
}

namespace {

std::string cpu_isa() { return current_kernels().load()->name; }

std::vector<std::string> cpu_isas() {
  std::vector<std::string> names;
  for (const Kernels* k : runnable_kernels()) names.push_back(k->name);
  return names;
}

void set_cpu_isa(std::string name) { current_kernels() = kernels_named(name); }

}  // namespace

TORCH_LIBRARY_FRAGMENT(mmscope, m) {
  m.def("cpu_isa() -> str", &cpu_isa);
  m.def("cpu_isas() -> str[]", &cpu_isas);
  m.def("set_cpu_isa(str name) -> ()", &set_cpu_isa);
}

}  // namespace mmscope

// Importing the module registers the operators; it holds nothing itself.
#define MMSCOPE_INIT_(name) PyInit_##name
#define MMSCOPE_INIT(name) MMSCOPE_INIT_(name)
#define MMSCOPE_NAME_(name) #name
#define MMSCOPE_NAME(name) MMSCOPE_NAME_(name)

PyMODINIT_FUNC MMSCOPE_INIT(TORCH_EXTENSION_NAME)(void) {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, MMSCOPE_NAME(TORCH_EXTENSION_NAME), nullptr, -1,
      nullptr,               nullptr,                            nullptr,
      nullptr,               nullptr};
  return PyModule_Create(&definition);
}
