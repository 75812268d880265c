// Softmax and cross-entropy of logits that stay in tiles.
#include "recurrence.h"

#include <torch/library.h>

namespace {

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
    using V = Lane<scalar_t>;
    scalar_t* data = const_cast<scalar_t*>(logits.const_data_ptr<scalar_t>());
    const scalar_t* bs = bias.const_data_ptr<scalar_t>();
    double* loss = losses.data_ptr<double>();
    const int64_t parts = width / V::size();
    at::parallel_for(0, logits.size(0) * parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t first = task * V::size(), count = std::max<int64_t>(0, std::min<int64_t>(V::size(), N - first));
        scalar_t* column = data + task / parts * words * width + task % parts * V::size();
        V largest(-std::numeric_limits<scalar_t>::infinity()), total(scalar_t(0));
        for (int64_t word = 0; word < words; word++) {
          const V logit = V::loadu(column + word * width) + V(bs[word]);
          logit.store(column + word * width);
          largest = at::vec::maximum(largest, logit);
        }
        scalar_t chosen[V::size()] = {}, scale[V::size()] = {};
        for (int64_t j = 0; j < count; j++) chosen[j] = column[target[first + j] * width + j];
        for (int64_t from = 0; from < words; from += SUMMED_AT_ONCE) {
          V part(scalar_t(0));
          for (int64_t word = from; word < std::min(words, from + SUMMED_AT_ONCE); word++) {
            const V exponential = (V::loadu(column + word * width) - largest).exp();
            exponential.store(column + word * width);
            part = part + exponential;
          }
          total = total + part;
        }
        scalar_t top[V::size()], sum[V::size()];
        largest.store(top);
        total.store(sum);
        for (int64_t j = 0; j < count; j++) {
          loss[first + j] = double(top[j]) + std::log(double(sum[j])) - double(chosen[j]);
          scale[j] = scalar_t(1) / (sum[j] * scalar_t(N));
        }
        const V factor = V::loadu(scale);
        for (int64_t word = 0; word < words; word++) (V::loadu(column + word * width) * factor).store(column + word * width);
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
    using V = Lane<scalar_t>;
    const scalar_t* from = x.const_data_ptr<scalar_t>();
    scalar_t* to = result.data_ptr<scalar_t>();
    at::parallel_for(0, R, 256, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; r++) {
        V total(scalar_t(0));
        for (int64_t t = 0; t < tiles; t++)
          for (int64_t j = 0; j < width; j += V::size()) total = total + V::loadu(from + (t * R + r) * width + j);
        scalar_t lanes[V::size()], sum = 0;
        total.store(lanes);
        for (int j = 0; j < V::size(); j++) sum += lanes[j];
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
