// The recurrence of an RHN over a window: highway_forward and highway_backward. At each step, `depth` times over k,
// h = tanh(R_k^h (s m) + b_k^h), t = sigmoid(R_k^t (s m) + b_k^t) and s <- h t + s (1 - t), where m is the mask of variational
// dropout; at the first depth, what the input gives is added to both sums (Zilly et al. 2017).
//
// functions/highway.py is the other half of this autograd function: the weights' gradients, each one product over all steps.
#include "activations.h"
#include "recurrence.h"

#include <torch/library.h>

namespace {

using namespace blocked;

// One unit at one depth, for `count` sequences: what enters its gates (rows h, t) is replaced by the gates, s by the new s;
// masked: s with dropout.
template <typename S, int64_t W>
void step_unit(S* const (&rows)[2], const S (&input)[2][W], S h_bias, S t_bias, const S* keep, S* state, S* masked, int64_t count) {
  for (int64_t j = 0; j < count; j += Lanes<S>::count) {
    const Vector<S> h = activations::tanh<S>(load(rows[0] + j) + h_bias + load(input[0] + j));
    const Vector<S> open = activations::sigmoid<S>(load(rows[1] + j) + t_bias + load(input[1] + j)), s = load(state + j);
    const Vector<S> next = s + open * (h - s);
    store(rows[0] + j, h);
    store(rows[1] + j, open);
    store(state + j, next);
    store(masked + j, next * load(keep + j));
  }
}

// The backward pass of step_unit. state: the gradient of the new s, replaced by that of the old s but for what comes through
// this depth's product. product: what has come through the product of the following depth; above: from the layer above.
template <typename S, int64_t W>
void step_unit_back(const S (&gates)[2][W], const S* before, const S* product, const S* keep, const S* above, S* state,
                    S* const (&rows)[2], int64_t count) {
  for (int64_t j = 0; j < count; j += Lanes<S>::count) {
    const Vector<S> h = load(gates[0] + j), open = load(gates[1] + j);
    const Vector<S> d = load(state + j) + load(product + j) * load(keep + j) + load(above + j);
    store(rows[0] + j, d * open * (S(1) - h * h));
    store(rows[1] + j, d * (h - load(before + j)) * open * (S(1) - open));
    store(state + j, d * (S(1) - open));
  }
}

// projected [tiles, 2H, width]: what the input gives to the first depth; state [B, H]; mask m [B, H]; biases [2H], values and
// structures (four tensors each) of every depth.
// Returns, for each depth, the masked states that enter its product [tiles, H, width] and its gates [tiles, 2H, width], then
// the states before each depth without mask [tiles, H, width], then the last states [tiles, H, width] and the last one [B, H].
std::vector<Tensor> highway_forward(const Tensor& projected, const Tensor& state, const Tensor& mask, int64_t steps,
                                    at::TensorList biases, at::TensorList values, at::TensorList structures) {
  const int64_t B = state.size(0), H = state.size(1), depth = int64_t(values.size());
  TORCH_CHECK(int64_t(biases.size()) == depth && int64_t(structures.size()) == 4 * depth, "each depth needs a bias and a structure");
  TORCH_CHECK(projected.is_contiguous() && projected.size(1) == 2 * H && projected.size(0) * projected.size(2) >= steps * B &&
                  mask.sizes() == state.sizes() && B > 0 && steps > 0,
              "the sizes of a highway layer do not fit");
  std::vector<Sparse> weights;
  for (int64_t k = 0; k < depth; k++) {
    weights.emplace_back(structures.slice(4 * k, 4), H, values[k]);
    TORCH_CHECK(weights[k].layout.rows == 2 * H && biases[k].is_contiguous() && biases[k].numel() == 2 * H, "the sizes of a highway layer do not fit");
  }
  std::vector<Tensor> inputs, gates, unmasked, result;
  AT_DISPATCH_FLOATING_TYPES(projected.scalar_type(), "highway_forward", [&] {
    constexpr int64_t widest = blocked::TILE_BYTES / sizeof(scalar_t);
    const Step<scalar_t> step(B);
    for (int64_t k = 0; k < depth; k++) {
      inputs.push_back(empty_tiles<scalar_t>(steps * B, H, projected.options()));
      gates.push_back(empty_tiles<scalar_t>(steps * B, 2 * H, projected.options()));
      unmasked.push_back(empty_tiles<scalar_t>(steps * B, H, projected.options()));
    }
    Tensor states = empty_tiles<scalar_t>(steps * B, H, projected.options());
    Tensor now = pack_step<scalar_t>(state, step), kept = pack_step<scalar_t>(mask, step);
    Tensor masked = now * kept, pre = at::empty({step.groups, 2 * H, step.width}, projected.options());
    scalar_t *ss = now.data_ptr<scalar_t>(), *ms = masked.data_ptr<scalar_t>(), *ps = pre.data_ptr<scalar_t>();
    const scalar_t* keep = kept.const_data_ptr<scalar_t>();
    const Tiles<scalar_t> from(projected), to_states(states);
    as_team(work_of(values[0], H, step), steps * depth, [&](Team::Member& team) {
      for (int64_t t = 0; t < steps; t++)
        for (int64_t k = 0; k < depth; k++) {
          multiply<scalar_t>(team, weights[k], ms, ps, step.groups, step.width, {.gates = 2});
          const Tiles<scalar_t> to_inputs(inputs[k]), to_gates(gates[k]), to_unmasked(unmasked[k]);
          const scalar_t* bs = biases[k].const_data_ptr<scalar_t>();
          const auto columns = step.columns(t, from.width);
          for_units(team, H, step, [&](int64_t u, int64_t group) {
            const Columns& column = columns[group];
            const int64_t count = step.used(group), at = (group * H + u) * step.width;
            scalar_t* rows[2] = {ps + (group * 2 * H + u) * step.width, ps + (group * 2 * H + H + u) * step.width};
            scalar_t input[2][widest] = {};
            to_inputs.write(u, column, ms + at);
            to_unmasked.write(u, column, ss + at);
            if (k == 0)
              for (int g = 0; g < 2; g++) from.read(g * H + u, column, input[g]);
            step_unit(rows, input, bs[u], bs[H + u], keep + at, ss + at, ms + at, count);
            for (int64_t j = count; j < step.width; j++) ss[at + j] = ms[at + j] = 0;
            for (int g = 0; g < 2; g++) to_gates.write(g * H + u, column, rows[g]);
            if (k == depth - 1) to_states.write(u, column, ss + at);
          });
        }
    });
    result.insert(result.end(), inputs.begin(), inputs.end());
    result.insert(result.end(), gates.begin(), gates.end());
    result.insert(result.end(), unmasked.begin(), unmasked.end());
    result.push_back(states);
    result.push_back(unpack_step<scalar_t>(now, step));
  });
  return result;
}

// d_states [tiles, H, width], d_last [B, H]; gates, unmasked: from highway_forward; values, structures: of the transposed
// weights.
// Returns, for each depth, the gradient of what enters its gates [tiles, 2H, width], then that of the first state [B, H].
std::vector<Tensor> highway_backward(const Tensor& d_states, const Tensor& d_last, const Tensor& mask, int64_t steps,
                                     at::TensorList gates, at::TensorList unmasked, at::TensorList values,
                                     at::TensorList structures) {
  const int64_t B = d_last.size(0), H = d_last.size(1), depth = int64_t(values.size());
  TORCH_CHECK(int64_t(gates.size()) == depth && int64_t(unmasked.size()) == depth && int64_t(structures.size()) == 4 * depth,
              "each depth needs its gates, states and structure");
  TORCH_CHECK(d_states.is_contiguous() && d_states.size(1) == H && mask.sizes() == d_last.sizes() &&
                  d_states.size(0) * d_states.size(2) >= steps * B,
              "the sizes of a highway layer do not fit");
  std::vector<Sparse> weights;
  for (int64_t k = 0; k < depth; k++) {
    weights.emplace_back(structures.slice(4 * k, 4), 2 * H, values[k]);
    TORCH_CHECK(weights[k].layout.rows == H && gates[k].size(1) == 2 * H && unmasked[k].sizes() == d_states.sizes(), "the sizes of a highway layer do not fit");
  }
  std::vector<Tensor> result;
  AT_DISPATCH_FLOATING_TYPES(d_states.scalar_type(), "highway_backward", [&] {
    constexpr int64_t widest = blocked::TILE_BYTES / sizeof(scalar_t);
    const Step<scalar_t> step(B);
    for (int64_t k = 0; k < depth; k++) result.push_back(empty_tiles<scalar_t>(steps * B, 2 * H, d_states.options()));
    Tensor ds = pack_step<scalar_t>(d_last, step), kept = pack_step<scalar_t>(mask, step);
    Tensor d_pre = at::zeros({step.groups, 2 * H, step.width}, d_states.options()), through = at::zeros_like(ds);
    scalar_t *dss = ds.data_ptr<scalar_t>(), *ps = d_pre.data_ptr<scalar_t>(), *product = through.data_ptr<scalar_t>();
    const scalar_t* keep = kept.const_data_ptr<scalar_t>();
    const Tiles<scalar_t> from(d_states);
    // The product of a depth is added to the gradient of its input one iteration later, in step_unit_back.
    as_team(work_of(values[0], H, step), steps * depth, [&](Team::Member& team) {
      for (int64_t t = steps - 1; t >= 0; t--)
        for (int64_t k = depth - 1; k >= 0; k--) {
          const Tiles<scalar_t> from_gates(gates[k]), from_unmasked(unmasked[k]), to_gates(result[k]);
          const auto columns = step.columns(t, from.width);
          for_units(team, H, step, [&](int64_t u, int64_t group) {
            const Columns& column = columns[group];
            const int64_t count = step.used(group), at = (group * H + u) * step.width;
            scalar_t* rows[2] = {ps + (group * 2 * H + u) * step.width, ps + (group * 2 * H + H + u) * step.width};
            scalar_t gate[2][widest] = {}, before[widest] = {}, above[widest] = {};
            for (int g = 0; g < 2; g++) from_gates.read(g * H + u, column, gate[g]);
            from_unmasked.read(u, column, before);
            if (k == depth - 1) from.read(u, column, above);
            step_unit_back(gate, before, product + at, keep + at, above, dss + at, rows, count);
            for (int g = 0; g < 2; g++) {
              for (int64_t j = count; j < step.width; j++) rows[g][j] = 0;
              to_gates.write(g * H + u, column, rows[g]);
            }
          });
          multiply<scalar_t>(team, weights[k], ps, product, step.groups, step.width);
        }
    });
    result.push_back(unpack_step<scalar_t>(ds + through * kept, step));
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(sparse_rnn, m) {
  m.def("highway_forward(Tensor projected, Tensor state, Tensor mask, int steps, Tensor[] biases, Tensor[] values, "
        "Tensor[] structures) -> Tensor[]",
        &highway_forward);
  m.def("highway_backward(Tensor d_states, Tensor d_last, Tensor mask, int steps, Tensor[] gates, Tensor[] unmasked, "
        "Tensor[] values, Tensor[] structures) -> Tensor[]",
        &highway_backward);
}
