"""The Taylor terms of a residual MLP: J J^T and [tr(H_i H_j)], in closed form.

Both come from the second-order expansion of the mean around its input (TIC-TAC, arXiv 2310.18953). With J_l the Jacobian of the
pre-activations of layer l with respect to the network's inputs (one forward pass of m directions) and g_il the gradient of
output i with respect to the activations of layer l (one backward pass of D directions),

    J = W_out J_last,    H_i = sum over l of J_l^T diag(g_il s''_l) J_l,    tr(H_i H_j) = <H_i, H_j>.

H_i is needed as numbers only: its upper triangle, flattened, is one matrix product of the D gradients with the products of
pairs of columns of J_l, and the curvature is a second one. Autograd (`naive_terms`) differentiates every direction twice.

For wide networks `estimated_terms` looks at the Hessians in a few directions of a random orthonormal frame.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from posecov.errors import PosecovError
from posecov.learn.mlp import ResidualMLP

# Samples are taken in groups whose Jacobians and gradients need no more bytes than that,
_KEPT_BYTES = 6 * 2**20
# unless that left matrix products with fewer rows than these, which would wait for the weights.
_ROWS = 256
# Bytes of pairwise products kept at once: what a core's second-level cache holds.
_PRODUCT_BYTES = 2**20
# Narrower networks gain nothing from fewer directions or a shorter type: their time goes between the operations.
_WIDE = 256


class TaylorTerms(NamedTuple):
    """Second-order terms of the mean, detached.

    Attributes:
        gradient: (M, N, D, D) J J^T.
        curvature: (M, N, D, D) tr(H_i H_j).
    """

    gradient: Tensor
    curvature: Tensor


@torch.no_grad()
def exact_terms(network: ResidualMLP, x: Tensor) -> TaylorTerms:
    """Both terms in closed form, with BatchNorm in evaluation mode whatever mode the network is in.

    Args:
        network: the mean, M members, D outputs.
        x: (M, N, m), or (N, m) shown to every member.
    """
    x = _checked(network, x)
    return _terms(network, x, None, x.dtype)


@torch.no_grad()
def estimated_terms(
    network: ResidualMLP,
    x: Tensor,
    probes: int | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> TaylorTerms:
    """J J^T, and an unbiased estimate of the curvature from its Hessians in ``probes`` directions.

    In any orthonormal frame q, ``tr(H_i H_j) = sum over a, b of (q_a^T H_i q_b)(q_a^T H_j q_b)``. Each sample looks at
    ``probes`` of the m directions of its own random frame, drawn without replacement. Diagonal terms are seen with probability
    p / m and the others with p (p - 1) / (m (m - 1)), and each counts by the inverse of that (Horvitz and Thompson 1952):
    unbiased, positive semi-definite, and without error at ``probes = m``. The gradient term is not sampled: the backward
    pass gives J for nothing.

    Args:
        network: the mean, M members, D outputs.
        x: (M, N, m), or (N, m) shown to every member.
        probes: directions, at least 2 where m > 1; more than m are m. `default_probes` by default.
        generator: of the frames.
        dtype: type of Jacobians and gradients; `rounded_dtype` by default. In bfloat16 every factor of a product is rounded
            to 8 bits, which moves the terms far less than leaving out one direction does.

    Raises:
        PosecovError: fewer than 2 probes, which leave the off-diagonal of H unseen.
    """
    x = _checked(network, x)
    dtype = rounded_dtype(network) if dtype is None else dtype
    probes = default_probes(network, dtype) if probes is None else probes
    if probes < min(2, network.inputs):
        raise PosecovError(f"estimated_terms: {probes} probes cannot see a Hessian, take at least 2")
    directions = _directions(x, probes, generator) if probes < network.inputs else None
    return _terms(network, x, directions, dtype)


@torch.no_grad()
def naive_terms(network: ResidualMLP, x: Tensor) -> TaylorTerms:
    """Both terms by automatic differentiation, `vmap` of `jacrev` and of `hessian`: to check against and to compare with."""
    x = _checked(network, x)
    members = []
    for member in range(network.members):

        def mean(point: Tensor, member: int = member) -> Tensor:
            return _evaluation(network, point[None, None], slice(member, member + 1))[0, 0]

        jacobian = torch.func.vmap(torch.func.jacrev(mean))(x[member])
        hessian = torch.func.vmap(torch.func.hessian(mean))(x[member]).flatten(2)
        members.append((jacobian @ jacobian.mT, hessian @ hessian.mT))
    return TaylorTerms(*(torch.stack(terms) for terms in zip(*members, strict=True)))


def rounded_dtype(network: ResidualMLP) -> torch.dtype:
    """bfloat16 for wide float32 networks where the processor multiplies it natively, else the network's own type."""
    weight = network.input.weight
    if weight.dtype != torch.float32 or network.width < _WIDE:
        return weight.dtype
    if weight.is_cuda:
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native: Callable[[], bool] | None = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return torch.bfloat16 if native is not None and native() else torch.float32


def default_probes(network: ResidualMLP, dtype: torch.dtype) -> int:
    """As many directions as keep a training step below three plain ones: all of them in narrow networks.

    Where bfloat16 is not native, eight directions of 32 cost some 3.5 plain steps: the backward pass alone is the price of 2.
    Measured at the papers' sizes, D = m inputs and width D^2 + 2, batch 32, one thread: `tools/benchmark.py tic`.
    """
    if network.width < _WIDE:
        return network.inputs
    share = 5 / 8 if dtype == torch.bfloat16 else 1 / 4
    return min(network.inputs, max(8, round(share * network.inputs)))


def _checked(network: ResidualMLP, x: Tensor) -> Tensor:
    """x as (M, N, m)."""
    if x.dim() == 2:
        x = x.expand(network.members, -1, -1)
    if x.dim() != 3 or x.shape[0] != network.members or x.shape[2] != network.inputs:
        raise PosecovError(
            f"taylor: x must be ({network.members} members, samples, {network.inputs} inputs), got {tuple(x.shape)}"
        )
    return x


def _evaluation(network: ResidualMLP, x: Tensor, members: slice) -> Tensor:
    """The network in evaluation mode, member by member, without touching its mode."""

    def linear(layer, h: Tensor) -> Tensor:
        return layer.bias[members] + h @ layer.weight[members]

    h = linear(network.input, x)
    for block in network.residual_blocks():
        scale, shift = (values[members].unsqueeze(1) for values in block.norm.affine())
        h = h + functional.elu(linear(block.second, functional.elu(linear(block.first, h))) * scale + shift)
    return linear(network.output, h)


def _directions(x: Tensor, probes: int, generator: torch.Generator | None) -> Tensor:
    """Orthonormal rows of every sample, (M, N, p, m).

    One rotation for all, made each sample's own by random signs of the coordinates and a random choice of rows.
    """
    members, count, size = x.shape
    rotation = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0].to(x)
    chosen = torch.rand(members, count, size, generator=generator).argsort(-1)[..., :probes].to(x.device)
    signs = torch.randint(0, 2, (members, count, 1, size), generator=generator).to(x) * 2 - 1
    return rotation[chosen] * signs


def _weights(size: int, probes: int) -> Tensor:
    """What each entry of `_triangles` counts in the trace, ((p // 2 + 1) p,), see `estimated_terms`."""
    weights = torch.full((probes // 2 + 1, probes), 2.0, dtype=torch.float64)
    if probes > 1:
        weights *= size * (size - 1) / (probes * (probes - 1))
    weights[0] = size / probes
    if probes % 2 == 0:
        weights[-1] /= 2
    return weights.flatten()


class _Layer(NamedTuple):
    """One activation after a linear layer, at every sample: e = ELU(scale v + shift) of v = h W."""

    weight: Tensor  # (M, in, out), of v
    slope: Tensor  # (M, N, 1, out), d e / d v
    bend: Tensor  # (M, N, 1, out), d2 e / d v2


def _layer(weight: Tensor, v: Tensor, scale: Tensor | None, shift: Tensor | None, dtype: torch.dtype) -> tuple[_Layer, Tensor]:
    """The layer's derivatives at v (M, N, out), and its activations."""
    a = v if scale is None or shift is None else torch.addcmul(shift.unsqueeze(1), v, scale.unsqueeze(1))
    e = functional.elu(a)
    slope = e.clamp(max=0).add_(1)
    bend = slope * (a < 0)
    if scale is not None:
        scale = scale.unsqueeze(1)
        slope, bend = slope * scale, bend * scale.square()
    return _Layer(weight.to(dtype), slope.unsqueeze(2).to(dtype), bend.unsqueeze(2).to(dtype)), e


def _terms(network: ResidualMLP, x: Tensor, directions: Tensor | None, dtype: torch.dtype) -> TaylorTerms:
    """Both terms from the Hessians in some directions, or in all of them."""
    members, count, size = x.shape
    h = network.input(x)
    layers = []
    for block in network.residual_blocks():
        first, e = _layer(block.first.weight, block.first(h), None, None, dtype)
        second, e = _layer(block.second.weight, block.second(e), *block.norm.affine(), dtype)
        layers += [first, second]
        h = h + e
    probes = size if directions is None else directions.shape[2]
    sample = members * (probes + probes // 2 + network.outputs) * len(layers) * network.width * dtype.itemsize
    step = max(1, _KEPT_BYTES // sample, _ROWS // max(probes, network.outputs))
    # Equal groups: a last one of a single sample would waste its matrix products.
    step = -(-count // -(-count // step)) if count else 1
    entry = network.input.weight
    # The first hidden layer is linear in x: its first block's weights act on m columns once, not on those of every sample.
    ahead = entry @ network.residual_blocks()[0].first.weight
    parts = []
    for start in range(0, count, step):
        rows = slice(start, start + step)
        group = [_Layer(layer.weight, layer.slope[:, rows], layer.bend[:, rows]) for layer in layers]
        chosen = None if directions is None else directions[:, rows]
        parts.append(_group(network, group, entry, ahead, chosen, x[:, rows], dtype))
    if not parts:
        empty = x.new_zeros(members, 0, network.outputs, network.outputs)
        return TaylorTerms(empty, empty)
    return parts[0] if len(parts) == 1 else TaylorTerms(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))


def _group(
    network: ResidualMLP,
    layers: list[_Layer],
    entry: Tensor,
    ahead: Tensor,
    directions: Tensor | None,
    x: Tensor,
    dtype: torch.dtype,
) -> TaylorTerms:
    """`_terms` of a few samples. entry, ahead: (M, m, width), dh / dx and its product with the first block's weights."""
    members, count, size = x.shape
    probes = size if directions is None else directions.shape[2]
    outputs, width = network.outputs, network.width
    shape, backward_shape = (members, count, probes, width), (members, count, outputs, width)
    # Half of the directions are repeated at the end, so that a window of p rows is a cyclic shift (`_triangles`).
    jacobians = torch.empty(members, count, probes + probes // 2, len(layers), width, dtype=dtype, device=x.device)
    gradients = torch.empty(members, count, outputs, len(layers), width, dtype=dtype, device=x.device)

    def along(columns: Tensor) -> Tensor:
        """Columns (M, m, width) in the directions of every sample, (M, N, p, width)."""
        if directions is None:
            return columns.unsqueeze(1).to(dtype).expand(shape)
        return torch.bmm(directions.flatten(1, 2), columns).view(shape).to(dtype)

    h, v = along(entry), along(ahead)
    for number, layer in enumerate(layers):
        inner = number % 2 == 0
        if number:
            v = torch.bmm((h if inner else v).reshape(members, -1, width), layer.weight).view(shape)
        jacobians[:, :, :probes, number] = v
        v = v * layer.slope if inner else v
        if not inner and number + 1 < len(layers):
            h = torch.addcmul(h, v, layer.slope)

    g = network.output.weight.mT.to(dtype, memory_format=torch.contiguous_format).unsqueeze(1).expand(backward_shape)
    for number in range(len(layers) - 1, 0, -2):
        second, first = layers[number], layers[number - 1]
        torch.mul(g, second.bend, out=gradients[:, :, :, number])
        inner_g = torch.bmm((g * second.slope).flatten(1, 2), second.weight.mT).view(backward_shape)
        torch.mul(inner_g, first.bend, out=gradients[:, :, :, number - 1])
        inner_g *= first.slope
        if number > 1:
            g = torch.baddbmm(g.reshape(members, -1, width), inner_g.flatten(1, 2), first.weight.mT).view(backward_shape)
    outer, deep = g.reshape(members, -1, width) @ entry.mT.to(dtype), inner_g.flatten(1, 2)
    jacobian = torch.baddbmm(outer, deep, ahead.mT.to(dtype)).view(members, count, outputs, size).to(x.dtype)
    jacobians[:, :, probes:] = jacobians[:, :, : probes // 2]
    hessians = _triangles(jacobians.flatten(3).flatten(0, 1), gradients.flatten(3).flatten(0, 1), probes)
    hessians = hessians.to(x.dtype) * _weights(size, probes).to(x).sqrt().unsqueeze(1)
    curvature = hessians.mT @ hessians
    return TaylorTerms(jacobian @ jacobian.mT, curvature.view(members, count, outputs, outputs))


def _triangles(jacobians: Tensor, gradients: Tensor, probes: int) -> Tensor:
    """Entries of J diag(g_i) J^T for every i: jacobians (B, p + p // 2, K), gradients (B, D, K) -> (B, (p // 2 + 1) p, D).

    Entry (lag, a) is that of rows a and a + lag modulo p: all of the symmetric matrix, in one multiplication. Where p is even,
    the last lag holds each of its entries twice.
    """
    count, _, length = jacobians.shape
    lags = probes // 2 + 1
    sample = lags * probes * jacobians.element_size()
    columns = min(length, max(_PRODUCT_BYTES // sample, 128))
    columns = -(-length // -(-length // columns))
    step = min(count, max(1, _PRODUCT_BYTES // (sample * columns)))
    rows_first = jacobians[:, None, :probes]
    shifted = jacobians.unfold(1, probes, 1).movedim(-1, 2)
    result = gradients.new_zeros(
        count, lags * probes, gradients.shape[1], dtype=torch.promote_types(gradients.dtype, torch.float32)
    )
    buffer = jacobians.new_empty(step * lags * probes * columns)
    for left in range(0, length, columns):
        piece = slice(left, left + columns)
        g = gradients[..., piece].contiguous()
        for start in range(0, count, step):
            rows = slice(start, start + step)
            first, second = rows_first[rows, ..., piece], shifted[rows, ..., piece]
            products = buffer[: second.numel()].view(second.shape)
            torch.mul(first, second, out=products)
            flat = products.flatten(1, 2)
            if result.dtype == gradients.dtype:
                result[rows].baddbmm_(flat, g[rows].mT)
            else:
                result[rows] += torch.bmm(flat, g[rows].mT)
    return result
