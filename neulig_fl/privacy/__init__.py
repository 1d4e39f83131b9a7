"""Mathematics and cryptography of privacy, which know nothing of runs."""
