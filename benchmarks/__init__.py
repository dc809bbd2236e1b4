"""Speed, measured against what people would use instead: each script prints ratios against named peers of one run."""
