// The recurrence of an Elman RNN's layer over a window, h <- f(input + W h): rnn_tanh and rnn_relu, forward and backward.
//
// It is divided with functions/recurrence.py as lstm.cpp is.
#include "activations.h"
#include "recurrence.h"

#include <torch/library.h>

namespace {

using namespace blocked;

// What a state is made of what enters it, and the gradient of the latter from the state and its gradient.
struct Tanh {
  template <typename S>
  static Vector<S> forward(Vector<S> x) { return activations::tanh<S>(x); }
  template <typename S>
  static Vector<S> backward(Vector<S> h, Vector<S> d) { return d * (S(1) - h * h); }
};

// NaN passes both comparisons, as in torch.
struct Relu {
  template <typename S>
  static Vector<S> forward(Vector<S> x) { return x < S(0) ? Vector<S>{} : x; }
  template <typename S>
  static Vector<S> backward(Vector<S> h, Vector<S> d) { return h <= S(0) ? Vector<S>{} : d; }
};

// As lstm_forward, with H rows, and with h as the only state.
template <typename F>
std::vector<Tensor> rnn_forward(const Tensor& projected, const Tensor& bias_ih, const Tensor& bias_hh, at::TensorList first,
                                at::IntArrayRef sizes, bool reverse, const Tensor& values, at::TensorList structure) {
  const Tensor& h = first[0];
  const int64_t H = h.size(1);
  const Sparse weight(structure, H, values);
  check_recurrence(projected, bias_ih, bias_hh, weight, first, sizes, 1);
  Tensor states, before, saved, last;
  AT_DISPATCH_FLOATING_TYPES(projected.scalar_type(), "rnn_forward", [&] {
    const Window<scalar_t> window(sizes, reverse);
    const Step<scalar_t>& step = window.step;
    states = at::empty({window.columns, H}, projected.options());
    before = empty_tiles<scalar_t>(window.columns, H, projected.options());
    saved = at::empty({Kept<scalar_t, 1>::size(window.steps, H, step)}, projected.options());
    const Kept<scalar_t, 1> kept(saved, H, step);
    Tensor hidden = pack_step<scalar_t>(h, step), pre = at::zeros({step.groups, H, step.width}, projected.options());
    const Tiles<scalar_t> from(projected), to_before(before);
    scalar_t *hs = hidden.data_ptr<scalar_t>(), *ps = pre.data_ptr<scalar_t>(), *out = states.data_ptr<scalar_t>();
    const scalar_t *of_input = bias_ih.const_data_ptr<scalar_t>(), *of_state = bias_hh.const_data_ptr<scalar_t>();
    as_team(work_of(values, H, step), window.steps, [&](Team::Member& team) {
      for (int64_t k = 0; k < window.steps; k++) {
        multiply<scalar_t>(team, weight, hs, ps, step.groups, step.width);
        const int64_t t = window.time(k);
        const auto columns = window.columns_of(t, from.width);
        for_units(team, H, step, [&](int64_t u, int64_t group) {
          const int64_t at = (group * H + u) * step.width, count = window.used(t, group);
          scalar_t input[TILE_BYTES / sizeof(scalar_t)], *hu = hs + at;
          from.read(u, columns[group], input);
          to_before.write(u, columns[group], hu);
          const scalar_t bias = of_input[u] + of_state[u];
          for (int64_t j = 0; j < count; j += Lanes<scalar_t>::count) {
            const Vector<scalar_t> now = F::template forward<scalar_t>(load(ps + at + j) + load(input + j) + bias);
            store(hu + j, first_lanes<scalar_t>(now, count - j, load(hu + j)));
            store_first(kept.rows(t, group, u) + j, now, count - j);
          }
          window.unpack(hu, t, group, out + u, H);
        });
      }
    });
    last = unpack_step<scalar_t>(hidden, step);
  });
  return {states, before, saved, last};
}

// As lstm_backward.
template <typename F>
std::vector<Tensor> rnn_backward(const Tensor& d_states, at::TensorList d_last, const Tensor&, const Tensor& saved,
                                 at::IntArrayRef sizes, bool reverse, const Tensor& values, at::TensorList structure) {
  const int64_t H = d_states.size(1);
  const Sparse weight(structure, H, values);
  check_gradients(d_states, d_last, weight, sizes);
  Tensor d_rows, first;
  AT_DISPATCH_FLOATING_TYPES(d_states.scalar_type(), "rnn_backward", [&] {
    const Window<scalar_t> window(sizes, reverse);
    const Step<scalar_t>& step = window.step;
    TORCH_CHECK(saved.numel() == (Kept<scalar_t, 1>::size(window.steps, H, step)), "the sizes of a recurrent layer do not fit");
    const Kept<scalar_t, 1> kept(saved, H, step);
    d_rows = empty_tiles<scalar_t>(window.columns, H, d_states.options(), /*kept=*/false);
    Tensor dh = pack_step<scalar_t>(d_last[0], step), d_pre = at::zeros({step.groups, H, step.width}, d_states.options());
    const Tiles<scalar_t> to_rows(d_rows);
    scalar_t *dhs = dh.data_ptr<scalar_t>(), *ds = d_pre.data_ptr<scalar_t>();
    const scalar_t* from = d_states.const_data_ptr<scalar_t>();
    as_team(work_of(values, H, step), window.steps, [&](Team::Member& team) {
      for (int64_t k = window.steps - 1; k >= 0; k--) {
        const int64_t t = window.time(k);
        const auto columns = window.columns_of(t, to_rows.width);
        for_units(team, H, step, [&](int64_t u, int64_t group) {
          const int64_t at = (group * H + u) * step.width, count = window.used(t, group);
          scalar_t *d = dhs + at, *row = ds + at;
          window.add(from + u, H, t, group, d);
          for (int64_t j = 0; j < count; j += Lanes<scalar_t>::count) {
            const Vector<scalar_t> h = load(kept.rows(t, group, u) + j), by_h = load(d + j);
            store(row + j, first_lanes<scalar_t>(F::template backward<scalar_t>(h, by_h), count - j));
            store(d + j, first_lanes<scalar_t>(Vector<scalar_t>{}, count - j, by_h));
          }
          clear_unused(row, count, step.width);
          to_rows.write(u, columns[group], row);
        });
        multiply<scalar_t>(team, weight, ds, dhs, step.groups, step.width, {.add = true});
      }
    });
    first = unpack_step<scalar_t>(dh, step);
  });
  return {d_rows, d_rows, first};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(sparse_rnn, m) {
  m.def(RECURRENT_FORWARD("rnn_tanh"), &rnn_forward<Tanh>);
  m.def(RECURRENT_BACKWARD("rnn_tanh"), &rnn_backward<Tanh>);
  m.def(RECURRENT_FORWARD("rnn_relu"), &rnn_forward<Relu>);
  m.def(RECURRENT_BACKWARD("rnn_relu"), &rnn_backward<Relu>);
}
