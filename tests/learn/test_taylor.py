from types import SimpleNamespace

import pytest
import torch

from posecov.errors import PosecovError
from posecov.learn import taylor
from posecov.learn.mlp import ResidualMLP
from posecov.learn.taylor import TaylorTerms, estimated_terms, exact_terms, naive_terms


def _network(members=2, inputs=5, outputs=3, width=9, blocks=2, count=4):
    """A float64 network with statistics and scales far from those of a fresh one, and inputs."""
    network = ResidualMLP(members, inputs, outputs, width, blocks).double()
    draw = torch.Generator().manual_seed(1)
    for block in network.blocks:
        for values in (block.norm.weight.data, block.norm.bias.data, block.norm.running_mean, block.norm.running_variance):
            values.uniform_(0.3, 2.0, generator=draw)
    return network, 2 * torch.randn(members, count, inputs, generator=draw, dtype=torch.float64)


def _close(terms: TaylorTerms, expected: TaylorTerms, tolerance: float) -> None:
    for ours, theirs in zip(terms, expected, strict=True):
        assert not ours.requires_grad
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"members": 1, "inputs": 4, "blocks": 1},
        {"inputs": 1, "outputs": 2},
        {"inputs": 2, "outputs": 1},
        {"members": 1, "blocks": 5, "width": 18},
    ],
)
def test_exact_terms_equal_autograd(sizes):
    network, x = _network(**sizes)
    _close(exact_terms(network, x), naive_terms(network, x), 1e-12)


def test_naive_terms_are_those_of_the_network_in_evaluation_mode():
    network, x = _network()
    naive = naive_terms(network, x)
    network.eval()
    for member in range(2):
        for number in range(2):
            point = x[:, number : number + 1]

            def mean(values, point=point, member=member):
                return network(torch.cat([point[:member], values[None, None], point[member + 1 :]]))[member, 0]

            jacobian = torch.func.jacrev(mean)(x[member, number])
            hessian = torch.func.hessian(mean)(x[member, number])
            torch.testing.assert_close(naive.gradient[member, number], jacobian @ jacobian.T)
            torch.testing.assert_close(
                naive.curvature[member, number], torch.einsum("iab,jba->ij", hessian, hessian), rtol=1e-9, atol=1e-12
            )


def test_groups_and_pieces_change_nothing(monkeypatch):
    network, x = _network(count=7, width=150)
    whole = exact_terms(network, x)
    monkeypatch.setattr(taylor, "_KEPT_BYTES", 200_000)
    monkeypatch.setattr(taylor, "_ROWS", 1)
    monkeypatch.setattr(taylor, "_PRODUCT_BYTES", 10_000)
    _close(exact_terms(network, x), whole, 1e-13)


def test_mode_weights_and_statistics_stay():
    network, x = _network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    exact_terms(network, x)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    _close(exact_terms(network.eval(), x), exact_terms(network.train(), x), 0.0)


@pytest.mark.parametrize("probes", [2, 3, 4])
def test_the_estimate_is_unbiased(probes):
    network, x = _network(members=1, count=2)
    exact = exact_terms(network, x)
    # Every sample has its own frame: many copies of a sample are as many draws.
    draws, copies = 60, 100
    repeated = x.repeat_interleave(copies, dim=1)
    terms = [estimated_terms(network, repeated, probes, torch.Generator().manual_seed(seed)) for seed in range(draws)]
    for term in terms:
        torch.testing.assert_close(term.gradient, exact.gradient.repeat_interleave(copies, dim=1))
    means = torch.stack([term.curvature.unflatten(1, (2, copies)).mean(2) for term in terms])
    # The rotation is shared by the samples of a call, so that calls are the independent draws.
    error = means.std(0) / draws**0.5
    assert ((means.mean(0) - exact.curvature).abs() < 4.5 * error).all()
    # The test can see: a wrong weight of diagonal or off-diagonal terms would move the mean by more.
    assert (error.diagonal(dim1=-2, dim2=-1) < 0.03 * exact.curvature.diagonal(dim1=-2, dim2=-1)).all()


def test_all_directions_leave_no_error_and_few_leave_little_rank():
    network, x = _network()
    exact = exact_terms(network, x)
    _close(estimated_terms(network, x, 9), exact, 1e-12)
    estimate = estimated_terms(network, x, 4, torch.Generator().manual_seed(0)).curvature
    assert torch.linalg.eigvalsh(estimate).min() > -1e-9 * estimate.abs().max()
    again = estimated_terms(network, x, 4, torch.Generator().manual_seed(0)).curvature
    assert torch.equal(estimate, again)


def test_rounded_terms_are_close():
    network, x = _network(inputs=8, outputs=6, width=64, blocks=5, count=3)
    network, x = network.float(), x.float()
    _close(estimated_terms(network, x, 8, dtype=torch.bfloat16), exact_terms(network, x), 0.02)
    assert estimated_terms(network, x, 8, dtype=torch.bfloat16).curvature.dtype == torch.float32
    assert taylor.rounded_dtype(network) == torch.float32
    assert taylor.rounded_dtype(network.double()) == torch.float64


def _wide(inputs=32, width=256, dtype=torch.float32, is_cuda=False):
    """What is asked of a network to choose types and directions."""
    return SimpleNamespace(
        inputs=inputs, width=width, input=SimpleNamespace(weight=SimpleNamespace(dtype=dtype, is_cuda=is_cuda))
    )


@pytest.mark.parametrize("native", [True, False])
def test_wide_networks_are_rounded_where_the_processor_multiplies_so(monkeypatch, native):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: native, raising=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: native)
    for is_cuda in (False, True):
        assert taylor.rounded_dtype(_wide(is_cuda=is_cuda)) == (torch.bfloat16 if native else torch.float32)
        assert taylor.rounded_dtype(_wide(width=255, is_cuda=is_cuda)) == torch.float32
        assert taylor.rounded_dtype(_wide(dtype=torch.float64, is_cuda=is_cuda)) == torch.float64


def test_wide_networks_are_looked_at_in_fewer_directions():
    for inputs, rounded, plain in ((32, 20, 8), (64, 40, 16), (16, 10, 8), (4, 4, 4)):
        assert taylor.default_probes(_wide(inputs), torch.bfloat16) == rounded
        assert taylor.default_probes(_wide(inputs), torch.float32) == plain
        assert taylor.default_probes(_wide(inputs, width=255), torch.float32) == inputs


def test_inputs_without_members_are_shown_to_every_member():
    network, x = _network()
    alike = x[:1].expand(2, -1, -1)
    for terms in (exact_terms, naive_terms):
        _close(terms(network, x[0]), terms(network, alike), 0.0)


def test_nothing_in_nothing_out():
    network, x = _network()
    assert exact_terms(network, x[:, :0]).curvature.shape == (2, 0, 3, 3)


def test_bad_input_is_said():
    network, x = _network()
    with pytest.raises(PosecovError, match="take at least 2"):
        estimated_terms(network, x, 1)
    with pytest.raises(PosecovError, match=r"x must be \(2 members, samples, 5 inputs\), got \(2, 4, 4\)"):
        exact_terms(network, x[..., :4])
