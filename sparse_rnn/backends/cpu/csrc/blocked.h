// Products of a sparse matrix with dense columns. Depends on neither torch nor threads: the caller divides the panels.
//
// The layout. A matrix [rows, columns] is cut into panels of rows, a panel into blocks of up to 256 columns. The active
// entries of one row of a block are a run. Values are stored run after run, block after block, panel after panel, each with
// its column inside the block in one byte. The dense factor is packed into tiles: [columns of the matrix][width].
//
// Why. These loops are bound by loads. A panel's values stay in the second-level cache while all tiles pass by, and the
// slice of a tile that a block reads stays in the first-level one. A column is one byte, so that one load reads eight. Runs
// are sorted by length within a block, so that branch prediction knows where a run ends. docs/kernels.md has the numbers.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#ifdef __AVX__
#include <immintrin.h>
#endif

namespace blocked {

constexpr int64_t TILE_BYTES = 256;

// The widest vectors of the processor; on one with shorter ones the compiler splits them.
#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__aarch64__)
constexpr int VECTOR_BYTES = 16;
#else
constexpr int VECTOR_BYTES = 32;
#endif
constexpr int MOST_VECTORS = TILE_BYTES / VECTOR_BYTES;

template <typename S>
struct Lanes {
#ifdef __clang__  // heeds `aligned` of a type that depends on S in some places and not in others
  typedef S Vector __attribute__((vector_size(VECTOR_BYTES)));
#else
  typedef S Vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(S)), may_alias));
#endif
  static constexpr int64_t count = VECTOR_BYTES / sizeof(S);
};

template <typename S>
using Vector = typename Lanes<S>::Vector;

// From and to any address of an S.
template <typename S>
inline Vector<S> load(const S* from) {
#ifdef __clang__
  Vector<S> value;
  std::memcpy(&value, from, sizeof(value));
  return value;
#else
  return *reinterpret_cast<const Vector<S>*>(from);
#endif
}

template <typename S>
inline void store(S* to, Vector<S> value) {
#ifdef __clang__
  std::memcpy(to, &value, sizeof(value));
#else
  *reinterpret_cast<Vector<S>*>(to) = value;
#endif
}

struct Layout {
  int64_t rows, columns, panels, blocks, block;  // block: columns of one
  const int32_t* first;    // [panels + 1]: the first row of each panel, and the number of rows
  const int32_t* starts;   // [rows * blocks + 1]: where each run begins
  const uint16_t* row;     // [rows * blocks]: the row of each run, inside its panel
  const uint8_t* column;   // [active]: inside the block

  // The number of the first run of a block, among all runs of the matrix.
  int64_t runs(int64_t panel, int64_t block) const {
    return blocks * first[panel] + block * (first[panel + 1] - first[panel]);
  }
  int32_t first_entry(int64_t panel) const { return starts[blocks * first[panel]]; }
};

// Calls f for 0 ... N - 1 as compile-time constants. gcc keeps an array of vectors in registers only if all its indices are
// constants before loops are unrolled; in a plain loop the array would be stored to memory and loaded again.
template <int N, typename F>
[[gnu::always_inline]] inline void each(const F& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, I>{}), ...);
  }(std::make_integer_sequence<int, N>{});
}

// The n-th byte in memory of a word, on either byte order.
template <typename Word>
inline uint8_t byte_of(Word word, int n) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  n = int(sizeof(Word)) - 1 - n;
#endif
  return uint8_t(word >> (8 * n));
}

// Values that follow one another, 16 bytes of them, any of which can fill a vector. With AVX they come in one load, and
// shuffles repeat one of them: these leave the loads to x, which limit multiply_run. Elsewhere each is loaded by itself.
#if defined(__AVX512F__)
inline Vector<float> repeated(const float* from) { return (Vector<float>)_mm512_broadcast_f32x4(_mm_loadu_ps(from)); }
inline Vector<double> repeated(const double* from) {
  return (Vector<double>)_mm512_broadcast_f32x4(_mm_loadu_ps(reinterpret_cast<const float*>(from)));
}
template <int N>
inline Vector<float> filled_by(Vector<float> values) { return (Vector<float>)_mm512_permute_ps((__m512)values, N * 0x55); }
template <int N>
inline Vector<double> filled_by(Vector<double> values) { return (Vector<double>)_mm512_permute_pd((__m512d)values, N * 0xFF); }
#elif defined(__AVX__)
inline Vector<float> repeated(const float* from) { return (Vector<float>)_mm256_broadcast_ps(reinterpret_cast<const __m128*>(from)); }
inline Vector<double> repeated(const double* from) { return (Vector<double>)_mm256_broadcast_pd(reinterpret_cast<const __m128d*>(from)); }
template <int N>
inline Vector<float> filled_by(Vector<float> values) { return (Vector<float>)_mm256_permute_ps((__m256)values, N * 0x55); }
template <int N>
inline Vector<double> filled_by(Vector<double> values) { return (Vector<double>)_mm256_permute_pd((__m256d)values, N * 0xF); }
#else
template <typename S>
inline const S* repeated(const S* from) { return from; }
template <int N, typename S>
inline Vector<S> filled_by(const S* values) { return Vector<S>{} + values[N]; }
#endif

// Part of multiply_run: as many entries at a time as `Word` has bytes, while there are so many left. Their columns come in
// one load. The sums go round SETS sets of V vectors: an entry does not wait for the addition of the entry before.
template <typename Word, typename S, int V, int SETS>
[[gnu::always_inline]] inline void multiply_several(const S*& a, const uint8_t*& column, int32_t& count, const S* x,
                                                    Vector<S> (&acc)[SETS * V]) {
  constexpr int64_t L = Lanes<S>::count, W = V * L;
  constexpr int several = sizeof(Word), loaded = 16 / sizeof(S);
  for (; count >= several; count -= several, a += several, column += several) {
    Word columns;
    std::memcpy(&columns, column, several);
    const auto add = [&](auto n, const Vector<S>& value) __attribute__((always_inline)) {
      const S* from = x + byte_of(columns, n) * W;
      each<V>([&](auto v) __attribute__((always_inline)) { acc[n % SETS * V + v] += value * load(from + v * L); });
    };
    if constexpr (several % loaded == 0)
      each<several / loaded>([&](auto part) __attribute__((always_inline)) {
        const auto values = repeated(a + part * loaded);
        each<loaded>([&](auto n) __attribute__((always_inline)) {
          add(std::integral_constant<int, part * loaded + n>{}, filled_by<n>(values));
        });
      });
    else
      each<several>([&](auto n) __attribute__((always_inline)) { add(n, Vector<S>{} + a[n]); });
  }
}

// The sum over all sets of acc += a[k] times row column[k] of x, over the `count` entries of one run.
template <typename S, int V, int SETS>
[[gnu::always_inline]] inline void multiply_run(const S* a, const uint8_t* column, int32_t count, const S* x,
                                                Vector<S> (&acc)[SETS * V]) {
  multiply_several<uint64_t, S, V, SETS>(a, column, count, x, acc);
  multiply_several<uint32_t, S, V, SETS>(a, column, count, x, acc);
  multiply_several<uint8_t, S, V, SETS>(a, column, count, x, acc);
}

// Prefetches the slices of U tiles that the next block of a panel reads into the second-level cache: one part of them with
// each run of the present block, so that not all prefetches compete with its loads at once.
// The loops are plain ones: gcc 12 drops a lambda that only prefetches, as if it had no effect.
template <typename S, int V, int U>
struct NextSlices {
  static constexpr int64_t LINE = 64 / int64_t(sizeof(S)), W = V * Lanes<S>::count;
  const S* from;
  int64_t tile, lines, part;

  // x: the first tile; parts: the runs of the block b.
  NextSlices(const Layout& m, const S* x, int64_t b, int64_t parts)
      : from(x + (b + 1) * m.block * W), tile(m.columns * W), lines(b + 1 < m.blocks ? m.block * W / LINE : 0),
        part((lines + parts - 1) / parts) {}

  [[gnu::always_inline]] void bring(int64_t i) const {
    for (int64_t line = i * part; line < (i + 1) * part && line < lines; line++)
      for (int u = 0; u < U; u++) __builtin_prefetch(from + u * tile + line * LINE, 0, 2);
  }
};

// The runs of one panel and block. The kernels keep these pointers in local variables: the compiler would otherwise have to
// load them from the Layout again after every store, since a store of values might change it.
struct Runs {
  const int32_t* starts;
  const uint16_t* row;
  const uint8_t* column;

  Runs(const Layout& m, int64_t panel, int64_t b) : starts(m.starts + m.runs(panel, b)), row(m.row + m.runs(panel, b)), column(m.column) {}
};

// For the rows of a panel, y [rows][V * lanes] = the matrix times x [columns][V * lanes], or += if `add`. The sums of a row
// stay in registers over a run. Narrow tiles take several sets of sums, because few vectors alone would wait for each other.
template <typename S, int V>
void multiply_panel(const Layout& m, const S* values, const S* x, S* y, int64_t panel, bool add) {
  constexpr int64_t L = Lanes<S>::count, W = V * L;
  constexpr int SETS = V >= 8 ? 1 : V >= 2 ? 2 : 4;
  const int64_t count = m.first[panel + 1] - m.first[panel];
  S* rows = y + m.first[panel] * W;
  for (int64_t b = 0; b < m.blocks; b++) {
    const Runs runs(m, panel, b);
    const S* xb = x + b * m.block * W;
    const NextSlices<S, V, 1> next(m, x, b, count);
    for (int64_t i = 0; i < count; i++) {
      next.bring(i);
      const int32_t start = runs.starts[i];
      S* out = rows + runs.row[i] * W;
      Vector<S> acc[SETS * V];
      each<SETS * V>([&](auto n) { acc[n] = Vector<S>{}; });
      if (add || b > 0) each<V>([&](auto v) { acc[v] = load(out + v * L); });
      multiply_run<S, V, SETS>(values + start, runs.column + start, runs.starts[i + 1] - start, xb, acc);
      each<(SETS - 1) * V>([&](auto n) { acc[n % V] += acc[n + V]; });
      each<V>([&](auto v) { store(out + v * L, acc[v]); });
    }
  }
}

// to[n] += the sum of the lanes of the n-th vector, on any processor; sample_panel needs many such sums.
template <typename S, int N>
inline void add_sums(S* to, const Vector<S> (&v)[N]) {
  for (int n = 0; n < N; n++) {
    S total = 0;
    for (int i = 0; i < Lanes<S>::count; i++) total += v[n][i];
    to[n] += total;
  }
}

// The same with intrinsics: neighbouring lanes of two vectors are added into one vector, twice, so that four vectors become
// one that holds partial sums of each; then its 128-bit parts are added.
#if defined(__AVX512F__)
inline __m512 four_sums(const Vector<float>* v) {
  const __m512 a = (__m512)v[0], b = (__m512)v[1], c = (__m512)v[2], d = (__m512)v[3];
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  return _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
}
inline void add_sums(float* to, const Vector<float> (&v)[8]) {
  const __m512 first = four_sums(v), second = four_sums(v + 4);
  const __m512 half = _mm512_add_ps(_mm512_shuffle_f32x4(first, second, 0x44), _mm512_shuffle_f32x4(first, second, 0xEE));
  const __m512 all = _mm512_add_ps(half, _mm512_shuffle_f32x4(half, half, 0xB1));
  const __m256 sums = _mm512_castps512_ps256(_mm512_shuffle_f32x4(all, all, 0x08));
  _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), sums));
}
inline void add_sums(float* to, const Vector<float> (&v)[4]) {
  const __m512 all = four_sums(v);
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(all), 1)));
  const __m128 sums = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), sums));
}
inline void add_sums(float* to, const Vector<float> (&v)[1]) { *to += _mm512_reduce_add_ps((__m512)v[0]); }
#elif defined(__AVX__)
inline __m128 four_sums(const Vector<float>* v) {
  const __m256 half = _mm256_hadd_ps(_mm256_hadd_ps((__m256)v[0], (__m256)v[1]), _mm256_hadd_ps((__m256)v[2], (__m256)v[3]));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
inline void add_sums(float* to, const Vector<float> (&v)[4]) { _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), four_sums(v))); }
inline void add_sums(float* to, const Vector<float> (&v)[8]) {
  for (int n = 0; n < 8; n += 4) _mm_storeu_ps(to + n, _mm_add_ps(_mm_loadu_ps(to + n), four_sums(v + n)));
}
inline void add_sums(float* to, const Vector<float> (&v)[1]) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128((__m256)v[0]), _mm256_extractf128_ps((__m256)v[0], 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  *to += _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
#endif

// The rows of U consecutive tiles [rows][V * lanes]: one row of all of them is U * V vectors. Runs are sorted by length, so
// rows come in no order that hardware prefetching recognises: sample_panel prefetches a row two runs ahead.
template <typename S, int V, int U>
struct Rows {
  S* from;
  int64_t tile;

  static constexpr int64_t L = Lanes<std::remove_const_t<S>>::count;

  [[gnu::always_inline]] S* vector(int64_t row, int k) const { return from + k / V * tile + row * V * L + k % V * L; }
  [[gnu::always_inline]] void bring(int64_t row) const {
    for (int k = 0; k < U * V; k++) __builtin_prefetch(vector(row, k), 0, 3);
  }
};

// Part of sample_panel: N entries of a run at a time, while there are so many left. The gradient of the entry k is the dot
// product of `row`, the row of the incoming gradient, with row column[k] of x, over all columns of U tiles.
// N products are kept as N vectors of partial sums, because the lanes of eight vectors are summed together in far fewer
// instructions than one by one (add_sums). Two tiles at a time halve the number of these sums and of the loads of columns.
// With MULTIPLY also sums += a[k] times row column[k] of x: the backward pass needs both, and the row is loaded once for both.
template <int N, bool MULTIPLY, typename S, int V, int U>
[[gnu::always_inline]] inline void sample_several(const Layout& m, S*& gradient, const S*& a, const uint8_t*& column, int32_t& count,
                                                  const S* x, const Vector<S> (&row)[U * V], Vector<S> (&sums)[U * V]) {
  constexpr int64_t L = Lanes<S>::count, W = V * L;
  for (; count >= N; count -= N, gradient += N, column += N) {
    Vector<S> acc[N];
    each<N>([&](auto n) __attribute__((always_inline)) {
      const S* from = x + column[n] * W;
      each<U * V>([&](auto k) __attribute__((always_inline)) {
        const Vector<S> entry = load(from + k / V * m.columns * W + k % V * L);
        if constexpr (k == 0)
          acc[n] = row[k] * entry;
        else
          acc[n] += row[k] * entry;
        if constexpr (MULTIPLY) sums[k] += a[n] * entry;
      });
    });
    add_sums(gradient, acc);
    if constexpr (MULTIPLY) a += N;
  }
}

// gradient [active] += g [rows][V * lanes] times the transpose of x [columns][V * lanes] at the active entries of a panel,
// summed over U consecutive tiles of both. With MULTIPLY also y [rows][V * lanes] = the matrix with `values` times x.
template <typename S, int V, int U, bool MULTIPLY = false>
void sample_panel(const Layout& m, S* gradient, const S* g, const S* x, int64_t panel, const S* values = nullptr, S* y = nullptr) {
  constexpr int64_t W = V * Lanes<S>::count;
  const int64_t count = m.first[panel + 1] - m.first[panel];
  const Rows<const S, V, U> gs{g + m.first[panel] * W, m.rows * W};
  const Rows<S, V, U> ys{MULTIPLY ? y + m.first[panel] * W : nullptr, m.rows * W};
  for (int64_t b = 0; b < m.blocks; b++) {
    const Runs runs(m, panel, b);
    const S* xb = x + b * m.block * W;
    const NextSlices<S, V, U> next(m, x, b, count);
    for (int64_t i = 0; i < count; i++) {
      next.bring(i);
      gs.bring(runs.row[i + 2 < count ? i + 2 : i]);
      const int32_t start = runs.starts[i];
      int32_t left = runs.starts[i + 1] - start;
      if (!left && !(MULTIPLY && b == 0)) continue;  // an empty run of the first block still sets its row of y to zero
      Vector<S> row[U * V], sums[U * V];
      each<U * V>([&](auto k) { row[k] = load(gs.vector(runs.row[i], k)); });
      if constexpr (MULTIPLY) each<U * V>([&](auto k) { sums[k] = b > 0 ? load<S>(ys.vector(runs.row[i], k)) : Vector<S>{}; });
      S* to = gradient + start;
      const S* a = MULTIPLY ? values + start : nullptr;
      const uint8_t* column = runs.column + start;
      sample_several<8, MULTIPLY, S, V, U>(m, to, a, column, left, xb, row, sums);
      sample_several<4, MULTIPLY, S, V, U>(m, to, a, column, left, xb, row, sums);
      sample_several<1, MULTIPLY, S, V, U>(m, to, a, column, left, xb, row, sums);
      if constexpr (MULTIPLY) each<U * V>([&](auto k) { store(ys.vector(runs.row[i], k), sums[k]); });
    }
  }
}

// MULTIPLY needs 24 vector registers: a row, its sums and the products of eight entries. AVX-512 has 32 of them; elsewhere
// the compiler would spill, and two walks over the panel are faster.
constexpr bool MULTIPLIES_WHILE_SAMPLING = VECTOR_BYTES == 64;

}  // namespace blocked
