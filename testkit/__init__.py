"""What tests and benchmarks share: projects in temporary folders, small models, made-up data."""
