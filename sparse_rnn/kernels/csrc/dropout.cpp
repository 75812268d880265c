// Dropout with torch's own draws, without a call for each.
#include "tensors.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

namespace {

// x with the entries that are kept scaled by 1 / (1 - p), the others zero.
Tensor scale_kept(const Tensor& x, const Tensor& kept, double p) {
  TORCH_CHECK(x.is_contiguous() && kept.is_contiguous() && kept.numel() == x.numel(), "what is kept does not fit");
  Tensor result = at::empty_like(x);
  const uint8_t* keep = reinterpret_cast<const uint8_t*>(kept.const_data_ptr<bool>());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "scale_kept", [&] {
    const scalar_t scale = scalar_t(1) / scalar_t(1 - p);
    at::parallel_for(0, x.numel(), 1 << 15, [&](int64_t begin, int64_t end) {
      const scalar_t* __restrict in = x.const_data_ptr<scalar_t>();
      scalar_t* __restrict out = result.data_ptr<scalar_t>();
      for (int64_t n = begin; n < end; n++) out[n] = in[n] * (scale * scalar_t(keep[n]));
    });
  });
  return result;
}

// Which of so many entries are kept, bool; each is dropped with probability p.
Tensor draw_kept(at::IntArrayRef sizes, double p) {
  Tensor kept = at::empty(sizes, at::kBool);
  bool* keep = kept.data_ptr<bool>();
  auto* generator = at::check_generator<at::CPUGeneratorImpl>(at::detail::getDefaultCPUGenerator());
  const std::lock_guard<std::mutex> lock(generator->mutex_);
  at::mt19937 engine = generator->engine();
  const uint64_t mask = (uint64_t(1) << 53) - 1, below = uint64_t(std::ceil((1 - p) * double(uint64_t(1) << 53)));
  for (int64_t n = 0; n < kept.numel(); n++) {
    const uint64_t high = engine(), low = engine();
    keep[n] = ((high << 32 | low) & mask) < below;
  }
  generator->set_engine(engine);
  return kept;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(sparse_rnn, m) {
  m.def("draw_kept(int[] sizes, float p) -> Tensor", &draw_kept);
  m.def("scale_kept(Tensor x, Tensor kept, float p) -> Tensor", &scale_kept);
}
