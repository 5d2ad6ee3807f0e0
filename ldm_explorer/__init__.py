"""Train small latent diffusion models and look inside them."""
