"""The parts of the room "Latent size", one file each."""
