"""Sound into frames: decoding, resampling, log-mel features of whole recordings and of streams."""
