"""Pictures as they come: what subfolders mean, one picture to pixels, many to a tensor in memory or on disk."""
