"""Vector quantisation whose codes are running means of the vectors assigned to them. M vectors, K codes, H channels."""

import torch
import torch.distributed
from torch import Tensor, nn

from arc_core.distributed import global_mean

_EPSILON = 1e-5


class VectorQuantizer(nn.Module):
    """Quantises vectors to their nearest codes, with straight-through gradients.

    Codes follow exponential moving averages of their vectors; unused codes are moved onto vectors of the batch.

    Args:
        codes: K, the number of codes.
        channels: H, channels of a code.
        decay: of the moving averages, for each step.
    Source: van den Oord et al. 2017, arXiv:1711.00937, appendix A.1; refreshing as in Dhariwal et al. 2020 (Jukebox).
    """

    def __init__(self, codes: int, channels: int, decay: float = 0.99) -> None:
        super().__init__()
        self._decay = decay
        self.codes: Tensor
        self.sizes: Tensor
        self.sums: Tensor
        self.window: Tensor
        self.last_usage: Tensor
        start = torch.randn(codes, channels)
        self.register_buffer("codes", start)
        self.register_buffer("sizes", torch.ones(codes))
        self.register_buffer("sums", start.clone())
        self.register_buffer("window", torch.zeros(codes))  # assignments to each code since the window began
        self.register_buffer("last_usage", torch.tensor(-1.0))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantises vectors; in training the moving averages are updated, over all processes.

        Args:
            vectors: (M, H).
        Returns:
            quantized: (M, H) the nearest codes, with the vectors' gradients.
            indices: (M,) int64 of the codes.
            commitment: scalar, the mean over vectors and channels of the squared distance to the code.
        """
        vectors = vectors.float()
        with torch.no_grad():
            # |v - c|^2 without |v|^2, which does not matter to the nearest.
            indices = (self.codes.square().sum(dim=1) - 2 * vectors @ self.codes.T).argmin(dim=1)
            nearest = self.codes[indices]
            if self.training:
                self._update_codes(vectors, indices)
        distances = (vectors - nearest).square().mean(dim=1)
        # Outside training processes need not keep step: the first one validates alone at the end.
        commitment = global_mean(distances) if self.training else distances.sum() / max(len(distances), 1)
        return vectors + (nearest - vectors).detach(), indices, commitment

    def _update_codes(self, vectors: Tensor, indices: Tensor) -> None:
        """Moves the averages towards the vectors that were assigned to each code."""
        counts = torch.zeros_like(self.sizes).index_add_(0, indices, torch.ones_like(indices, dtype=self.sizes.dtype))
        sums = torch.zeros_like(self.sums).index_add_(0, indices, vectors)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(sums)
        self.window += counts
        self.sizes.lerp_(counts, 1 - self._decay)
        self.sums.lerp_(sums, 1 - self._decay)
        total = self.sizes.sum()
        smooth = (self.sizes + _EPSILON) / (total + len(self.sizes) * _EPSILON) * total
        self.codes.copy_(self.sums / smooth[:, None])

    @property
    def usage(self) -> Tensor:
        """Share of the codes used in the last whole window; in the first window, of those used so far."""
        return torch.where(self.last_usage < 0, (self.window > 0).float().mean(), self.last_usage)

    @torch.no_grad()
    def close_window(self, vectors: Tensor, threshold: float | None, choice: torch.Generator) -> int:
        """Records the usage, moves little used codes onto random vectors and begins a new window.

        Args:
            vectors: (M, H), the same in every process.
            threshold: codes used less than this share of the mean code's use are moved; None moves none.
            choice: generator on the CPU that draws the vectors.
        Returns:
            How many codes were moved.
        """
        self.last_usage.copy_((self.window > 0).float().mean())
        unused = torch.nonzero(self.window < (threshold or 0.0) * self.window.mean()).squeeze(1)
        if len(unused) and len(vectors):
            rows = torch.randint(len(vectors), (len(unused),), generator=choice).to(vectors.device)
            new_codes, size = vectors[rows].float(), self.sizes.mean()
            self.codes[unused], self.sizes[unused], self.sums[unused] = new_codes, size, new_codes * size
        self.window.zero_()
        return len(unused)
