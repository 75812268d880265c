"""Packed files: as small as a bitmap and values can be, and read into the kernels without a dense weight."""

import pytest
import torch
from exported_models import SIZES, SPARSE, made, outputs, stored
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from sparse_rnn.backends.cpu import compile as compiling
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.inference.computing import kernel_model
from sparse_rnn.inference.export import holds
from sparse_rnn.inference.exported import VALUES, load_exported, read_exported
from sparse_rnn.sparsity.topology import unpack_bits


@pytest.fixture
def compiled():
    try:
        compiling.kernels()
    except compiling.KernelsUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("sparsity", [0.5, 0.67, 0.9])
def test_the_file_is_no_larger_than_a_bitmap_and_values(sparsity, values, tmp_path):
    settings = ["model.hidden=100", f"sparsifier.sparsity={sparsity}"]
    run, model, topology, sizes = made("stacked_lstm", *settings, vocabulary=300)
    path = stored(tmp_path / "model.safetensors", "packed", run, model, topology, sizes, values)
    bitmap = sum((weight.size + 7) // 8 for weight in topology)
    dense = sum(parameter.numel() for parameter in model.parameters()) - topology.size
    least = bitmap + (topology.active + dense) * VALUES[values].itemsize
    assert least < path.stat().st_size <= 1.1 * least


@pytest.mark.parametrize("layout", [*SPARSE, "dense"])
@pytest.mark.parametrize("values", VALUES)
def test_narrow_values_are_rounded_once_and_widened_again(values, layout, tmp_path):
    run, model, topology, sizes = made("rhn")
    path = stored(tmp_path / "model.safetensors", layout, run, model, topology, sizes, values)
    kept = {tensor.dtype for tensor in load_file(path).values() if tensor.is_floating_point()}
    assert kept == {VALUES[values]}
    again = load_exported(path)
    assert holds(again, model, topology, values)
    assert holds(again, model, topology) == (values == "fp32")
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())


def test_what_a_type_cannot_hold_is_refused(tmp_path):
    run, model, topology, sizes = made("rhn")
    with torch.no_grad():
        model.decoder.bias[0] = 1e5
        model.decoder.bias[1] = torch.inf  # which it was before
    path = tmp_path / "model.safetensors"
    with pytest.raises(ConfigError, match=r"^values=fp16 cannot hold decoder.bias, whose largest .* 1e\+05: use "):
        stored(path, "packed", run, model, topology, sizes, "fp16")
    assert not path.exists()
    assert holds(load_exported(stored(path, "packed", run, model, topology, sizes, "bf16")), model, topology, "bf16")


def test_a_packed_file_can_be_read_without_this_project(tmp_path):
    run, model, topology, sizes = made("rhn")
    file = load_file(stored(tmp_path / "packed.safetensors", "packed", run, model, topology, sizes))
    for weight in topology:
        values, bitmap, shape = (file[f"{weight.name}.{part}"] for part in ("values", "bitmap", "shape"))
        dense = torch.zeros(shape.tolist())
        dense[unpack_bits(bitmap, shape.tolist())] = values
        assert torch.equal(dense, weight.parameter)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("layout", SPARSE)
@pytest.mark.parametrize("name", sorted(SIZES.keys() - {"slstm"}))  # which the kernels do not know
def test_the_kernels_compute_with_a_file_what_masks_do(name, layout, tmp_path):
    run, model, topology, sizes = made(name)
    path = stored(tmp_path / "model.safetensors", layout, run, model, topology, sizes)
    computed, packed = kernel_model(path, read_exported(path))
    assert not computed.training
    assert [weight.name for weight in packed] == [weight.name for weight in topology]
    for weight in packed:
        assert weight.parameter.shape == (topology[weight.name].active,)
        assert torch.equal(weight.values, topology[weight.name].parameter)
        assert dict(computed.named_parameters())[weight.name] is weight.parameter
    for first, second in zip(outputs(model), outputs(computed), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


class FloatsMade(TorchDispatchMode):
    """Remembers the most entries that a floating tensor had which an operator returned on the CPU."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.device.type == "cpu":
                self.most = max(self.most, tensor.numel())
        return result


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("values", VALUES)
def test_no_dense_weight_is_made_for_the_kernels(values, tmp_path):
    settings = ["model.hidden=40", "sparsifier.sparsity=0.8"]
    run, model, topology, sizes = made("stacked_lstm", *settings, vocabulary=200)
    path = stored(tmp_path / "model.safetensors", "packed", run, model, topology, sizes, values)
    largest = max(max(weight.active for weight in topology), 200)
    assert largest < min(weight.size for weight in topology)
    with FloatsMade() as made_for_kernels:
        kernel_model(path, read_exported(path))
    assert made_for_kernels.most == largest
    with FloatsMade() as made_for_masks:
        load_exported(path)
    assert made_for_masks.most == max(weight.size for weight in topology), "else this test sees nothing"


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("share", [0, 0.02, 0.3, 1])
@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (900, 7), (700, 1000)])
def test_row_major_values_are_arranged_as_they_are_stored(shape, share):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < share
    dense = torch.arange(1.0, 1 + mask.numel()).view(shape) * mask
    structure = Structure(mask)
    assert torch.equal(structure.arrange(dense[mask]), structure.pack(dense))
