"""The mean head: soft-argmax whose derivatives with respect to a latent are closed-form.

The logit of joint j at position p is ``l_j(p; z) = a_j(p) + (U_j z)^T b(p)``: maps a and B basis maps b from the
features, and a low-dimensional latent z of the whole picture that steers them. With pi_j the softmax over positions,

    mu_j            = E_pi_j[p]
    d mu_j / d z    = Cov_pi_j(p, b) U_j                                      (Jacobian)
    d2 mu_jc / d z2 = U_j^T E_pi_j[(p_c - mu_jc)(b - b_)(b - b_)^T] U_j       (Hessian: third central moment)

Matmuls and softmax only, so the Taylor-induced terms (TIC-TAC, arXiv 2310.18953) reach an ONNX graph.

A softmax over a whole picture often has two hills, on a limb and on the other one, and its expected position lies on neither.
So pi_j is the softmax over a window about the most likely position; a window as large as the picture would be integral
regression (Sun et al., arXiv 1711.08229). The window moves in steps: between them, all derivatives are exact.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class MeanOutput(NamedTuple):
    """What the mean head saw and said, for N pictures, J joints, P positions, B basis maps.

    Attributes:
        mean: (N, 2J) crop pixels, order x0, y0, x1, y1, ...
        probabilities: (N, J, P) the softmax over all positions.
        log_probabilities: (N, J, P).
        window: (N, J, P) the softmax over the positions in the window, 0 elsewhere; the mean is the position expected under it.
        basis: (N, B, P) the basis maps.
    """

    mean: Tensor
    probabilities: Tensor
    log_probabilities: Tensor
    window: Tensor
    basis: Tensor


class MeanHead(nn.Module):
    """Soft-argmax over a stride-``stride`` grid, steered by a latent.

    Args:
        channels: of the feature map.
        joints: J.
        basis: B, number of basis maps.
        latent: m, dimensions of z.
        input_size: side of the square crop in pixels.
        stride: crop pixels per feature cell.
        window: how many cells the window reaches to each side of the most likely one; 0 for no window.
    """

    positions: Tensor

    def __init__(self, channels: int, joints: int, basis: int, latent: int, input_size: int, stride: int, window: int = 0):
        super().__init__()
        self.joints, self.basis_count = joints, basis
        self.reach = (window + 0.5) * stride if window else float("inf")
        self.maps = nn.Conv2d(channels, joints + basis, 1)
        self.steering = nn.Parameter(torch.empty(joints, basis, latent))
        self.reset()
        centres = (torch.arange(input_size // stride) + 0.5) * stride - 0.5
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        self.register_buffer("positions", torch.stack([x.reshape(-1), y.reshape(-1)], dim=1), persistent=False)

    @torch.no_grad()
    def reset(self) -> None:
        """Draw the weights anew."""
        self.maps.reset_parameters()
        self.steering.normal_(std=(self.steering.shape[1] * self.steering.shape[2]) ** -0.5)

    def forward(self, features: Tensor, latent: Tensor) -> MeanOutput:
        """Features (N, C, h, w) and latent (N, m) to means in crop pixels."""
        maps = self.maps(features).flatten(2).float()
        basis = maps[:, self.joints :]
        # A constant on a basis map changes no softmax, but costs digits in the moments below.
        return self.from_maps(maps[:, : self.joints], basis - basis.mean(-1, keepdim=True), latent.float())

    def from_maps(self, unary: Tensor, basis: Tensor, latent: Tensor) -> MeanOutput:
        """The part that depends on the latent: unary (N, J, P), basis (N, B, P), latent (N, m)."""
        coefficients = torch.einsum("jbm,nm->njb", self.steering, latent)
        logits = unary + coefficients @ basis
        log_probabilities = logits.log_softmax(dim=-1)
        probabilities = log_probabilities.exp()
        window = probabilities if self.reach == float("inf") else self._window(log_probabilities)
        return MeanOutput((window @ self.positions).flatten(1), probabilities, log_probabilities, window, basis)

    def _window(self, log_probabilities: Tensor) -> Tensor:
        """Softmax over the positions about the most likely one, (N, J, P)."""
        centre = self.positions[log_probabilities.argmax(-1)]
        away = [(self.positions[:, axis] - centre[..., axis, None]).abs() > self.reach for axis in range(2)]
        return log_probabilities.masked_fill(away[0] | away[1], float("-inf")).softmax(-1)

    def jacobian(self, output: MeanOutput) -> Tensor:
        """Derivative of the mean with respect to the latent, (N, 2J, m), crop pixels per unit of z."""
        cross = self._deviations(output) @ output.basis.transpose(1, 2)
        cross = cross.unflatten(1, (self.joints, 2))
        return (cross @ self.steering).flatten(1, 2)

    def hessians(self, output: MeanOutput) -> Tensor:
        """Second derivatives of each coordinate of the mean, (N, 2J, m, m), crop pixels per unit of z squared."""
        weights, cross = self._deviations(output), output.basis.transpose(1, 2)
        return self._sandwich(weights, weights @ cross, output.window @ cross, output.basis)

    def taylor_terms(self, output: MeanOutput) -> tuple[Tensor, Tensor]:
        """J J^T and [tr(H_i H_j)], both (N, 2J, 2J), crop pixels^2.

        What `jacobian` and `hessians` give, sharing what they have in common.
        """
        weights = self._deviations(output)
        cross, basis = output.basis.transpose(1, 2), output.basis
        first = weights @ cross
        jacobian = (first.unflatten(1, (self.joints, 2)) @ self.steering).flatten(1, 2)
        hessians = self._sandwich(weights, first, output.window @ cross, basis).flatten(2)
        return jacobian @ jacobian.transpose(1, 2), hessians @ hessians.transpose(1, 2)

    def _sandwich(self, weights: Tensor, first: Tensor, centre: Tensor, basis: Tensor) -> Tensor:
        """U_j^T E[(p - mu)(b - b_)(b - b_)^T] U_j, (N, 2J, m, m).

        Args:
            weights: (N, 2J, P) from `_deviations`.
            first: (N, 2J, B) their moments with the basis maps.
            centre: (N, J, B) expected basis maps.
            basis: (N, B, P).
        """
        count, size = basis.shape[:2]
        products = (basis.unsqueeze(1) * basis.unsqueeze(2)).flatten(1, 2)
        raw = (weights @ products.transpose(1, 2)).view(count, self.joints, 2, size, size)
        # sum_p w (b - b_)(b - b_)^T with sum_p w = 0: the term in b_ b_^T vanishes.
        mixed = first.view(count, self.joints, 2, size, 1) * centre.view(count, self.joints, 1, 1, size)
        third = raw - mixed - mixed.transpose(-1, -2)
        steering = self.steering.unsqueeze(1)
        return (steering.transpose(-1, -2) @ (third @ steering)).flatten(1, 2)

    def _deviations(self, output: MeanOutput) -> Tensor:
        """pi_j(p) (p_c - mu_jc) for every coordinate, (N, 2J, P). Sums to 0 over positions."""
        # One axis after the other: broadcasting over the pair of them takes twice as long on a CPU.
        axes = [output.window * (self.positions[:, axis] - output.mean[:, axis::2].unsqueeze(-1)) for axis in range(2)]
        return torch.stack(axes, dim=2).flatten(1, 2)
