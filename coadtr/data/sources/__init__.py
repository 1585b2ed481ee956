"""What data come from: tables of segments, feature files, pickles and archives, read without trusting them."""
