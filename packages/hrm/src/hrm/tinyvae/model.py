"""A convolutional variational autoencoder of 32 x 32 RGB images, large or small.

N images, Z latent channels. Source: Kingma & Welling 2014, arXiv:1312.6114.
"""

from typing import NamedTuple

from torch import Tensor, nn

LATENT = 64


class VaeOutput(NamedTuple):
    """What a forward pass gives.

    Attributes:
        reconstructions: (N, 3, 32, 32) images in 0..1.
        mean, log_variance: (N, Z) of the posterior.
    """

    reconstructions: Tensor
    mean: Tensor
    log_variance: Tensor


class Vae(nn.Module):
    """A variational autoencoder: three strided convolutions down to 4 x 4, a latent vector, and back.

    Args:
        channels: of the first convolution; each further one doubles them.
        hidden: width of the layer between convolutions and latent; 0 for none.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        first, second, third = channels, 2 * channels, 4 * channels
        flat = third * 16
        self.encoder = nn.Sequential(
            nn.Conv2d(3, first, 4, 2, 1), nn.SiLU(),
            nn.Conv2d(first, second, 4, 2, 1), nn.SiLU(),
            nn.Conv2d(second, third, 4, 2, 1), nn.SiLU(),
            nn.Flatten(),
            *((nn.Linear(flat, hidden), nn.SiLU()) if hidden else ()),
            nn.Linear(hidden or flat, 2 * LATENT),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, hidden or flat), nn.SiLU(),
            *((nn.Linear(hidden, flat), nn.SiLU()) if hidden else ()),
            nn.Unflatten(1, (third, 4, 4)),
            nn.ConvTranspose2d(third, second, 4, 2, 1), nn.SiLU(),
            nn.ConvTranspose2d(second, first, 4, 2, 1), nn.SiLU(),
            nn.ConvTranspose2d(first, 3, 4, 2, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, images: Tensor, noise: Tensor | None = None) -> VaeOutput:
        """Reconstructs (N, 3, 32, 32) images from latents sampled with (N, Z) noise, or from their means without it."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        log_variance = log_variance.clamp(-10, 10)
        latent = mean if noise is None else mean + noise * (0.5 * log_variance).exp()
        return VaeOutput(self.decoder(latent), mean, log_variance)


def build_teacher() -> Vae:
    """Builds the large autoencoder, of about 10 million parameters."""
    return Vae(64, 1024)


def build_student() -> Vae:
    """Builds the small autoencoder, of about 300 thousand parameters."""
    return Vae(16, 0)


def kl_divergence(output: VaeOutput) -> Tensor:
    """Computes the mean over images of KL(N(mean, variance) || N(0, 1)), in nats.

    KL = sum over Z of (mean^2 + variance - log variance - 1) / 2.
    """
    terms = output.mean.square() + output.log_variance.exp() - output.log_variance - 1
    return 0.5 * terms.sum(1).mean()
