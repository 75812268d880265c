// Softmax and cross-entropy of logits that stay in tiles.
#include "activations.h"
#include "tensors.h"

#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace {

using namespace blocked;

constexpr int64_t AT_ONCE = 128;  // words whose exponentials have one maximum and one sum: they stay in the first-level cache

// The losses of a strip of a tile: P vectors of each of its rows [words][width], of which `columns` columns count. The logits
// are replaced by the gradient of the mean loss over all N.
// The words are read twice. First come the exponentials of each chunk, relative to the chunk's own maximum, and the running
// maximum and sum over all chunks; then each chunk is rescaled to softmax / N. One more pass for the maximum is saved so.
template <typename S, int P>
void strip_losses(S* strip, int64_t words, int64_t width, const S* bias, const int64_t* target, int64_t columns, int64_t N,
                  double* loss) {
  using V = Vector<S>;
  constexpr int64_t L = Lanes<S>::count;
  const int64_t chunks = (words + AT_ONCE - 1) / AT_ONCE;
  std::vector<S> tops(chunks * P * L);  // the maximum of each chunk
  S chosen[P * L] = {};
  V top[P], total[P];
  each<P>([&](auto p) { top[p] = V{} + std::numeric_limits<S>::lowest(), total[p] = V{}; });
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    const int64_t begin = chunk * AT_ONCE, end = std::min(words, begin + AT_ONCE);
    V largest[P], part[P];
    each<P>([&](auto p) { largest[p] = V{} + std::numeric_limits<S>::lowest(), part[p] = V{}; });
    for (int64_t word = begin; word < end; word++)
      each<P>([&](auto p) {
        const V logit = load(strip + word * width + p * L) + bias[word];
        store(strip + word * width + p * L, logit);
        largest[p] = logit > largest[p] ? logit : largest[p];
      });
    for (int64_t n = 0; n < columns; n++)
      if (begin <= target[n] && target[n] < end) chosen[n] = strip[target[n] * width + n];
    for (int64_t word = begin; word < end; word++)
      each<P>([&](auto p) {
        const V exponential = activations::exp<S>(load(strip + word * width + p * L) - largest[p]);
        store(strip + word * width + p * L, exponential);
        part[p] += exponential;
      });
    each<P>([&](auto p) {
      const V before = top[p];
      top[p] = largest[p] > before ? largest[p] : before;
      total[p] = total[p] * activations::exp<S>(before - top[p]) + part[p] * activations::exp<S>(largest[p] - top[p]);
      store(tops.data() + (chunk * P + p) * L, largest[p]);
    });
  }
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    V factor[P];
    each<P>([&](auto p) { factor[p] = activations::exp<S>(load(tops.data() + (chunk * P + p) * L) - top[p]) / (total[p] * S(N)); });
    for (int64_t word = chunk * AT_ONCE; word < std::min(words, (chunk + 1) * AT_ONCE); word++)
      each<P>([&](auto p) { store(strip + word * width + p * L, load(strip + word * width + p * L) * factor[p]); });
  }
  for (int64_t n = 0; n < columns; n++) {
    loss[n] = double(top[n / L][n % L]) + std::log(double(total[n / L][n % L])) - double(chosen[n]);
    strip[target[n] * width + n] -= S(1) / S(N);
  }
  for (int64_t word = 0; columns < P * L && word < words; word++)
    for (int64_t n = columns; n < P * L; n++) strip[word * width + n] = 0;
}

// logits [tiles, V, width] without bias; bias [V]; targets int64 [N], N > 0. Returns the mean of -log p(target), and replaces
// the logits by its gradient, which is zero beyond column N.
Tensor cross_entropy(const Tensor& logits, const Tensor& bias, const Tensor& targets) {
  const int64_t words = logits.size(1), width = logits.size(2), N = targets.numel();
  TORCH_CHECK(logits.is_contiguous() && bias.is_contiguous() && bias.numel() == words && targets.is_contiguous() &&
                  logits.size(0) * width >= N && N > 0,
              "the sizes of logits, bias and targets do not fit");
  const int64_t* target = targets.const_data_ptr<int64_t>();
  for (int64_t n = 0; n < N; n++) TORCH_CHECK_INDEX(target[n] >= 0 && target[n] < words, "Target ", target[n], " is out of bounds.");
  Tensor losses = at::zeros({N}, at::TensorOptions().dtype(at::kDouble));
  AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "cross_entropy", [&] {
    constexpr int64_t L = Lanes<scalar_t>::count;
    scalar_t* data = const_cast<scalar_t*>(logits.const_data_ptr<scalar_t>());
    const scalar_t* bs = bias.const_data_ptr<scalar_t>();
    double* loss = losses.data_ptr<double>();
    const auto strips = [&](auto p) {
      const int64_t columns = p * L, strips = width / columns;
      at::parallel_for(0, logits.size(0) * strips, 1, [&](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; task++) {
          const int64_t first = task * columns, count = std::clamp<int64_t>(N - first, 0, columns);
          strip_losses<scalar_t, p.value>(data + task / strips * words * width + task % strips * columns, words, width, bs,
                                          target + first, count, N, loss + first);
        }
      });
    };
    width % (2 * L) ? strips(std::integral_constant<int, 1>{}) : strips(std::integral_constant<int, 2>{});
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
