"""Why a diffusion model fails: the losses that knowing nothing, the scale, or the covariance would reach."""
