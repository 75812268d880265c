// at::parallel_for, also for clang on Linux.
//
// Threads must be those of the OpenMP library that torch has loaded. g++ has the same one. clang would bring a second, with
// threads of its own, whose number torch.set_num_threads does not set. So clang compiles without -fopenmp (toolchain.py), and
// calls torch's library by the function that g++ makes of `#pragma omp parallel`. GNU's has it, LLVM's and Intel's also do.
#pragma once
#include <ATen/Config.h>

#if AT_PARALLEL_OPENMP && defined(__clang__) && defined(__linux__) && !defined(_OPENMP)
#define THREADS_OF_TORCH
#define INTRA_OP_PARALLEL  // at::parallel_for then calls invoke_parallel

#include <cstdint>

extern "C" {
void GOMP_parallel(void (*function)(void*), void* argument, unsigned threads, unsigned flags);
int omp_get_num_threads();
int omp_get_thread_num();
}

namespace at::internal {
template <typename F>
void invoke_parallel(int64_t begin, int64_t end, int64_t grain_size, const F& f);
}
#endif

#include <ATen/Parallel.h>

#ifdef THREADS_OF_TORCH
#include <algorithm>
#include <exception>
#include <mutex>

// Calls f(from, to) for equal shares of [begin, end), one a thread, none of them smaller than the grain size.
template <typename F>
void at::internal::invoke_parallel(int64_t begin, int64_t end, int64_t grain_size, const F& f) {
  std::exception_ptr error;
  std::mutex mutex;
  auto share = [&] {
    const int64_t most = divup(end - begin, std::max<int64_t>(grain_size, 1)), thread = omp_get_thread_num();
    const int64_t size = divup(end - begin, std::min<int64_t>(omp_get_num_threads(), most)), from = begin + thread * size;
    if (from >= end) return;
    try {
      const ThreadIdGuard guard{int(thread)};
      f(from, std::min(end, from + size));
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      error = std::current_exception();
    }
  };
  GOMP_parallel([](void* argument) { (*static_cast<decltype(share)*>(argument))(); }, &share, 0, 0);
  if (error) std::rethrow_exception(error);
}
#endif
