"""Training logs of anybody's: files and pasted text become named series of numbers, one of them the loss."""
