"""The tasks: what a batch, a loss, a validation and a checkpoint are, one file for each network that is trained."""
