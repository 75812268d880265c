// Dropout that drops the same entries as torch: a run on the kernels then equals the masked one up to rounding.
//
// torch draws each entry by a call of its generator. Here the generator's words are taken a state at a time, in torch's
// order, and the generator is left as torch would leave it.
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

// The next words of torch's generator, mt19937 (Matsumoto and Nishimura 1998), from whose state of 624 words many are copied
// at once. The destructor puts the state back.
class Words {
 public:
  explicit Words(at::mt19937& engine_) : engine(engine_), now(engine.data()) {}
  ~Words() { engine.set_data(now); }

  void take(uint32_t* to, int64_t count) {
    while (count) {
      if (now.left_ == 1) renew();
      const int64_t several = std::min<int64_t>(count, now.left_ - 1);
      const uint32_t* from = now.state_.data() + now.next_;
      for (int64_t n = 0; n < several; n++) to[n] = tempered(from[n]);
      now.left_ -= int(several);
      now.next_ += uint32_t(several);
      to += several;
      count -= several;
    }
  }

 private:
  static constexpr int SIZE = 624, BEHIND = 397;
  at::mt19937& engine;
  at::mt19937_data_pod now;

  static uint32_t tempered(uint32_t y) {
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680;
    y ^= y << 15 & 0xefc60000;
    return y ^ y >> 18;
  }

  static uint32_t twisted(uint32_t first, uint32_t second) {
    return ((first & 0x80000000) | (second & 0x7fffffff)) >> 1 ^ (-(second & 1) & 0x9908b0df);
  }

  void renew() {
    uint32_t* s = now.state_.data();
    for (int n = 0; n < SIZE - BEHIND; n++) s[n] = s[n + BEHIND] ^ twisted(s[n], s[n + 1]);
    for (int n = SIZE - BEHIND; n < SIZE - 1; n++) s[n] = s[n + BEHIND - SIZE] ^ twisted(s[n], s[n + 1]);
    s[SIZE - 1] = s[BEHIND - 1] ^ twisted(s[SIZE - 1], s[0]);
    now.left_ = SIZE + 1;
    now.next_ = 0;
  }
};

// Which entries are kept, bool; each is dropped with probability p. As torch's bernoulli does, an entry takes two words, of
// which 53 bits are a uniform number in [0, 1); it is compared as an integer here.
Tensor draw_kept(at::IntArrayRef sizes, double p) {
  constexpr int64_t AT_ONCE = 512;
  Tensor kept = at::empty(sizes, at::kBool);
  uint8_t* keep = reinterpret_cast<uint8_t*>(kept.data_ptr<bool>());
  auto* generator = at::check_generator<at::CPUGeneratorImpl>(at::detail::getDefaultCPUGenerator());
  const std::lock_guard<std::mutex> lock(generator->mutex_);
  at::mt19937 engine = generator->engine();
  {
    Words words(engine);
    const uint64_t mask = (uint64_t(1) << 53) - 1, below = uint64_t(std::ceil((1 - p) * double(uint64_t(1) << 53)));
    uint32_t word[2 * AT_ONCE];
    for (int64_t n = 0; n < kept.numel(); n += AT_ONCE) {
      const int64_t count = std::min(AT_ONCE, kept.numel() - n);
      words.take(word, 2 * count);
      for (int64_t k = 0; k < count; k++) keep[n + k] = ((uint64_t(word[2 * k]) << 32 | word[2 * k + 1]) & mask) < below;
    }
  }
  generator->set_engine(engine);
  return kept;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(sparse_rnn, m) {
  m.def("draw_kept(int[] sizes, float p) -> Tensor", &draw_kept);
  m.def("scale_kept(Tensor x, Tensor kept, float p) -> Tensor", &scale_kept);
}
