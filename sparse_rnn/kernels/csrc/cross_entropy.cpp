// Softmax and cross-entropy of logits that stay in tiles.
#include "activations.h"
#include "tensors.h"

#include <torch/library.h>

namespace {

using namespace blocked;

constexpr int64_t SUMMED_AT_ONCE = 128;  // words: one sum over a vocabulary would lose digits

// logits [tiles, V, width] without bias; bias [V]; targets int64 [N], N > 0. Returns the mean of -log p(target), and, in the
// logits' place, its gradient by them; beyond N it is zero.
Tensor cross_entropy(const Tensor& logits, const Tensor& bias, const Tensor& targets) {
  const int64_t words = logits.size(1), width = logits.size(2), N = targets.numel();
  TORCH_CHECK(logits.is_contiguous() && bias.is_contiguous() && bias.numel() == words && targets.is_contiguous() &&
                  logits.size(0) * width >= N && N > 0,
              "the sizes of logits, bias and targets do not fit");
  const int64_t* target = targets.const_data_ptr<int64_t>();
  for (int64_t n = 0; n < N; n++) TORCH_CHECK_INDEX(target[n] >= 0 && target[n] < words, "Target ", target[n], " is out of bounds.");
  Tensor losses = at::zeros({N}, at::TensorOptions().dtype(at::kDouble));
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "cross_entropy", [&] {
    using V = Vector<scalar_t>;
    constexpr int64_t L = Lanes<scalar_t>::count;
    scalar_t* data = const_cast<scalar_t*>(logits.const_data_ptr<scalar_t>());
    const scalar_t* bs = bias.const_data_ptr<scalar_t>();
    double* loss = losses.data_ptr<double>();
    const int64_t parts = width / L;
    at::parallel_for(0, logits.size(0) * parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t first = task * L, count = std::max<int64_t>(0, std::min<int64_t>(L, N - first));
        scalar_t* column = data + task / parts * words * width + task % parts * L;
        V largest = V{} - std::numeric_limits<scalar_t>::infinity(), total{};
        for (int64_t word = 0; word < words; word++) {
          const V logit = load(column + word * width) + bs[word];
          store(column + word * width, logit);
          largest = logit > largest ? logit : largest;
        }
        scalar_t chosen[L] = {}, scale[L] = {};
        for (int64_t j = 0; j < count; j++) chosen[j] = column[target[first + j] * width + j];
        for (int64_t from = 0; from < words; from += SUMMED_AT_ONCE) {
          V part{};
          for (int64_t word = from; word < std::min(words, from + SUMMED_AT_ONCE); word++) {
            const V exponential = activations::exp<scalar_t>(load(column + word * width) - largest);
            store(column + word * width, exponential);
            part += exponential;
          }
          total += part;
        }
        scalar_t top[L], sum[L];
        store(top, largest);
        store(sum, total);
        for (int64_t j = 0; j < count; j++) {
          loss[first + j] = double(top[j]) + std::log(double(sum[j])) - double(chosen[j]);
          scale[j] = scalar_t(1) / (sum[j] * scalar_t(N));
        }
        const V factor = load(scale);
        for (int64_t word = 0; word < words; word++) store(column + word * width, load(column + word * width) * factor);
        for (int64_t j = 0; j < count; j++) column[target[first + j] * width + j] -= scalar_t(1) / scalar_t(N);
      }
    });
  });
  return losses.mean().to(logits.scalar_type());
}

// The sum of tiles [tiles, R, width] over their columns: [R].
Tensor sum_columns(const Tensor& x) {
  const int64_t tiles = x.size(0), R = x.size(1), width = x.size(2);
  Tensor result = at::empty({R}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "sum_columns", [&] {
    using V = Vector<scalar_t>;
    constexpr int64_t L = Lanes<scalar_t>::count;
    const scalar_t* from = x.const_data_ptr<scalar_t>();
    scalar_t* to = result.data_ptr<scalar_t>();
    at::parallel_for(0, R, 256, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; r++) {
        V total{};
        for (int64_t t = 0; t < tiles; t++)
          for (int64_t j = 0; j < width; j += L) total += load(from + (t * R + r) * width + j);
        scalar_t lanes[L], sum = 0;
        store(lanes, total);
        for (int j = 0; j < L; j++) sum += lanes[j];
        to[r] = sum;
      }
    });
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(sparse_rnn, m) {
  m.def("cross_entropy(Tensor(a!) logits, Tensor bias, Tensor targets) -> Tensor", &cross_entropy);
  m.def("sum_columns(Tensor x) -> Tensor", &sum_columns);
}
