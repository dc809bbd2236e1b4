"""One small script a stage of `dvc.yaml`: read params, call the library, write outs."""
