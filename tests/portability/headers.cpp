// Tests of the headers that need no torch, blocked.h and activations.h, for any C++20 compiler:
//
//   g++ -std=c++20 -O2 -I sparse_rnn/backends/cpu/csrc tests/portability/headers.cpp -o headers && ./headers
//
// Every product is computed again entry by entry in double precision. Prints a line, and a line for each failure first.
#include "activations.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

namespace {

int failures = 0;
std::mt19937 generator(1);

void check(bool holds, const char* what, double found, double expected) {
  if (holds) return;
  if (failures++ < 20) std::printf("%s: %.17g instead of %.17g\n", what, found, expected);
}

template <typename S>
std::vector<S> draw(int64_t count) {
  std::normal_distribution<S> normal;
  std::vector<S> drawn(count);
  for (S& value : drawn) value = normal(generator);
  return drawn;
}

// A matrix [rows, columns] at random, its active entries in the order of blocked.h, and its Layout.
template <typename S>
struct Matrix {
  std::vector<S> dense, values;
  std::vector<int32_t> first, starts;
  std::vector<uint16_t> row;
  std::vector<uint8_t> column;
  std::vector<int64_t> place;  // of each active entry in `dense`
  blocked::Layout layout;

  Matrix(int64_t rows, int64_t columns, double density, int64_t panels, int64_t block) : dense(draw<S>(rows * columns)) {
    std::bernoulli_distribution active(density);
    for (S& value : dense) value = active(generator) ? value : S(0);
    const int64_t blocks = (columns + block - 1) / block;
    for (int64_t panel = 0; panel <= panels; panel++) first.push_back(int32_t(panel * rows / panels));
    for (int64_t panel = 0; panel < panels; panel++)
      for (int64_t b = 0; b < blocks; b++) add_runs(first[panel], first[panel + 1], b * block, std::min(columns, (b + 1) * block));
    starts.push_back(int32_t(values.size()));
    layout = {rows, columns, panels, blocks, block, first.data(), starts.data(), row.data(), column.data()};
  }

  // The runs of one block: the active entries of the rows [from, to) in the columns [left, right), shorter runs first.
  void add_runs(int64_t from, int64_t to, int64_t left, int64_t right) {
    const int64_t columns = int64_t(dense.size()) / first.back();
    std::vector<std::vector<int64_t>> runs(to - from);
    for (int64_t r = from; r < to; r++)
      for (int64_t c = left; c < right; c++)
        if (dense[r * columns + c] != 0) runs[r - from].push_back(r * columns + c);
    std::vector<uint16_t> order(to - from);
    for (size_t n = 0; n < order.size(); n++) order[n] = uint16_t(n);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return runs[a].size() < runs[b].size(); });
    for (const uint16_t n : order) {
      starts.push_back(int32_t(values.size()));
      row.push_back(n);
      for (const int64_t at : runs[n]) {
        place.push_back(at);
        values.push_back(dense[at]);
        column.push_back(uint8_t(at % columns - left));
      }
    }
  }
};

template <typename S>
void check_near(S found, double expected, double scale, const char* what) {
  check(std::abs(found - expected) <= 16 * scale * std::numeric_limits<S>::epsilon(), what, found, expected);
}

// y = (what was there, if `add`) + the matrix times x, of one tile; `size`: the sums of the magnitudes that are added.
template <typename S>
void check_product(const Matrix<S>& m, const std::vector<S>& x, const std::vector<S>& before, const S* y, int64_t W, const char* what) {
  for (int64_t r = 0; r < m.layout.rows; r++)
    for (int64_t w = 0; w < W; w++) {
      double sum = before.empty() ? 0 : before[r * W + w], size = std::abs(sum);
      for (int64_t c = 0; c < m.layout.columns; c++) {
        const double term = double(m.dense[r * m.layout.columns + c]) * x[c * W + w];
        sum += term;
        size += std::abs(term);
      }
      check_near(y[r * W + w], sum, size, what);
    }
}

template <typename S, int V, int U>
void check_samples(const Matrix<S>& m, const std::vector<S>& g, const std::vector<S>& x, const std::vector<S>& gradient) {
  constexpr int64_t W = V * blocked::Lanes<S>::count;
  const int64_t rows = m.layout.rows, columns = m.layout.columns;
  for (size_t k = 0; k < gradient.size(); k++) {
    double sum = 1, size = 1;  // the gradients began at 1
    for (int64_t u = 0; u < U; u++)
      for (int64_t w = 0; w < W; w++) {
        const double term = double(g[(u * rows + m.place[k] / columns) * W + w]) * x[(u * columns + m.place[k] % columns) * W + w];
        sum += term;
        size += std::abs(term);
      }
    check_near(gradient[k], sum, size, "sample_panel, gradient");
  }
}

template <typename S, int V>
void check_multiply(const Matrix<S>& m) {
  constexpr int64_t W = V * blocked::Lanes<S>::count;
  const std::vector<S> x = draw<S>(m.layout.columns * W), before = draw<S>(m.layout.rows * W);
  for (const bool add : {false, true}) {
    std::vector<S> y = before;
    for (int64_t panel = 0; panel < m.layout.panels; panel++)
      blocked::multiply_panel<S, V>(m.layout, m.values.data(), x.data(), y.data(), panel, add);
    check_product(m, x, add ? before : std::vector<S>{}, y.data(), W, "multiply_panel");
  }
}

template <typename S, int V, int U, bool MULTIPLY>
void check_sample(const Matrix<S>& m) {
  constexpr int64_t W = V * blocked::Lanes<S>::count;
  const int64_t rows = m.layout.rows, columns = m.layout.columns;
  const std::vector<S> x = draw<S>(U * columns * W), g = draw<S>(U * rows * W);
  std::vector<S> gradient(m.values.size(), S(1)), y(U * rows * W, S(7));
  for (int64_t panel = 0; panel < m.layout.panels; panel++)
    blocked::sample_panel<S, V, U, MULTIPLY>(m.layout, gradient.data(), g.data(), x.data(), panel, m.values.data(), y.data());
  check_samples<S, V, U>(m, g, x, gradient);
  for (int64_t u = 0; MULTIPLY && u < U; u++) {
    const std::vector<S> tile(x.begin() + u * columns * W, x.begin() + (u + 1) * columns * W);
    check_product(m, tile, {}, y.data() + u * rows * W, W, "sample_panel, product");
  }
}

// A function of activations.h against that of the standard library, in units in the last place of the result.
template <typename S, typename F, typename G>
void check_function(const char* name, const F& ours, const G& exact, S from, S to, int count) {
  constexpr int64_t L = blocked::Lanes<S>::count;
  for (int k = 0; k < count; k += int(L)) {
    S x[L], y[L];
    for (int n = 0; n < L; n++) x[n] = from + (to - from) * S(k + n) / S(count);
    blocked::store(y, ours(blocked::load(x)));
    for (int n = 0; n < L; n++) {
      const long double expected = exact((long double)x[n]);
      const long double place = std::max<long double>(std::abs(expected) * std::numeric_limits<S>::epsilon(), std::numeric_limits<S>::min());
      check(std::abs(y[n] - expected) <= 3 * place, name, double(y[n]), double(expected));
    }
  }
  S nan[L];
  std::fill_n(nan, L, std::numeric_limits<S>::quiet_NaN());
  blocked::store(nan, ours(blocked::load(nan)));
  for (int n = 0; n < L; n++) check(std::isnan(nan[n]), name, nan[n], NAN);
}

template <typename S>
void check_functions() {
  using V = blocked::Vector<S>;
  const auto sigmoid = [](long double x) { return 1 / (1 + std::exp(-x)); };
  check_function<S>("exp", [](V x) { return activations::exp<S>(x); }, [](long double x) { return std::exp(x); }, -80, 80, 20000);
  check_function<S>("sigmoid", [](V x) { return activations::sigmoid<S>(x); }, sigmoid, -30, 30, 20000);
  check_function<S>("tanh", [](V x) { return activations::tanh<S>(x); }, [](long double x) { return std::tanh(x); }, -30, 30, 20000);
  check_function<S>("tanh near 0", [](V x) { return activations::tanh<S>(x); }, [](long double x) { return std::tanh(x); }, -1e-3, 1e-3, 2000);
}

template <typename S>
void check_all() {
  const Matrix<S> matrices[] = {
      {37, 300, 0.3, 3, 128}, {20, 600, 0.05, 2, 256}, {9, 11, 1.0, 1, 128}, {8, 130, 0.0, 8, 128}, {1, 1, 1.0, 1, 128}};
  for (const auto& m : matrices) {
    check_multiply<S, 1>(m);
    check_multiply<S, 3>(m);
    check_multiply<S, blocked::MOST_VECTORS>(m);
    check_sample<S, 1, 2, false>(m);
    check_sample<S, 3, 1, false>(m);
    check_sample<S, blocked::MOST_VECTORS, 2, false>(m);
    check_sample<S, blocked::MOST_VECTORS, 1, true>(m);
  }
  check_functions<S>();
}

}  // namespace

int main() {
  static_assert(sizeof(blocked::Vector<float>) == blocked::VECTOR_BYTES);
  const uint32_t word = 0x04030201;
  uint8_t bytes[4];
  std::memcpy(bytes, &word, 4);
  for (int n = 0; n < 4; n++) check(blocked::byte_of(word, n) == bytes[n], "byte_of", blocked::byte_of(word, n), bytes[n]);
  check_all<float>();
  check_all<double>();
  std::printf("vectors of %d bytes: %d failures\n", blocked::VECTOR_BYTES, failures);
  return failures > 0;
}
